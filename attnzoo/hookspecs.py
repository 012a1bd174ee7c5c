"""What a plugin may provide. Each hook is documented here and in ``docs/reference/hooks.md``.

A plugin is an installed distribution with an entry point in the group ``attnzoo``; the entry point's name is the
plugin's name (``vision`` in ``vision/se``), its value a light module that imports no torch and holds functions marked
with ``@attnzoo.hookimpl``.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from attnzoo.card import Card
    from attnzoo.hosts import HostFamily

__all__ = ["GROUP", "HOOKS", "attnzoo_cards", "attnzoo_hosts", "attnzoo_registry_files", "hookimpl", "hookspec"]

GROUP = "attnzoo"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def attnzoo_cards() -> "list[Card]":
    """Return the cards of the plugin's blocks, as a rule ``attnzoo.read_cards("my_package")``."""
    raise NotImplementedError


@hookspec
def attnzoo_registry_files() -> list[Path]:
    """Return the paths of the plugin's registry files: pretrained weights of its blocks, with licence and sha256."""
    raise NotImplementedError


@hookspec
def attnzoo_hosts() -> "list[HostFamily]":
    """Return host families: named places for blocks in the models of a library, and a way to build its models."""
    raise NotImplementedError


HOOKS = ("attnzoo_cards", "attnzoo_registry_files", "attnzoo_hosts")
