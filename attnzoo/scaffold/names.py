"""The names of a plugin, all from one."""

import re
from dataclasses import dataclass

from attnzoo.card import fold
from attnzoo.errors import PluginError

__all__ = ["LICENCES", "Names", "names_of"]

LICENCES = {
    "Apache-2.0": "Apache-2.0",
    "MIT": "MIT",
    "BSD-3-Clause": "BSD-3-Clause",
    "Proprietary": "LicenseRef-Proprietary",
}
"""Licences that ``attnzoo new`` has the text of, and their SPDX identifiers."""


@dataclass(frozen=True)
class Names:
    """The names of one plugin; `plugin` is the name in specs, such as ``my-attention``."""

    plugin: str

    @property
    def distribution(self) -> str:
        """The name of the distribution, as pip knows it."""
        return f"attnzoo-{self.plugin}"

    @property
    def package(self) -> str:
        """The name of the package, as Python imports it."""
        return self.distribution.replace("-", "_")

    @property
    def class_name(self) -> str:
        """A class name: ``MyAttention``."""
        return "".join(part[:1].upper() + part[1:] for part in self.plugin.split("-"))


def names_of(name: str) -> Names:
    """Return the names that follow from ``name``; a leading ``attnzoo-`` is dropped.

    Raises:
        PluginError: Nothing can be called so.
    """
    plugin = fold(name).removeprefix("attnzoo-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", plugin) or plugin == "local":
        message = f"plugin name {name!r}: expected letters, digits and dashes, a letter first, as in 'my-attention'"
        raise PluginError(message)
    return Names(plugin)
