"""Specs into hosts: the surgery of :mod:`attnzoo.surgery`, with blocks from the registry and places from plugins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from attnzoo import surgery
from attnzoo.arguments import parameters_of
from attnzoo.builder import build_spec, spec_of
from attnzoo.card import fold
from attnzoo.errors import AttnZooError, SpecError, SurgeryError
from attnzoo.hosts import resolve_at
from attnzoo.registry import Entry, Registry
from attnzoo.shape import Contract, parse_contract
from attnzoo.spec import BlockSpec, ChainSpec, InsertSpec, ResidualSpec, Spec, SumSpec, blocks_of, spec_to_data
from attnzoo.spec_reader import read_spec, spec_from_data
from attnzoo.surgery import Order, Place, Report, Site

__all__ = ["block_layout", "fill_spec", "insert_spec", "load_inserted", "orders_of", "swap_spec"]

What = str | Path | Mapping[str, Any] | Spec | nn.Module | Callable[[Site], nn.Module]

_CHANNELS = ("channels", "embed_dim", "in_channels")


def insert_spec(host: nn.Module, what: What, registry: Registry, *, inputs: object = None, **options: Any) -> Report:
    """Insert what ``what`` says into ``host``; see :func:`attnzoo.insert`."""
    return surgery.insert(host, orders_of(host, what, registry, **options), inputs=inputs)


def orders_of(host: nn.Module, what: What, registry: Registry, **options: Any) -> list[Order]:
    """Return the orders for ``what``: an insert spec has its own places, everything else needs ``at``.

    Raises:
        SpecError: The spec cannot be read, or says ``at`` where ``at`` is given too, or neither says it.
    """
    spec = _spec(what)
    if isinstance(spec, InsertSpec):
        if options.get("at") is not None:
            message = f"{spec.where or 'spec'}: it says where its blocks go, and at={options['at']!r} was given too"
            raise SpecError([message])
        return [_order(host, registry, item.node, item, {}) for item in spec.insertions]
    if options.get("at") is None:
        message = "insert: no place was given; give at=… (a name, glob, class or named placement), or an insert spec"
        raise SpecError([message])
    if spec is not None:
        return [_order(host, registry, spec, None, options)]
    at, position = resolve_at(host, options.pop("at"), options.pop("position", None), registry)
    assert isinstance(what, nn.Module) or callable(what)
    return [Order(make=what, at=at, position=position, describe=_described, **options)]


def swap_spec(host: nn.Module, what: What, registry: Registry, *, at: str, **changes: Any) -> list[nn.Module]:
    """Put the block ``what`` where others were inserted; see :func:`attnzoo.swap`."""
    spec = _spec(what)
    if isinstance(spec, InsertSpec):
        message = f"{spec.where or 'spec'}: an insert spec; a block was expected to swap in"
        raise SpecError([message])
    if spec is None:
        assert isinstance(what, nn.Module) or callable(what)
        return surgery.swap(host, what, at=at, describe=_described, **changes)
    named = {"name": _name(spec, registry), "accepts": _accepts(spec, registry), "describe": _described}
    return surgery.swap(host, _maker(spec, registry), at=at, **{**named, **changes})


def load_inserted(host: nn.Module, path: Path | str, registry: Registry, *, inputs: object = None) -> list[Any]:
    """Load inserted blocks from a file, built from the specs in it where they are not inserted yet."""

    def build(place: Place) -> nn.Module:
        if place.spec is None:
            message = f"{path}: block {place.name!r} at {place.site!r} was no block of a plugin; insert it, then load"
            raise SurgeryError(message)
        return build_spec(spec_from_data(dict(place.spec), str(path)), registry)

    return surgery.load_inserted(host, path, build, inputs=inputs)


def _spec(what: What) -> Spec | None:
    """Return the spec that ``what`` is or names; None for a module or a function."""
    if isinstance(what, BlockSpec | ChainSpec | SumSpec | ResidualSpec | InsertSpec):
        return what
    if isinstance(what, Mapping):
        return spec_from_data(what)
    if isinstance(what, Path) or (isinstance(what, str) and _is_path(what)):
        return read_spec(what)
    return BlockSpec(what) if isinstance(what, str) else None


def _is_path(text: str) -> bool:
    return text.lower().endswith((".yaml", ".yml")) or Path(text).is_file()


def _order(host: nn.Module, registry: Registry, node: Spec, item: Any, options: dict[str, Any]) -> Order:
    """Return the order for one node: from the fields of an insertion of a spec, or from options of a call."""
    names = ("at", "position", "identity", "name", "view", "layout", "grid")
    chosen = {key: getattr(item, key, None) for key in names} if item is not None else dict(options)
    chosen = {key: value for key, value in chosen.items() if value is not None}
    at, position = resolve_at(host, chosen.pop("at"), chosen.pop("position", None), registry)
    chosen.setdefault("name", _name(node, registry))
    return Order(
        make=_maker(node, registry),
        at=at,
        position=position,
        accepts=_accepts(node, registry),
        describe=_described,
        **chosen,
    )


def _maker(node: Spec, registry: Registry) -> Callable[[Site], nn.Module]:
    return lambda site: build_spec(fill_spec(node, site, registry), registry)


def _described(block: nn.Module) -> dict[str, Any] | None:
    spec = spec_of(block)
    return None if spec is None else spec_to_data(spec)


def _name(node: Spec, registry: Registry) -> str:
    if isinstance(node, BlockSpec):
        return registry.find(node.block).card.name.replace("-", "_")
    return {ChainSpec: "chain", SumSpec: "sum", ResidualSpec: "residual"}[type(node)]


def _accepts(node: Spec, registry: Registry) -> str | None:
    """Return the layout that the first block of ``node`` takes.

    Raises:
        SurgeryError: The block takes several tensors, or one of an unknown kind.
    """
    first = next(blocks_of(node), None)
    return None if first is None else block_layout(registry.find(first.block))


def block_layout(entry: Entry) -> str:
    """Return the layout a block takes, such as ``nchw`` or ``nlc``, by its card.

    Raises:
        SurgeryError: It takes several tensors, or one that has no place in a host.
    """
    contract = parse_contract(entry.card.shape)
    needed = [given for given in contract.inputs if not given.optional]
    if len(needed) != 1:
        message = f"block {entry.id!r}: it takes {len(needed)} tensors ({entry.card.shape}), one was expected in a host"
        raise SurgeryError(message)
    axes = list(needed[0].axes)
    channel = _channel_axis(axes, entry)
    others = [axis for axis in axes if axis not in ("n", channel)]
    letters = {1: "l", 2: "hw", 3: "thw"}.get(len(others))
    if letters is None or channel is None or axes[0] != "n" or any(not axis.isalpha() for axis in axes):
        message = f"block {entry.id!r}: it takes {' '.join(axes)}, a map (n c h w) or tokens (n l c) were expected"
        raise SurgeryError(message)
    new = dict(zip(others, letters, strict=True)) | {"n": "n", channel: "c"}
    return "".join(new[axis] for axis in axes)


def _channel_axis(axes: Sequence[str], entry: Entry) -> str | None:
    ruled = [axis for axis in axes if str(entry.card.axes.get(axis)) in _CHANNELS]
    if ruled or "c" in axes:
        return ruled[0] if ruled else "c"
    return axes[-1] if len(axes) == 3 else None


def fill_spec(node: Spec, site: Site, registry: Registry) -> Spec:
    """Return ``node`` with the arguments that the site tells: channels, and sizes where a block must know them."""
    if isinstance(node, BlockSpec):
        return replace(node, args={**_told(node, site, registry), **node.args})
    if isinstance(node, ChainSpec | SumSpec):
        return replace(node, nodes=tuple(fill_spec(inner, site, registry) for inner in node.nodes))
    if isinstance(node, ResidualSpec):
        return replace(node, node=fill_spec(node.node, site, registry))
    return node


def _told(node: BlockSpec, site: Site, registry: Registry) -> dict[str, Any]:
    """Return values for required arguments that are not given: sizes of the axes the card says they are."""
    try:
        entry = registry.find(node.block)
        parameters = parameters_of(entry.card.load_class())
    except AttnZooError:
        return {}  # build_spec reports it, with its place in the file
    if node.weights:
        return {}
    out_channels = site.out_shape[site.layout.index("c")]
    sizes: dict[str, Any] = {"channels": site.channels, "embed_dim": site.channels, "in_channels": site.channels}
    sizes |= {"out_channels": out_channels} | _sizes(entry, parse_contract(entry.card.shape), site)
    if len(site.shown) == 4:
        sizes["feature_size"] = list(site.shown[2:] if block_layout(entry) == "nchw" else site.shown[1:3])
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    return {name: sizes[name] for name in required if name in sizes and name not in node.args}


def _sizes(entry: Entry, contract: Contract, site: Site) -> dict[str, int]:
    """Return ``argument: size`` for every axis of the input that the card gives the name of an argument."""
    axes = contract.inputs[0].axes
    if len(axes) != len(site.shown):
        return {}
    rules = {axis: str(rule).strip() for axis, rule in entry.card.axes.items()}
    return {fold(rules[a]).replace("-", "_"): size for a, size in zip(axes, site.shown, strict=True) if a in rules}
