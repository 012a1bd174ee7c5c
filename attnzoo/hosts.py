"""Named placements: good places for blocks in well-known hosts, from the hook ``attnzoo_hosts``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnzoo.errors import NameNotFound, PluginError, did_you_mean, near_matches

if TYPE_CHECKING:
    from torch import nn

    from attnzoo.registry import Registry

__all__ = [
    "HostFamily",
    "Placement",
    "build_host",
    "families",
    "is_host_name",
    "placement_sites",
    "placements_for",
    "resolve_at",
]


@dataclass(frozen=True)
class Placement:
    """A good place for a block. ``rules`` are what ``at`` takes; those that find nothing in a host are passed over."""

    name: str
    summary: str
    rules: tuple[str, ...]
    position: str = "after"


@dataclass(frozen=True)
class HostFamily:
    """The hosts of one library.

    Attributes:
        name: The library as it is imported: ``timm``.
        placements: Good places in its hosts.
        build: Builds a host by name without pretrained weights (``resnet50``); the library is imported only then.
        examples: Some names that ``build`` takes.
    """

    name: str
    placements: tuple[Placement, ...]
    build: Callable[[str], "nn.Module"] | None = None
    examples: tuple[str, ...] = ()
    packages: tuple[str, ...] = field(default=())

    def owns(self, host: "nn.Module") -> bool:
        """Return whether ``host``, or a class it is derived from, is of this library."""
        roots = {base.__module__.partition(".")[0] for base in type(host).__mro__}
        return bool(roots & {self.name, *self.packages})


def families(registry: "Registry") -> Iterator[HostFamily]:
    """Yield the host families of the installed plugins."""
    for plugin in registry.plugins:
        if plugin.manager is not None:
            for batch in plugin.manager.hook.attnzoo_hosts():
                yield from batch


def placements_for(host: "nn.Module", registry: "Registry") -> dict[str, Placement]:
    """Return the placements for ``host``: those of its library first, then of others that find something in it."""
    known = sorted(families(registry), key=lambda family: not family.owns(host))
    found: dict[str, Placement] = {}
    for family in known:
        for placement in family.placements:
            if placement.name not in found and placement_sites(host, placement):
                found[placement.name] = placement
    return found


def resolve_at(host: "nn.Module", at: Any, position: str | None, registry: "Registry") -> tuple[Any, Any]:
    """Return ``at`` and the position, where ``at`` is a named placement the rules it stands for.

    Raises:
        NameNotFound: ``at`` is a placement of other hosts, and finds nothing in this one.
    """
    if not isinstance(at, str) or at in {name for name, _ in host.named_modules()}:
        return at, position or "after"
    names = {placement.name for family in families(registry) for placement in family.placements}
    if at not in names:
        return _checked(host, at, names), position or "after"
    found = placements_for(host, registry)
    if at not in found:
        known = f"; it has {', '.join(found)}" if found else "; no placement of a plugin fits it"
        message = f"at {at!r}: {type(host).__name__} has no place of that name{known}"
        raise NameNotFound(message)
    return placement_sites(host, found[at]), position or found[at].position


def build_host(name: str, registry: "Registry") -> "nn.Module":
    """Build ``library/host``, such as ``torchvision/resnet18``, with random weights, or call ``module:function``.

    Raises:
        NameNotFound: No plugin knows the library, or the library has no such host.
        PluginError: The library is not installed.
    """
    if ":" in name:
        return _called(name)
    by_name = {family.name: family for family in families(registry) if family.build is not None}
    library, _, model = name.partition("/")
    family = by_name.get(library)
    if family is None or not model:
        examples = [f"{f.name}/{example}" for f in by_name.values() for example in f.examples]
        hint = did_you_mean(library, by_name) or f", expected library/host such as {', '.join(examples[:3])}"
        message = f"host {name!r}: no such host" + (hint if by_name else "; pip install attnzoo-hosts")
        raise NameNotFound(message)
    assert family.build is not None
    try:
        return family.build(model)
    except ModuleNotFoundError as error:
        message = f"host {name!r}: {error.name or library} is not installed; pip install {error.name or library}"
        raise PluginError(message) from error


def is_host_name(name: str, registry: "Registry") -> bool:
    """Return whether ``name`` starts with a library of a plugin, or is ``module:function``."""
    return ":" in name or name.partition("/")[0] in {family.name for family in families(registry)}


def _called(name: str) -> "nn.Module":
    module, _, function = name.partition(":")
    try:
        made: nn.Module = getattr(import_module(module), function)()
    except (ImportError, AttributeError) as error:
        message = f"host {name!r}: {error}; module:function was expected, a function of yours that returns a model"
        raise NameNotFound(message) from error
    return made


def placement_sites(host: "nn.Module", placement: Placement) -> list[str]:
    """Return the modules of ``host`` that ``placement`` names, in the host's order."""
    from attnzoo.surgery import select

    hits: set[str] = set()
    for rule in placement.rules:
        try:
            hits.update(select(host, rule))
        except NameNotFound:
            continue
    return [name for name, _ in host.named_modules() if name in hits]


def _checked(host: "nn.Module", at: str, placements: Mapping[str, Any] | set[str]) -> str:
    """Return ``at``; if it finds nothing and looks like a placement, say so."""
    from attnzoo.surgery import select

    near = near_matches(at, placements)
    if near:
        try:
            select(host, at)
        except NameNotFound as error:
            message = f"{error}; or the placement {' or '.join(map(repr, near))}?"
            raise NameNotFound(message) from None
    return at
