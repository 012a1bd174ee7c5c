"""Look for problems in what is installed, each with its mend."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnzoo.card import Card, fold
from attnzoo.errors import AttnZooError
from attnzoo.plugins import Plugin
from attnzoo.registry import Registry

__all__ = ["Problem", "examine"]

SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Problem:
    """A problem: what it concerns, what was found, how to mend it, and a traceback if there is one."""

    subject: str
    found: str
    mend: str
    traceback: str = ""


def examine(registry: Registry, torch_imported: bool) -> list[Problem]:
    """Return every problem of the registry's plugins, cards, classes and registry files.

    ``torch_imported`` says whether discovery itself had imported torch.
    """
    problems = [p for plugin in registry.plugins for p in _plugin_problems(plugin)]
    if torch_imported:
        problems.append(
            Problem("discovery", "a plugin imports torch when it is discovered", "import torch in its blocks only")
        )
    problems.extend(_name_clashes(registry))
    for entry in registry:
        problems.extend(_card_problems(entry.id, entry.card))
    problems.extend(_orphans(registry))
    problems.extend(_catalogue_problems(registry))
    return problems


def _plugin_problems(plugin: Plugin) -> Iterator[Problem]:
    subject = f"plugin {plugin.name} ({plugin.distribution} {plugin.version})"
    if plugin.status in ("broken", "clash"):
        mend = f"upgrade or remove it: pip uninstall {plugin.distribution}"
        yield Problem(subject, plugin.error, mend, plugin.traceback)
    if plugin.seconds > SLOW_SECONDS:
        found = f"took {plugin.seconds:.2f} s to load, expected under {SLOW_SECONDS} s"
        yield Problem(subject, found, "import heavy libraries in the blocks, not in the plugin module")
    for fault in plugin.faults:
        yield Problem(f"card {fault.path}", str(fault.error), "correct the card")


def _name_clashes(registry: Registry) -> Iterator[Problem]:
    counts = Counter(e.card.name for e in registry)
    for name, count in counts.items():
        if count > 1:
            ids = [e.id for e in registry if e.card.name == name]
            yield Problem(f"block {name}", f"offered as {' and '.join(ids)}", f"write the full id, such as {ids[0]}")


def _card_problems(id: str, card: Card) -> Iterator[Problem]:
    try:
        card.load_class()
        _ = card.dialects
    except AttnZooError as error:
        yield Problem(f"block {id}", str(error), "correct the card or its module")


def _orphans(registry: Registry) -> Iterator[Problem]:
    """Modules beside cards that define a class named like a block file but have no card."""
    for plugin in registry.plugins:
        folders = {c.path.parent for c in plugin.cards if c.path is not None}
        known = {fold(c.path.stem) for c in plugin.cards if c.path is not None}
        known |= {fold(f.path.stem) for f in plugin.faults}
        for module in sorted(m for folder in folders for m in folder.glob("*.py")):
            if module.stem != "__init__" and not module.stem.startswith("_") and fold(module.stem) not in known:
                yield Problem(f"module {module}", "a class without a card", f"write {module.stem}.yaml beside it")


def _catalogue_problems(registry: Registry) -> Iterator[Problem]:
    from attnzoo.weights.catalogue import catalogue_of
    from attnzoo.weights.resolve import local_file

    try:
        catalogue = catalogue_of(registry)
    except AttnZooError as error:
        yield Problem("registry files", str(error), "correct the file")
        return
    for entry in catalogue.weights:
        if not _known_block(registry, entry.block) and entry.source and _is_installed(registry, entry.source):
            yield Problem(
                f"weights {entry.name}", f"made for block {entry.block!r}, which is missing", "correct `block:`"
            )
        elif "://" not in entry.url:
            try:
                local_file(entry)
            except AttnZooError as error:
                yield Problem(f"weights {entry.name}", str(error), "reinstall the plugin that has the file")


def _known_block(registry: Registry, name: str) -> bool:
    try:
        registry.find(name)
    except AttnZooError:
        return False
    return True


def _is_installed(registry: Registry, source: Path) -> bool:
    return any(source in p.registry_files for p in registry.plugins)
