"""``attnzoo profile``: what a block or a host with blocks costs on this machine."""

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command("profile")
@click.argument("what")
@click.option("--spec", type=click.Path(path_type=Path), help="Insert this spec into the host WHAT first.")
@click.option("--shape", default=None, help="Shape of the input, such as 1,64,56,56.")
@click.option("--runs", type=click.IntRange(min=0), default=20, show_default=True, help="Timed passes; 0: no times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; times in seconds, memory in bytes.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the costs into this image file.")
def command(what: str, spec: Path | None, shape: str | None, runs: int, as_json: bool, picture: Path | None) -> None:
    """Measure parameters, MACs, FLOPs, training memory and time of WHAT: a block, the YAML file of one, or a host.

    Hosts are written library/name or module:function (see attnzoo sites); with --spec each block in it is measured too.
    """
    import attnzoo
    from attnzoo.cli._options import shape_of
    from attnzoo.surgery.profiling import profile

    module, guess = _module(what)
    inputs: Any = shape_of(shape) or guess
    if spec is not None:
        attnzoo.insert(module, str(spec), inputs=inputs)
    result = profile(module.eval(), inputs, runs=runs)
    if picture is not None:
        from attnzoo.surgery.picture import draw_profile

        draw_profile(result, picture)
    click.echo(json.dumps(result.to_dict(), indent=2) if as_json else str(result))


def _module(what: str) -> tuple[Any, Any]:
    """Return the block or host called ``what``, and the shapes of its inputs if its card tells them."""
    import attnzoo
    from attnzoo.errors import NameNotFound
    from attnzoo.hosts import build_host, is_host_name

    registry = attnzoo.default_registry()
    if what.endswith((".yaml", ".yml")):
        return attnzoo.build(what), None
    if is_host_name(what, registry):
        return build_host(what, registry), None
    try:
        entry = registry.find(what)
    except NameNotFound:
        if "/" not in what:
            raise
        return build_host(what, registry), None
    return attnzoo.create(what, **entry.card.example), _shapes(entry)


def _shapes(entry: Any) -> tuple[tuple[int, ...], ...]:
    """Return shapes for the inputs that a block needs: maps of 32 x 32, 64 tokens."""
    from attnzoo.arguments import full_arguments
    from attnzoo.shape import concrete, parse_contract, sizes_for

    contract = parse_contract(entry.card.shape)
    arguments = full_arguments(entry.card.load_class(), entry.card.example)
    sizes = sizes_for(contract, entry.card.axes, arguments, {"n": 1, "h": 32, "w": 32, "l": 64, "m": 64, "t": 8})
    return tuple(concrete(given.axes, sizes) for given in contract.inputs if not given.optional)
