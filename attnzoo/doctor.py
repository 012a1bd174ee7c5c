"""Look for problems in what is installed, each with its mend."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from attnzoo.card import CardFault, fold
from attnzoo.errors import AttnZooError, did_you_mean
from attnzoo.plugins import Plugin
from attnzoo.project import Permission
from attnzoo.registry import Entry, Registry

__all__ = ["Problem", "examine"]

SLOW_SECONDS = 0.5


@dataclass(frozen=True)
class Problem:
    """A problem: what it concerns, what was found, how to mend it, and a traceback if there is one."""

    subject: str
    found: str
    mend: str
    traceback: str = ""


def examine(registry: Registry, permission: Permission | None = None, only: Iterable[str] = ()) -> list[Problem]:
    """Return every problem of the registry's plugins, cards, classes, registry files and cached weights.

    This imports every block that is looked at.

    Args:
        registry: What to look at.
        permission: The allow-list under which the plugins were discovered; wrong names in it are found.
        only: Names of plugins; the others are passed over.
    """
    names = {fold(n) for n in only}
    plugins = [p for p in registry.plugins if not names or p.name in names]
    problems = [problem for plugin in plugins for problem in _plugin_problems(plugin)]
    problems.extend(_name_clashes(registry, plugins))
    for entry in registry:
        if entry.plugin in plugins:
            problems.extend(_card_problems(entry))
    problems.extend(problem for plugin in plugins for problem in _orphans(plugin))
    problems.extend(_catalogue_problems(registry, plugins, whole=not names))
    if not names:
        problems.extend(_permission_problems(registry, permission))
        problems.extend(_cache_problems())
    return problems


def _plugin_problems(plugin: Plugin) -> Iterator[Problem]:
    subject = f"plugin {plugin.name} ({plugin.distribution} {plugin.version})"
    if plugin.status in ("broken", "clash"):
        mend = f"upgrade it, or remove it: attnzoo uninstall {plugin.distribution}"
        yield Problem(subject, plugin.error, mend, plugin.traceback)
    if plugin.heavy:
        found = f"imports {' and '.join(plugin.heavy)} when it is discovered, expected in the blocks only"
        yield Problem(subject, found, f"keep {plugin.module} free of heavy imports; it need only find the cards")
    elif plugin.seconds > SLOW_SECONDS:
        found = f"took {plugin.seconds:.2f} s to load, expected under {SLOW_SECONDS} s"
        yield Problem(subject, found, "do the slow work in the blocks, not in the plugin module")
    if plugin.status != "blocked":
        yield from _requirement_problems(subject, plugin.distribution)
    for fault in plugin.faults:
        yield _fault(fault)
    for path in plugin.missing_files:
        mend = "ship the file (see the wheel's content), or take it out of attnzoo_registry_files"
        yield Problem(subject, f"has no registry file {path}, which its hook names", mend)
    if plugin.manager is not None:
        try:
            plugin.manager.hook.attnzoo_hosts()
        except Exception as error:
            found = f"attnzoo_hosts raised {type(error).__name__}: {error}"
            yield Problem(subject, found, f"upgrade it, or remove it: attnzoo uninstall {plugin.distribution}")


def _fault(fault: CardFault) -> Problem:
    text = str(fault.error).removeprefix(f"{fault.path}: ")
    return Problem(f"card {fault.path}", text, "correct the card; the keys are in docs/reference/cards.md")


def _requirement_problems(subject: str, distribution: str) -> Iterator[Problem]:
    """Requirements of a plugin's distribution that this environment does not meet."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = metadata.distribution(distribution).requires or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            yield Problem(subject, f"has the requirement {line!r}, which cannot be read", "tell its authors")
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = ""
        if not found:
            yield Problem(subject, f"needs {requirement}, which is not installed", f"pip install '{requirement}'")
        elif not requirement.specifier.contains(found, prereleases=True):
            text = f"needs {requirement}, found {requirement.name} {found}"
            yield Problem(subject, text, f"pip install '{requirement}', or another release of {distribution}")


def _name_clashes(registry: Registry, plugins: list[Plugin]) -> Iterator[Problem]:
    owners: dict[str, list[Entry]] = {}
    for entry in registry:
        for name in dict.fromkeys([entry.card.name, *map(fold, entry.card.aliases)]):
            owners.setdefault(name, []).append(entry)
    for name, entries in owners.items():
        ids = [e.id for e in entries]
        named = [e for e in entries if e.card.name == name]
        if len(entries) < 2 or len(named) == 1 or not any(e.plugin in plugins for e in entries):
            continue
        word = "block" if named else "alias"
        yield Problem(f"{word} {name}", f"offered as {' and '.join(ids)}", f"write the full id, such as {ids[0]}")


def _card_problems(entry: Entry) -> Iterator[Problem]:
    try:
        entry.card.load_class()
        _ = entry.card.dialects
    except AttnZooError as error:
        yield Problem(f"block {entry.id}", str(error), "correct the card or its module")


def _orphans(plugin: Plugin) -> Iterator[Problem]:
    """Modules beside cards with a class of the module's own name that no card speaks of."""
    folders = {c.path.parent for c in plugin.cards if c.path is not None}
    known = {c.path.with_suffix(".py") for c in plugin.cards if c.path is not None}
    known |= {f.path.with_suffix(".py") for f in plugin.faults}
    for module in sorted(m for folder in folders for m in folder.glob("*.py")):
        if module in known or module.stem.startswith("_"):
            continue
        if cls := _block_class(module):
            mend = f"write {module.stem}.yaml beside it, or call the module _{module.name}"
            yield Problem(f"module {module}", f"has the class {cls} and no card", mend)


def _block_class(module: Path) -> str:
    """Return the public ``nn.Module`` class in a file that is named like the file, read from its syntax tree."""
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and fold(node.name).replace("-", "") == fold(module.stem).replace("-", ""):
            bases = [ast.unparse(b).rpartition(".")[2] for b in node.bases]
            if "Module" in bases:
                return node.name
    return ""


def _catalogue_problems(registry: Registry, plugins: list[Plugin], *, whole: bool) -> Iterator[Problem]:
    from attnzoo.weights.catalogue import merge, read_registry_file, shipped_registry_file

    files = [shipped_registry_file()] if whole else []
    files.extend(f for p in plugins for f in p.registry_files)
    catalogues = []
    for path in files:
        try:
            catalogues.append(read_registry_file(path))
        except AttnZooError as error:
            yield Problem(f"registry file {path}", str(error).removeprefix(f"{path}: "), "correct the file")
    try:
        merge(catalogues)
    except AttnZooError as error:
        yield Problem("registry files", str(error), "rename one of the weights")
    for catalogue in catalogues:
        for entry in catalogue.weights:
            owned = any(entry.source in p.registry_files for p in plugins)
            yield from _weights_problems(registry, entry, owned)


def _weights_problems(registry: Registry, entry: "object", owned: bool) -> Iterator[Problem]:
    from attnzoo.weights.catalogue import WeightsEntry
    from attnzoo.weights.resolve import local_file

    assert isinstance(entry, WeightsEntry)
    try:
        registry.find(entry.block)
    except AttnZooError:
        if owned:
            found = f"made for block {entry.block!r}, which is missing"
            yield Problem(f"weights {entry.name}", found, f"correct `block:` in {entry.source}")
        return
    if ":" in entry.url:
        return
    try:
        local_file(entry)
    except AttnZooError as error:
        yield Problem(f"weights {entry.name}", str(error), "reinstall the plugin that has the file")


def _permission_problems(registry: Registry, permission: Permission | None) -> Iterator[Problem]:
    """Names in an allow-list or block-list that no installed plugin has."""
    if permission is None:
        return
    known = {n for p in registry.plugins for n in (p.name, fold(p.distribution))}
    lists = ((permission.allowed or frozenset(), permission.allowed_by), (permission.blocked, permission.blocked_by))
    for names, source in lists:
        for name in sorted(names - known):
            found = f"names the plugin {name!r}, which is not installed{did_you_mean(name, known)}"
            yield Problem(source, found, "correct the name, or take it out")


def _cache_problems() -> Iterator[Problem]:
    """Fetched weights whose bytes are no longer those that were verified; a file's name begins with its sha256."""
    from attnzoo.weights.cache import cache_folder
    from attnzoo.weights.hashes import sha256_of

    folder = cache_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = re.match(r"([0-9a-f]{16})-", path.name)
        if match is None or path.suffix in (".lock", ".part", ".etag") or not path.is_file():
            continue
        try:
            found = sha256_of(path)
        except OSError as error:
            yield Problem(f"cache {path}", f"cannot be read ({error.strerror or error})", f"delete it: rm '{path}'")
            continue
        if not found.startswith(match[1]):
            text = f"has sha256 {found[:16]}…, expected {match[1]}…"
            yield Problem(f"cache {path}", text, f"delete it: rm '{path}'; it is fetched again when it is needed")
