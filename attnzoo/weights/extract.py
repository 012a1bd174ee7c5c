"""Cut one block out of a checkpoint into a file that describes itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnzoo.builder import spec_of
from attnzoo.errors import NameNotFound, WeightsError
from attnzoo.registry import Registry
from attnzoo.spec import BlockSpec
from attnzoo.weights.checkpoint import Checkpoint, open_checkpoint, site_hint
from attnzoo.weights.cut import cut_out, solve_with
from attnzoo.weights.hashes import sha256_of
from attnzoo.weights.scan import Found, scan_fully
from attnzoo.weights.store import save_block

__all__ = ["Extracted", "extract"]


@dataclass(frozen=True)
class Extracted:
    """What was cut out: the block, all its arguments, and those of them that were assumed."""

    block: str
    args: Mapping[str, Any]
    assumed: Mapping[str, Any]


def extract(
    path: Path | str,
    site: str,
    output: Path | str,
    registry: Registry,
    *,
    block: str | None = None,
    dialect: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    licence: str = "",
    source: str = "",
) -> Extracted:
    """Cut the block at ``site`` out of the checkpoint at ``path`` and save it to ``output``.

    Args:
        path: A checkpoint that `open_checkpoint` opens.
        site: The dotted path of the block, as `scan` gives it.
        output: The safetensors file to write; it keeps the checkpoint's name and sha256, site and dialect.
        registry: Where blocks are looked up.
        block: Which block, where several fit.
        dialect: Which dialect, where several fit.
        arguments: Arguments that tensors cannot tell, or that were not found from them.
        licence: Licence of the checkpoint's weights.
        source: Where the checkpoint comes from.

    Raises:
        NameNotFound: No block is at ``site``.
        LoadError: Several fit, or an argument has to be given.
        WeightsError: A file cannot be read or written.
    """
    checkpoint = open_checkpoint(path)
    if Path(output).exists() and Path(output).samefile(checkpoint.path):
        message = f"{output}: is the checkpoint itself, expected another file to write to; nothing was written"
        raise WeightsError(message)
    found = _found(checkpoint, site, registry, dict(arguments or {}))
    module, reading, assumed = cut_out(checkpoint, found, registry, block=block, dialect=dialect, arguments=arguments)
    about = {"parent": Path(path).name, "parent_sha256": sha256_of(checkpoint.path), "site": site}
    about |= {"dialect": reading.dialects[0], "licence": licence, "source": source}
    save_block(module, output, None, registry, **about, assumed=sorted(assumed))
    spec = spec_of(module)
    return Extracted(reading.block, spec.args if isinstance(spec, BlockSpec) else {}, assumed)


def _found(checkpoint: Checkpoint, site: str, registry: Registry, arguments: Mapping[str, Any]) -> Found:
    found, unsolved = scan_fully(checkpoint, registry)
    by_site = {f.site: f for f in found}
    if site in by_site:
        return by_site[site]
    left = next((u for u in unsolved if u.site == site), None)
    if left is not None:
        return solve_with(checkpoint, left, registry, arguments)
    hint = site_hint(checkpoint.path, site, [*by_site, *(u.site for u in unsolved)])
    message = f"{checkpoint.path}: no block found at {site!r}{hint}"
    raise NameNotFound(message)
