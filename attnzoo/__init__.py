"""attnzoo: attention blocks by name, from YAML, with pretrained weights and proof.

The names below are loaded when they are first used: ``import attnzoo`` imports neither torch nor any plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnzoo.allocator import keep_freed_memory
    from attnzoo.api import (
        build,
        create,
        export,
        insert,
        list_blocks,
        load,
        load_foreign,
        load_inserted,
        register,
        save,
        swap,
    )
    from attnzoo.card import Card, read_cards
    from attnzoo.hookspecs import hookimpl
    from attnzoo.registry import Registry, default_registry
    from attnzoo.spec import Spec
    from attnzoo.spec_reader import read_spec
    from attnzoo.surgery import (
        disable,
        disabled,
        enable,
        inserted,
        parameter_groups,
        remove,
        save_inserted,
        train_only_inserted,
    )

__version__ = "0.1.0"

_HOMES = {
    "Card": "attnzoo.card",
    "Registry": "attnzoo.registry",
    "Spec": "attnzoo.spec",
    "build": "attnzoo.api",
    "create": "attnzoo.api",
    "default_registry": "attnzoo.registry",
    "disable": "attnzoo.surgery",
    "disabled": "attnzoo.surgery",
    "enable": "attnzoo.surgery",
    "export": "attnzoo.api",
    "hookimpl": "attnzoo.hookspecs",
    "insert": "attnzoo.api",
    "inserted": "attnzoo.surgery",
    "keep_freed_memory": "attnzoo.allocator",
    "list_blocks": "attnzoo.api",
    "load": "attnzoo.api",
    "load_foreign": "attnzoo.api",
    "load_inserted": "attnzoo.api",
    "parameter_groups": "attnzoo.surgery",
    "read_cards": "attnzoo.card",
    "read_spec": "attnzoo.spec_reader",
    "register": "attnzoo.api",
    "remove": "attnzoo.surgery",
    "save": "attnzoo.api",
    "save_inserted": "attnzoo.surgery",
    "swap": "attnzoo.api",
    "train_only_inserted": "attnzoo.surgery",
}

__all__ = [
    "Card",
    "Registry",
    "Spec",
    "build",
    "create",
    "default_registry",
    "disable",
    "disabled",
    "enable",
    "export",
    "hookimpl",
    "insert",
    "inserted",
    "keep_freed_memory",
    "list_blocks",
    "load",
    "load_foreign",
    "load_inserted",
    "parameter_groups",
    "read_cards",
    "read_spec",
    "register",
    "remove",
    "save",
    "save_inserted",
    "swap",
    "train_only_inserted",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    message = f"module 'attnzoo' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
