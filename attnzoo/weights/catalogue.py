"""Registry files: the list of known plugins and of pretrained weights. Data only; reading one runs no code.

::

    plugins:
      - {name: vision, distribution: attnzoo-vision, summary: …, blocks: [se, eca, …]}
    weights:
      - name: cbam/fashion-mnist          # <block>/<what it was trained on>
        block: vision/cbam
        args: {channels: 32}
        url: weights/cbam.safetensors     # relative to this file, https://… or hf://org/repo/file@revision
        sha256: "…"                       # 64 hex digits
        size: 12345                       # bytes
        licence: MIT
        origin: how it was made
        metrics: {accuracy: 0.87}
"""

import functools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnzoo.errors import NameNotFound, RegistryFileError, SpecError, did_you_mean
from attnzoo.registry import Registry
from attnzoo.yaml_reader import Node, plain, read_yaml_file

__all__ = [
    "Catalogue",
    "KnownPlugin",
    "WeightsEntry",
    "catalogue_of",
    "known_plugins",
    "read_registry_file",
    "shipped_registry_file",
]


@dataclass(frozen=True)
class KnownPlugin:
    """A plugin that is known, installed or not."""

    name: str
    distribution: str
    blocks: tuple[str, ...] = ()
    summary: str = ""


@dataclass(frozen=True)
class WeightsEntry:
    """Pretrained weights that are known: what block, with which arguments, where, and how to recognise them."""

    name: str
    block: str
    url: str
    sha256: str
    licence: str
    args: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    format: str = "attnzoo"
    dialect: str | None = None
    site: str = ""
    origin: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    verified: str = "no"
    source: Path | None = None  # the registry file that has the entry


@dataclass(frozen=True)
class Catalogue:
    """What registry files say, merged."""

    plugins: tuple[KnownPlugin, ...] = ()
    weights: tuple[WeightsEntry, ...] = ()

    def find(self, name: str) -> WeightsEntry:
        """Return the weights called ``name``.

        Raises:
            NameNotFound: No such weights.
        """
        for entry in self.weights:
            if entry.name == name:
                return entry
        message = (
            f"no weights named {name!r}{did_you_mean(name, [e.name for e in self.weights])}; see: attnzoo weights list"
        )
        raise NameNotFound(message)


def shipped_registry_file() -> Path:
    """Return the path of the registry file that comes with the core."""
    inside = Path(__file__).parents[1] / "registry.yaml"
    return inside if inside.exists() else Path(__file__).parents[2] / "registry.yaml"


@functools.cache
def known_plugins() -> tuple[KnownPlugin, ...]:
    """Return the plugins that the shipped registry file knows."""
    return read_registry_file(shipped_registry_file()).plugins


def catalogue_of(registry: Registry) -> Catalogue:
    """Return the shipped registry file merged with those of the installed plugins and of ``ATTNZOO_REGISTRY``.

    The variable holds paths or addresses, separated by blanks.

    Raises:
        RegistryFileError: A file is not valid, or two give one name to different weights.
    """
    files: list[Path] = [shipped_registry_file(), *(f for p in registry.plugins for f in p.registry_files)]
    files += map(_given_file, os.environ.get("ATTNZOO_REGISTRY", "").split())
    return merge(read_registry_file(f) for f in files)


def _given_file(address: str) -> Path:
    """Return the local path of a registry file that ``ATTNZOO_REGISTRY`` names; an address is fetched."""
    from attnzoo.weights.fetch import fetch, local_path_of

    return local_path_of(address) or fetch(address, "", where=f"ATTNZOO_REGISTRY: {address}")


def merge(catalogues: Iterable[Catalogue]) -> Catalogue:
    """Merge registry files; the same weights may be listed twice, one name for two weights is refused."""
    plugins: dict[str, KnownPlugin] = {}
    weights: dict[str, WeightsEntry] = {}
    for catalogue in catalogues:
        for plugin in catalogue.plugins:
            plugins.setdefault(plugin.distribution, plugin)
        for entry in catalogue.weights:
            other = weights.setdefault(entry.name, entry)
            if other.sha256 != entry.sha256:
                message = (
                    f"weights {entry.name!r}: {other.source} and {entry.source} give different files; "
                    "expected one; rename one of them"
                )
                raise RegistryFileError(message)
    return Catalogue(tuple(plugins.values()), tuple(weights.values()))


def read_registry_file(path: Path | str) -> Catalogue:
    """Read a registry file.

    Raises:
        RegistryFileError: Every fault of the file, each with ``file:line:column``.
    """
    path = Path(path)
    try:
        documents = read_yaml_file(path)
    except SpecError as error:
        raise RegistryFileError(str(error)) from error
    if not documents or (documents[0].kind == "scalar" and documents[0].value is None):
        return Catalogue()
    faults: list[str] = []
    top = documents[0]
    if len(documents) != 1 or top.kind != "mapping":
        message = f"{path}: expected one mapping with 'plugins' and 'weights'"
        raise RegistryFileError(message)
    _known_keys(top, ("plugins", "weights"), faults)
    plugins = [p for n in _items(top, "plugins", faults) if (p := _plugin(n, faults))]
    weights = [w for n in _items(top, "weights", faults) if (w := _weights(n, path, faults))]
    if faults:
        raise RegistryFileError("\n".join(faults))
    return Catalogue(tuple(plugins), tuple(weights))


def _items(top: Node, key: str, faults: list[str]) -> tuple[Node, ...]:
    node = top.get(key)
    if node is None or (node.kind == "scalar" and node.value is None):
        return ()
    if node.kind != "list":
        faults.append(f"{node.where}: {key}: {node.describe()}, expected a list")
    return node.items


_PLUGIN_FIELDS: Mapping[str, tuple[type, bool]] = {
    "name": (str, True),
    "distribution": (str, True),
    "blocks": (list, False),
    "summary": (str, False),
}
_WEIGHTS_FIELDS: Mapping[str, tuple[type, bool]] = {
    "name": (str, True),
    "block": (str, True),
    "url": (str, True),
    "sha256": (str, True),
    "licence": (str, True),
    "args": (dict, False),
    "size": (int, False),
    "format": (str, False),
    "dialect": (str, False),
    "site": (str, False),
    "origin": (str, False),
    "metrics": (dict, False),
    "verified": (str, False),
}
_WORDS = {str: "a text", int: "a whole number", list: "a list", dict: "a mapping"}


def _plugin(node: Node, faults: list[str]) -> KnownPlugin | None:
    values = _fields(node, _PLUGIN_FIELDS, faults)
    if values is None:
        return None
    blocks = tuple(values.get("blocks", ()))
    if any(not isinstance(b, str) for b in blocks):
        faults.append(f"{node.where}: blocks: {list(blocks)!r}, expected a list of names")
        return None
    return KnownPlugin(**{**values, "blocks": blocks})


def _weights(node: Node, path: Path, faults: list[str]) -> WeightsEntry | None:
    values = _fields(node, _WEIGHTS_FIELDS, faults)
    if values is None:
        return None
    sha = node.get("sha256")
    if sha is not None and not re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", values["sha256"]):
        expected = "expected 64 lower-case hex digits, or a publisher's 8"
        faults.append(f"{sha.where}: sha256: {values['sha256']!r}, {expected}")
        return None
    return WeightsEntry(**values, source=path)


def _fields(node: Node, known: Mapping[str, tuple[type, bool]], faults: list[str]) -> dict[str, Any] | None:
    if node.kind != "mapping":
        faults.append(f"{node.where}: {node.describe()}, expected a mapping")
        return None
    before = len(faults)
    _known_keys(node, known, faults)
    values: dict[str, Any] = {}
    for key, (kind, required) in known.items():
        value = node.get(key)
        if value is None:
            if required:
                faults.append(f"{node.where}: no {key!r}, expected {_WORDS[kind]}")
            continue
        values[key] = plain(value)
        if type(values[key]) is not kind:
            faults.append(f"{value.where}: {key}: {value.describe()}, expected {_WORDS[kind]}")
    return values if len(faults) == before else None


def _known_keys(node: Node, known: Iterable[str], faults: list[str]) -> None:
    for key, _ in node.entries:
        if key.value not in known:
            faults.append(f"{key.where}: unknown key {key.value!r}{did_you_mean(key.value, known)}")
