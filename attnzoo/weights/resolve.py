"""From a reference to weights (catalogue name or path) to a block that has them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from attnzoo.builder import build_block
from attnzoo.errors import LoadError, NameNotFound, WeightsError, did_you_mean
from attnzoo.registry import Registry
from attnzoo.spec import BlockSpec
from attnzoo.weights.catalogue import WeightsEntry, catalogue_of
from attnzoo.weights.checkpoint import open_checkpoint
from attnzoo.weights.cut import cut_out
from attnzoo.weights.fetch import fetch, local_path_of
from attnzoo.weights.foreign import build_foreign
from attnzoo.weights.hashes import sha256_of, verify_hash
from attnzoo.weights.scan import scan
from attnzoo.weights.store import build_on_meta, read_description, read_tensors

__all__ = ["build_with_weights", "local_file", "sha256_of", "verify_hash"]


@dataclass(frozen=True)
class _Located:
    """A verified file, and what is known of the weights in it."""

    path: Path
    block: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    dialect: str | None = None
    site: str = ""


def build_with_weights(registry: Registry, name: str, arguments: Mapping[str, Any], reference: str) -> nn.Module:
    """Build block ``name`` with the weights ``reference``; ``arguments`` complete or override those of the weights.

    Args:
        registry: Where the block is looked up.
        name: The block.
        arguments: Its arguments.
        reference: A catalogue name, a path, or an address (``https://…``, ``hf://org/repo/file@revision``); ``#site``
            after a path or address says where in a foreign checkpoint the block is.

    Raises:
        NameNotFound: No such weights or block.
        FetchError: The file cannot be had.
        HashMismatch: The file is not the one that was promised; nothing was loaded.
        LoadError: The weights are of another block, or their tensors do not fit the arguments.
    """
    located = _locate(registry, reference)
    entry = registry.find(name)
    if located.block is not None and registry.find(located.block).id != entry.id:
        message = f"weights {reference!r}: made for block {registry.find(located.block).id!r}, not {entry.id!r}"
        raise LoadError(message)
    full = {**located.args, **arguments}
    if located.dialect is not None or located.site:
        return _build_foreign(registry, entry.id, full, located, f"weights {reference!r}")
    tensors = read_tensors(located.path)
    module = build_on_meta(lambda: build_block(registry, entry.id, full), tensors, f"weights {reference!r}")
    object.__setattr__(module, "attnzoo_spec", BlockSpec(entry.id, full, version=entry.card.version))
    return module


def _build_foreign(registry: Registry, block: str, args: Mapping[str, Any], located: _Located, where: str) -> nn.Module:
    """Build a block from a foreign checkpoint: in the dialect that is known, or the one that the tensors have."""
    checkpoint = open_checkpoint(located.path)
    if located.dialect is not None and checkpoint.graph is None:
        return build_foreign(registry, block, located.dialect, args, checkpoint.read_below(located.site), where)
    found = {f.site: f for f in scan(checkpoint, registry)}
    if located.site not in found:
        message = f"{where}: no block found at {located.site!r}{did_you_mean(located.site, found)}"
        raise NameNotFound(message)
    return cut_out(checkpoint, found[located.site], registry, block=block, arguments=args)[0]


def _locate(registry: Registry, reference: str) -> _Located:
    if not reference.strip():
        message = "weights '': an empty name, expected a catalogue name, a path or an address"
        raise NameNotFound(message)
    catalogue = catalogue_of(registry)
    if any(e.name == reference for e in catalogue.weights):
        entry = catalogue.find(reference)
        return _Located(local_file(entry), entry.block, entry.args, entry.dialect, entry.site)
    address, _, site = reference.partition("#")
    path = local_path_of(address)
    if path is None:
        path = fetch(address, "", where=f"weights {reference!r}")
    elif not path.exists():
        if not path.suffix:
            catalogue.find(reference)
        message = f"weights {reference!r}: no such file and no such catalogue name; see: attnzoo weights list"
        raise NameNotFound(message)
    if site:
        return _Located(path, site=site)
    description = read_description(path)
    spec = description["spec"] if description else {"block": None}
    if "block" not in spec:
        kinds = ", ".join(spec)
        message = f"weights {reference!r}: the file holds a composition ({kinds}), expected one block; load it"
        raise LoadError(message)
    return _Located(path, spec["block"], spec.get("args") or {})


def local_file(entry: WeightsEntry, progress: Callable[[int, int | None], None] | None = None) -> Path:
    """Return the local file of a catalogue entry, fetched if need be, its hash verified.

    Raises:
        WeightsError: It cannot be had.
        HashMismatch: Its sha256 is another one.
    """
    where = f"weights {entry.name!r}"
    path = local_path_of(entry.url, entry.source.parent if isinstance(entry.source, Path) else None)
    if path is None:
        return fetch(entry.url, entry.sha256, size=entry.size, where=where, progress=progress)
    if not path.exists():
        message = (
            f"weights {entry.name!r}: {path} does not exist, expected it beside {entry.source}; reinstall the plugin"
        )
        raise WeightsError(message)
    verify_hash(path, entry.sha256, f"weights {entry.name!r}")
    return path
