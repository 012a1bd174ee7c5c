"""attnzoo: attention blocks by name, from YAML, with pretrained weights and proof.

The names below are loaded when they are first used: ``import attnzoo`` imports neither torch nor any plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnzoo.api import build, create, list_blocks, load, register, save
    from attnzoo.card import Card, read_cards
    from attnzoo.hookspecs import hookimpl
    from attnzoo.registry import Registry, default_registry
    from attnzoo.spec import Spec, read_spec

__version__ = "0.1.0"

_HOMES = {
    "Card": "attnzoo.card",
    "Registry": "attnzoo.registry",
    "Spec": "attnzoo.spec",
    "build": "attnzoo.api",
    "create": "attnzoo.api",
    "default_registry": "attnzoo.registry",
    "hookimpl": "attnzoo.hookspecs",
    "list_blocks": "attnzoo.api",
    "load": "attnzoo.api",
    "read_cards": "attnzoo.card",
    "read_spec": "attnzoo.spec",
    "register": "attnzoo.api",
    "save": "attnzoo.api",
}

__all__ = [
    "Card",
    "Registry",
    "Spec",
    "build",
    "create",
    "default_registry",
    "hookimpl",
    "list_blocks",
    "load",
    "read_cards",
    "read_spec",
    "register",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    message = f"module 'attnzoo' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
