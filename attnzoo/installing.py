"""Install and remove plugins with pip in this environment, and look at them in a fresh Python afterwards."""

import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnzoo.card import fold
from attnzoo.errors import NameNotFound, PluginError, did_you_mean
from attnzoo.plugins import installed_entry_points

__all__ = ["Examination", "distribution_of", "examine_afresh", "pip_install", "pip_uninstall", "plugins_in"]


@dataclass(frozen=True)
class Examination:
    """What a fresh Python says of some plugins: a row for each, and problems with their mends."""

    plugins: tuple[dict[str, Any], ...]
    problems: tuple[dict[str, str], ...]


def pip_install(arguments: Sequence[str]) -> list[str]:
    """Run ``pip install`` with ``arguments`` and return the names of the distributions that came.

    Raises:
        PluginError: pip is missing or failed; its own words were printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        _pip(["install", "--report", str(report), *arguments])
        data = json.loads(report.read_text(encoding="utf-8"))
    return [item["metadata"]["name"] for item in data["install"]]


def pip_uninstall(distributions: Sequence[str]) -> None:
    """Run ``pip uninstall``.

    Raises:
        PluginError: pip is missing or failed.
    """
    _pip(["uninstall", "--yes", *distributions])


def _pip(arguments: Sequence[str]) -> None:
    if importlib.util.find_spec("pip") is None:
        message = f"pip is not in this environment ({sys.prefix}); put it there with: python -m ensurepip"
        raise PluginError(message)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    importlib.invalidate_caches()
    if code:
        message = f"pip {arguments[0]} failed with exit code {code}; its reason stands above"
        raise PluginError(message)


def plugins_in(distributions: Sequence[str]) -> list[str]:
    """Return the names of the plugins that installed distributions have; none of them is imported."""
    wanted = {fold(d) for d in distributions}
    return [fold(p.name) for p in installed_entry_points() if p.dist is not None and fold(p.dist.name) in wanted]


def distribution_of(name: str) -> str:
    """Return the distribution of the plugin called ``name`` (its own name or its distribution's).

    Raises:
        NameNotFound: No installed plugin is called so; nothing that is no plugin is ever removed.
    """
    names = {}
    for point in installed_entry_points():
        if point.dist is not None:
            names[fold(point.dist.name)] = point.dist.name
            names.setdefault(fold(point.name), point.dist.name)
    if fold(name) not in names:
        message = f"no plugin named {name!r} is installed{did_you_mean(name, names)}; see: attnzoo plugins"
        raise NameNotFound(message)
    return names[fold(name)]


def examine_afresh(names: Sequence[str]) -> Examination:
    """Discover all plugins in a new Python and look for problems of those called ``names``.

    Raises:
        PluginError: The new Python ended without an answer: a plugin breaks discovery itself.
    """
    options = [part for name in names for part in ("--plugin", name)]
    command = [sys.executable, "-P", "-m", "attnzoo", "doctor", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        data = json.loads(done.stdout)
        return Examination(tuple(data["plugins"]), tuple(data["problems"]))
    except (ValueError, KeyError) as error:
        last = (done.stderr.strip().splitlines() or ["no text"])[-1]
        message = f"discovery in a new Python ended with exit code {done.returncode}: {last}"
        raise PluginError(message) from error
