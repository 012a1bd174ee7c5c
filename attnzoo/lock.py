"""Lock files: the plugins, contract versions and weights that a spec was built with. No torch.

::

    lock: 1                       # format
    attnzoo: 0.1.0
    spec: 5f1c…                   # sha256 of the spec, written plainly
    plugins:
    - {name: vision, distribution: attnzoo-vision, version: 0.1.0}
    blocks:
    - {block: vision/se, version: 1}
    weights:
    - {name: se/fashion-mnist, sha256: be95…}
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attnzoo import __version__
from attnzoo.errors import LockError, SpecError, WeightsError
from attnzoo.registry import Registry
from attnzoo.spec import BlockSpec, Spec, blocks_of, write_spec
from attnzoo.yaml_reader import plain, read_yaml_file, write_yaml

__all__ = ["check_lock", "lock_of", "lock_path", "write_lock"]

_FORMAT = 1
_LISTS = {"plugins": "name", "blocks": "block", "weights": "name"}


def lock_path(spec: Path) -> Path:
    """Return where the lock file of a spec file lies: ``net.yaml`` has ``net.lock.yaml``."""
    return spec.with_name(f"{spec.stem}.lock.yaml")


def lock_of(specs: Iterable[Spec], registry: Registry) -> dict[str, Any]:
    """Return the lock of some specs: what is installed now.

    Raises:
        NameNotFound, AmbiguousName: A block or weights of the specs are not known.
        WeightsError: The hash of weights cannot be told without fetching them.
    """
    specs = list(specs)
    blocks = [b for spec in specs for b in blocks_of(spec)]
    entries = [registry.pinned(b.block, b.version).find(b.block) for b in blocks]
    plugins = {e.plugin.name: e.plugin for e in entries}
    versions = {e.id: e.card.version for e in entries}
    return {
        "lock": _FORMAT,
        "attnzoo": __version__,
        "spec": hashlib.sha256("---\n".join(map(write_spec, specs)).encode()).hexdigest(),
        "plugins": [
            {"name": name, "distribution": plugins[name].distribution, "version": plugins[name].version}
            for name in sorted(plugins)
        ],
        "blocks": [{"block": id, "version": versions[id]} for id in sorted(versions)],
        "weights": _weights(blocks, registry),
    }


def _weights(blocks: Iterable[BlockSpec], registry: Registry) -> list[dict[str, str]]:
    references = sorted({b.weights for b in blocks if b.weights})
    return [{"name": reference, "sha256": _hash(reference, registry)} for reference in references]


def _hash(reference: str, registry: Registry) -> str:
    from attnzoo.weights.catalogue import catalogue_of

    entry = next((e for e in catalogue_of(registry).weights if e.name == reference), None)
    if entry is not None and len(entry.sha256) == 64:
        return entry.sha256
    if entry is None and (path := Path(reference)).is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    message = (
        f"weights {reference!r}: no file, and no registry file has its whole sha256, expected one of both; "
        "add it to a registry file (see: attnzoo weights list)"
    )
    raise WeightsError(message)


def write_lock(lock: Mapping[str, Any], path: Path) -> None:
    """Write a lock to ``path``, atomically."""
    from attnzoo.weights.files import atomic_write

    head = "# Written by `attnzoo lock`. `attnzoo build --locked` refuses anything else.\n"
    atomic_write(path, (head + write_yaml(dict(lock))).encode("utf-8"))


def check_lock(specs: Iterable[Spec], registry: Registry, path: Path) -> None:
    """Refuse to go on when what is installed is not what the lock file at ``path`` records.

    Raises:
        LockError: The file is missing or not a lock, or differs; every difference is named.
    """
    recorded = _read(path)
    found = lock_of(specs, registry)
    differences = []
    if recorded["spec"] != found["spec"]:
        differences.append(f"{path}: the spec was changed after it was locked; run attnzoo lock again")
    if recorded["attnzoo"] != found["attnzoo"]:
        differences.append(_difference(path, "attnzoo", recorded["attnzoo"], found["attnzoo"]))
    for kind, key in _LISTS.items():
        old = {item[key]: item for item in recorded[kind]}
        new = {item[key]: item for item in found[kind]}
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                differences.append(_difference(path, f"{kind}: {name}", _text(old, name, key), _text(new, name, key)))
    if differences:
        raise LockError(differences)


def _text(items: Mapping[str, Any], name: str, key: str) -> str:
    return ", ".join(f"{k} {v}" for k, v in items[name].items() if k != key) if name in items else "nothing"


def _difference(path: Path, what: str, old: str, new: str) -> str:
    return f"{path}: {what}: locked {old}, found {new}; install what is locked, or run attnzoo lock again"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        message = f"{path}: no such file, expected a lock; write it with: attnzoo lock"
        raise LockError([message])
    try:
        documents = read_yaml_file(path)
        data = plain(documents[0])
        shape_is_right = (
            data["lock"] == _FORMAT
            and all(isinstance(data[k], str) for k in ("attnzoo", "spec"))
            and all(isinstance(item[key], str) for kind, key in _LISTS.items() for item in data[kind] or [])
        )
    except (SpecError, KeyError, TypeError, IndexError) as error:
        message = f"{path}: not a lock file ({type(error).__name__}: {error}), expected one written by attnzoo lock"
        raise LockError([message]) from error
    if not shape_is_right:
        message = f"{path}: a lock of format {data['lock']!r}, expected {_FORMAT}; run attnzoo lock again"
        raise LockError([message])
    return {**data, **{kind: data[kind] or [] for kind in _LISTS}}
