"""What ``attnzoo check`` is given, to subjects: a block, a plugin, a package, a folder, or a Python file."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from attnzoo.card import Card, CardFault, fold, read_cards_in
from attnzoo.errors import AttnZooError, NameNotFound, PluginError, did_you_mean
from attnzoo.plugins import Plugin, require_ok
from attnzoo.registry import Entry, Registry
from attnzoo.testing.infer import Wishes, infer_card
from attnzoo.testing.subject import CheckFailure, Subject, subjects_of, subjects_of_entry
from attnzoo.testing.suite import Outcome

__all__ = ["Target", "load_file", "module_classes", "resolve_target"]


@dataclass(frozen=True)
class Target:
    """The subjects of a target, outcomes that stand before any check could run, and notes on what was guessed."""

    subjects: list[Subject]
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def resolve_target(target: str, registry: Registry, wishes: Wishes = Wishes()) -> Target:  # noqa: B008
    """Find out what ``target`` means.

    ``gate.py`` and ``gate.py:Gate`` run the file; a folder is a package with cards; else it is the name of a plugin,
    its distribution, its package, or a block.

    Raises:
        NameNotFound: It is none of these.
        PluginError: The file or the plugin cannot be imported.
    """
    stem, _, class_name = target.partition(".py:") if ".py:" in target else (target, "", "")
    path = Path(f"{stem}.py" if class_name else stem)
    if path.suffix == ".py":
        return _of_file(path, class_name, wishes)
    if path.is_dir():
        return _of_folder(path)
    names = {fold(target), fold(target).replace("-", "")}
    for plugin in registry.plugins:
        package = plugin.module.partition(".")[0]
        if names & {plugin.name, fold(plugin.distribution), fold(package)}:
            require_ok(plugin)
            found = Target(subjects_of(registry, plugin=plugin.name), _fault_outcomes(plugin.faults))
            return _expect_any(found, f"plugin {plugin.name!r}")
    return Target(subjects_of(registry, block=target))


def _expect_any(target: Target, what: str) -> Target:
    if not target.subjects and not target.outcomes:
        message = f"{what}: has no blocks, expected at least one card; see: docs/write-a-plugin.md"
        raise NameNotFound(message)
    return target


def _fault_outcomes(faults: "tuple[CardFault, ...]") -> list[Outcome]:
    return [
        Outcome(
            f"card {f.path.name}", "card", "failed", str(f.error), mend="correct the card; see docs/reference/cards.md"
        )
        for f in faults
    ]


def _of_folder(folder: Path) -> Target:
    """Check a package that need not be installed: the folder itself, or those below a project's folder."""
    folder = folder.resolve()
    packages = [p.parent for p in sorted((folder.parent if _is_package(folder) else folder).glob("*/__init__.py"))]
    packages = [p for p in packages if not _is_package(folder) or p == folder]
    root = str(folder.parent if _is_package(folder) else folder)
    target = Target([])
    if root not in sys.path:
        sys.path.insert(0, root)
    for package in packages:
        found = read_cards_in(package.name)
        plugin = Plugin(fold(package.name.removeprefix("attnzoo_")), package.name, "", package.name)
        cards = [c for c in found if isinstance(c, Card)]
        target.outcomes.extend(_fault_outcomes(tuple(c for c in found if isinstance(c, CardFault))))
        for card in cards:
            try:
                entry = Entry(replace(card, cls=card.load_class()), plugin)
            except AttnZooError as error:
                mend = "correct the card or its module"
                target.outcomes.append(Outcome(card.name, "card", "failed", str(error), mend=mend))
                continue
            target.subjects.extend(subjects_of_entry(entry))
    return _expect_any(target, f"folder {folder}")


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").exists()


def _of_file(path: Path, class_name: str, wishes: Wishes) -> Target:
    module = load_file(path)
    classes, helpers = module_classes(module)
    if class_name:
        every = {c.__name__: c for c in (*classes, *helpers)}
        if class_name not in every:
            message = f"{path}: no nn.Module class {class_name!r}{did_you_mean(class_name, every)}"
            raise NameNotFound(message)
        classes, helpers = [every[class_name]], []
    if not classes:
        message = f"{path}: no nn.Module class, expected at least one that is defined in the file"
        raise NameNotFound(message)
    target = Target([])
    if helpers:
        names = ", ".join(h.__name__ for h in helpers)
        target.notes.append(f"helpers of other classes, not checked on their own: {names} (name one as {path}:Class)")
    for cls in classes:
        _add_class(target, path, cls, wishes)
    return target


def _add_class(target: Target, path: Path, cls: Any, wishes: Wishes) -> None:
    name = f"{path.name}:{cls.__name__}"
    try:
        card = infer_card(cls, wishes)
    except CheckFailure as failure:
        target.outcomes.append(Outcome(name, "shapes", "failed", failure.found, failure.input, failure.mend))
        return
    arguments = ", ".join(f"{k}={v!r}" for k, v in card.example.items())
    guessed = "" if wishes.shape and wishes.arguments else " (guessed; see --args, --shape, --axes)"
    target.notes.append(f"{name}: {cls.__name__}({arguments}), shape {card.shape!r}{guessed}")
    target.subjects.append(Subject(name, card, cls, card.example))


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module; its folder is put on the path, as when Python runs it.

    Raises:
        PluginError: There is no such file, or it raises.
    """
    if not path.is_file():
        message = f"{path}: no such file, expected a Python file with an nn.Module"
        raise PluginError(message)
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem if path.stem.isidentifier() else "module_under_check"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    old = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        if old is not None:
            sys.modules[name] = old
        message = f"{path}: cannot be imported ({type(error).__name__}: {error})"
        raise PluginError(message) from error
    return module


def module_classes(module: ModuleType) -> tuple[list[Any], list[Any]]:
    """Return the public ``nn.Module`` classes of a module that no other of its classes uses, and the others."""
    from torch import nn

    own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    classes = [c for c in own if issubclass(c, nn.Module)]
    assert module.__file__ is not None
    used = set(_used_classes(Path(module.__file__), {c.__name__ for c in classes}))
    tops = [c for c in classes if c.__name__ not in used and not c.__name__.startswith("_")]
    if not tops:
        tops = classes
    return tops, [c for c in classes if c not in tops]


def _used_classes(path: Path, names: set[str]) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Name) and inner.id in names and inner.id != node.name:
                    yield inner.id
