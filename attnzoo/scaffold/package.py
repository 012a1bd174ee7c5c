"""The files of a new plugin package, from plain string templates."""

import ast
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any

from attnzoo import __version__
from attnzoo.card import Card
from attnzoo.errors import PluginError
from attnzoo.scaffold.names import LICENCES, Names

__all__ = ["card_text", "plugin_files", "template_card", "write_plugin"]

_HERE = Path(__file__).parent


def template_card(names: Names) -> Card:
    """Return the card of the block that a new plugin starts with."""
    return Card(
        name=names.plugin,
        class_name=names.class_name,
        module="",
        summary="Scales each channel by a weight computed from the means of all channels.",
        domain="channel",
        shape="n c h w -> n c h w",
        axes={"c": "channels"},
        maps={"channel": "n c 1 1"},
        example={"channels": 16},
    )


def plugin_files(names: Names, card: Card, *, licence: str, author: str, source: Path | None = None) -> dict[str, str]:
    """Return the files of a plugin package: path in the package's folder to text.

    Args:
        names: The plugin's names.
        card: The card of its first block.
        licence: A key of `LICENCES`.
        author: Who holds the copyright.
        source: The file with the block's class; left out, a template is used.

    Raises:
        PluginError: The file imports modules that lie beside it, which would be missing in the package.
    """
    values = _values(names, card, licence, author)
    module = card.name.replace("-", "_")
    files = {
        "pyproject.toml": _filled("templates/pyproject.toml.txt", values),
        "README.md": _filled("templates/README.md.txt", values),
        "LICENSE": _filled(f"licences/{licence}.txt", values),
        ".gitignore": _filled("templates/gitignore.txt", values),
        ".github/workflows/test.yml": _filled("templates/test.yml.txt", values),
        "tests/test_blocks.py": _filled("templates/test_blocks.py.txt", values),
    }
    inside = {
        "__init__.py": "",
        "plugin.py": _filled("templates/plugin.py.txt", values),
        "registry.yaml": _filled("templates/registry.yaml.txt", values),
        f"{module}.py": _filled("templates/block.py.txt", values) if source is None else _source(source),
        f"{module}.yaml": card_text(card),
    }
    return {**files, **{f"{names.package}/{path}": text for path, text in inside.items()}}


def _values(names: Names, card: Card, licence: str, author: str) -> dict[str, str]:
    """Return what the templates are filled with."""
    return {
        "plugin": names.plugin,
        "distribution": names.distribution,
        "package": names.package,
        "class_name": card.class_name,
        "block": card.name,
        "description": _one_line(f"{card.class_name} for attnzoo: {card.summary}"),
        "spdx": LICENCES[licence],
        "author": _one_line(author),
        "year": str(datetime.now(UTC).year),
        "attnzoo_version": ".".join(__version__.split(".")[:2]),
        "keywords": "".join(f", {k}={v!r}" for k, v in card.example.items()),
        "arguments": _flow(card.example),
    }


def _filled(path: str, values: Mapping[str, str]) -> str:
    return Template((_HERE / path).read_text(encoding="utf-8")).substitute(values)


def _one_line(text: str) -> str:
    return " ".join(text.replace("\\", "/").replace('"', "'").split())


def _source(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    beside = sorted({n for n in _imported(text) if n != path.stem and (path.parent / f"{n}.py").exists()})
    if beside:
        message = (
            f"{path}: imports {' and '.join(beside)} from its own folder, expected a file that stands alone; "
            "move what it needs into it, or run attnzoo new without --from and copy the files"
        )
        raise PluginError(message)
    return text


def _imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (a.name.partition(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from [(node.module or "").partition(".")[0]] if node.module else [a.name for a in node.names]


def card_text(card: Card) -> str:
    """Return the text of a card: at most eight lines."""
    lines = [
        f"name: {card.name}",
        f"class: {card.class_name}",
        f"summary: {_scalar(card.summary)}",
        f"domain: {card.domain}",
        f"shape: {json.dumps(card.shape)}",
        *([f"axes: {_flow(card.axes)}"] if card.axes else []),
        *(["maps: {" + ", ".join(f"{k}: {json.dumps(v)}" for k, v in card.maps.items()) + "}"] if card.maps else []),
        f"example: {_flow(card.example)}",
    ]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Return plain data as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w .()/-]*[\w.)]|[A-Za-z]", value)
    if plain and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off"):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def write_plugin(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files of a plugin below ``folder``, all or none.

    Raises:
        PluginError: The folder exists and is not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = f"{folder}: exists already, expected a new or empty folder; choose another with --folder"
        raise PluginError(message)
    temporary = ""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
        for path, text in files.items():
            target = Path(temporary) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        os.chmod(temporary, 0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except OSError as error:
        message = f"{folder}: cannot be written ({error.strerror or error}); nothing was changed"
        raise PluginError(message) from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
