"""From a reference to weights (catalogue name or path) to a block that has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from attnzoo.builder import build_block
from attnzoo.errors import LoadError, NameNotFound, WeightsError
from attnzoo.registry import Registry
from attnzoo.spec import BlockSpec
from attnzoo.weights.catalogue import WeightsEntry, catalogue_of
from attnzoo.weights.hashes import sha256_of, verify_hash
from attnzoo.weights.store import build_on_meta, read_description, read_tensors

__all__ = ["build_with_weights", "local_file", "sha256_of", "verify_hash"]


def build_with_weights(registry: Registry, name: str, arguments: Mapping[str, Any], reference: str) -> nn.Module:
    """Build block ``name`` with the weights ``reference``; ``arguments`` complete or override those of the weights.

    Raises:
        NameNotFound: No such weights or block.
        HashMismatch: The file is not the one that was promised; nothing was loaded.
        LoadError: The weights are of another block, or their tensors do not fit the arguments.
    """
    path, owner, known = _locate(registry, reference)
    entry = registry.find(name)
    if owner is not None and registry.find(owner).id != entry.id:
        message = f"weights {reference!r}: made for block {registry.find(owner).id!r}, not {entry.id!r}"
        raise LoadError(message)
    full = {**known, **arguments}
    module = build_on_meta(lambda: build_block(registry, entry.id, full), read_tensors(path), f"weights {reference!r}")
    object.__setattr__(module, "attnzoo_spec", BlockSpec(entry.id, full))
    return module


def _locate(registry: Registry, reference: str) -> tuple[Path, str | None, Mapping[str, Any]]:
    """Return the verified file of a reference, the block it was made for, and that block's arguments."""
    catalogue = catalogue_of(registry)
    if any(e.name == reference for e in catalogue.weights):
        entry = catalogue.find(reference)
        return local_file(entry), entry.block, entry.args
    path = Path(reference)
    if not path.suffix and not path.exists():
        catalogue.find(reference)
    if not path.exists():
        message = f"weights {reference!r}: no such file and no such catalogue name; see: attnzoo weights list"
        raise NameNotFound(message)
    description = read_description(path)
    if description is None:
        return path, None, {}
    spec = description["spec"]
    return path, spec.get("block"), spec.get("args", {})


def local_file(entry: WeightsEntry) -> Path:
    """Return the local file of a catalogue entry, its hash verified.

    Raises:
        WeightsError: It cannot be had.
        HashMismatch: Its sha256 is another one.
    """
    if "://" in entry.url:
        message = f"weights {entry.name!r}: {entry.url} has to be fetched; run: attnzoo weights pull {entry.name}"
        raise WeightsError(message)
    path = (entry.source.parent if entry.source else Path()) / entry.url
    if not path.exists():
        message = (
            f"weights {entry.name!r}: {path} does not exist, expected it beside {entry.source}; reinstall the plugin"
        )
        raise WeightsError(message)
    verify_hash(path, entry.sha256, f"weights {entry.name!r}")
    return path
