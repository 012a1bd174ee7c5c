"""Pytest fixtures for first and third parties; loaded by pytest in every environment that has attnzoo.

``attnzoo_isolated``       this process's registry is empty, whatever is installed
``attnzoo_registry``       make this process's registry from given plugin modules
``fake_distribution``      put a distribution with entry points on the path, as if it were installed
"""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from attnzoo.registry import Registry

__all__ = ["attnzoo_isolated", "attnzoo_registry", "fake_distribution"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the checks that take seconds (export, compile)."""
    config.addinivalue_line("markers", "slow: a check of attnzoo that takes seconds; leave out with -m 'not slow'")


@pytest.fixture
def attnzoo_isolated() -> "Iterator[Registry]":
    """Give the test an empty registry: no installed plugin is discovered while it runs."""
    from attnzoo.registry import Registry, set_default_registry

    registry = Registry()
    old = set_default_registry(registry)
    yield registry
    set_default_registry(old)


@pytest.fixture
def attnzoo_registry(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Callable[..., Registry]]":
    """Return a function that makes the process's registry from plugin modules: ``attnzoo_registry(mine=my_plugin)``."""
    from importlib.metadata import EntryPoint

    from attnzoo.plugins import load_plugin
    from attnzoo.registry import Registry, set_default_registry

    old = set_default_registry(None)

    def make(**modules: Any) -> Registry:
        points = []
        for name, module in modules.items():
            path = getattr(module, "__name__", f"attnzoo_registry_{name}")
            if sys.modules.get(path) is not module:  # made in the test, not imported
                monkeypatch.setitem(sys.modules, path, module)
            points.append(EntryPoint(name.replace("_", "-"), path, "attnzoo"))
        registry = Registry(tuple(load_plugin(p) for p in points))
        set_default_registry(registry)
        return registry

    yield make
    set_default_registry(old)


@pytest.fixture
def fake_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes a ``*.dist-info`` folder and modules, and puts them on ``sys.path``.

    ``fake_distribution("attnzoo-x", {"x": "x_plugin"}, {"x_plugin.py": "..."})`` looks to Python, and to every
    Python it starts with this folder on ``PYTHONPATH``, like an installed distribution. It returns the folder.
    """
    site = tmp_path / "site"

    def install(
        name: str,
        entry_points: Mapping[str, str],
        files: Mapping[str, str] | None = None,
        version: str = "1.0",
        requires: Sequence[str] = (),
    ) -> Path:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        lines = "".join(f"{key} = {value}\n" for key, value in entry_points.items())
        (info / "entry_points.txt").write_text(f"[attnzoo]\n{lines}")
        for path, text in (files or {}).items():
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(textwrap.dedent(text).lstrip())
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            monkeypatch.delitem(sys.modules, module, raising=False)
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        return site

    return install
