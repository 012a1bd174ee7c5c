"""Which plugins may be loaded here: the allow-list of the environment and of the project.

::

    # attnzoo.toml, or the same keys in the table [tool.attnzoo] of pyproject.toml
    plugins = ["vision", "attnzoo-sequence"]      # only these; left out: every installed plugin
    block-plugins = ["vision-nightly"]            # never these

The nearest file in the working folder or above it counts. ``ATTNZOO_PLUGINS`` (comma-separated; set but empty: none)
takes the place of ``plugins``, ``ATTNZOO_BLOCK_PLUGINS`` adds to ``block-plugins``. A project can leave plugins out; it
can load nothing that is not installed.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnzoo.card import fold
from attnzoo.errors import PluginError, did_you_mean

__all__ = ["Permission", "project_file", "read_permission"]

_KEYS = ("plugins", "block-plugins")


@dataclass(frozen=True)
class Permission:
    """An allow-list (None: everything) and a block-list of plugin or distribution names, folded, and who set them."""

    allowed: frozenset[str] | None = None
    blocked: frozenset[str] = frozenset()
    allowed_by: str = ""
    blocked_by: str = ""

    def refusal(self, *names: str) -> str:
        """Return why a plugin of these names (its own, its distribution's) is left out, or an empty text."""
        folded = {fold(n) for n in names}
        if folded & self.blocked:
            return f"left out by {self.blocked_by}"
        if self.allowed is not None and not folded & self.allowed:
            return f"left out by {self.allowed_by}, which does not name it"
        return ""


def read_permission(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Permission:
    """Return what the environment and the project of ``folder`` (the working folder) admit.

    Raises:
        PluginError: The project's file is not valid; nothing is loaded then.
    """
    environ = os.environ if environ is None else environ
    path = project_file(folder)
    table = {} if path is None else _read(path)
    allowed, allowed_by = table.get("plugins"), str(path) if "plugins" in table else ""
    if "ATTNZOO_PLUGINS" in environ:
        allowed, allowed_by = environ["ATTNZOO_PLUGINS"].split(","), "ATTNZOO_PLUGINS"
    blocked = {**_sources(table.get("block-plugins", []), str(path))}
    blocked.update(_sources(environ.get("ATTNZOO_BLOCK_PLUGINS", "").split(","), "ATTNZOO_BLOCK_PLUGINS"))
    return Permission(
        allowed=None if allowed is None else frozenset(_sources(allowed, "")),
        blocked=frozenset(blocked),
        allowed_by=allowed_by,
        blocked_by=" and ".join(sorted(set(blocked.values()))),
    )


def _sources(names: list[str], source: str) -> dict[str, str]:
    return {fold(n): source for n in names if n.strip()}


def project_file(folder: Path | None = None) -> Path | None:
    """Return the nearest ``attnzoo.toml``, or ``pyproject.toml`` with its table, in ``folder`` or above it."""
    try:
        start = Path.cwd() if folder is None else folder.resolve()
    except FileNotFoundError:  # the working folder was deleted
        return None
    for place in (start, *start.parents):
        if (own := place / "attnzoo.toml").is_file():
            return own
        if (shared := place / "pyproject.toml").is_file() and "[tool.attnzoo" in _text(shared):
            return shared
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: cannot be read ({error}), expected a UTF-8 TOML file"
        raise PluginError(message) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        message = f"{path}: not valid TOML: {error}; no plugin is loaded until it is mended"
        raise PluginError(message) from error
    table = data.get("tool", {}).get("attnzoo", {}) if path.name == "pyproject.toml" else data
    for key, value in table.items():
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or f", expected {' or '.join(_KEYS)}"
            message = f"{path}: unknown key {key!r}{hint}"
            raise PluginError(message)
        if not isinstance(value, list) or any(not isinstance(v, str) for v in value):
            message = f"{path}: {key}: {value!r}, expected a list of plugin names"
            raise PluginError(message)
    return dict(table)
