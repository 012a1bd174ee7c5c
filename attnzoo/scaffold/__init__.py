"""Write a plugin package: what ``attnzoo new`` does."""

from attnzoo.scaffold.names import LICENCES, Names, names_of
from attnzoo.scaffold.package import plugin_files, template_card, write_plugin

__all__ = ["LICENCES", "Names", "names_of", "plugin_files", "template_card", "write_plugin"]
