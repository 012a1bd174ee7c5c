"""What attnzoo-sequence offers: its cards and its registry file. Imports no torch."""

from pathlib import Path

from attnzoo import Card, hookimpl, read_cards


@hookimpl
def attnzoo_cards() -> list[Card]:
    """Return the cards that lie beside the blocks of this package."""
    return read_cards(__package__)


@hookimpl
def attnzoo_registry_files() -> list[Path]:
    """Return the registry file of this package."""
    return [Path(__file__).with_name("registry.yaml")]
