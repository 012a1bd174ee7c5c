"""What attnzoo-acme offers: its cards and its registry file. Imports no torch."""

from pathlib import Path

from attnzoo import Card, hookimpl, read_cards


@hookimpl
def attnzoo_cards() -> list[Card]:
    return read_cards(__package__)


@hookimpl
def attnzoo_registry_files() -> list[Path]:
    return [Path(__file__).with_name("registry.yaml")]
