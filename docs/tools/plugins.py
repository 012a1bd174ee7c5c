"""Write the plugin list of registry.yaml from the plugins in this repository, and docs/plugins.md from registry.yaml.

python docs/tools/plugins.py          # write both
python docs/tools/plugins.py --check  # exit 1 if one of them is stale
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from attnzoo.card import Card, read_cards_in
from attnzoo.weights.catalogue import Catalogue, read_registry_file
from attnzoo.yaml_reader import write_yaml

ROOT = Path(__file__).parents[2]
REGISTRY = ROOT / "registry.yaml"
PAGE = ROOT / "docs" / "plugins.md"


def first_party() -> list[dict[str, Any]]:
    """Return an entry for every plugin of this repository: names from its pyproject.toml, blocks from its cards."""
    entries = []
    for path in sorted((ROOT / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        (name,) = project["entry-points"]["attnzoo"]
        sys.path.insert(0, str(path.parent))
        cards = [c for c in read_cards_in(project["name"].replace("-", "_")) if isinstance(c, Card)]
        blocks = sorted({c.name for c in cards})
        summary = project["description"]
        entries.append({"name": name, "distribution": project["name"], "summary": summary, "blocks": blocks})
    return entries


def registry_text(text: str) -> str:
    """Return registry.yaml with the entries of this repository's plugins renewed; all other lines stay as they are."""
    ours = first_party()
    names = {e["distribution"] for e in ours}
    before, _, rest = text.partition("plugins:\n") if re.search(r"^plugins:$", text, re.M) else (text, "", "")
    old = re.match(r"((?:- |  |\n).*?)*(?=^\w|\Z)", rest, re.M | re.S)
    after = rest[old.end() :] if old else rest
    known = read_registry_file(REGISTRY).plugins if text.strip() else ()
    others = [
        {"name": p.name, "distribution": p.distribution, "summary": p.summary, "blocks": list(p.blocks)}
        for p in known
        if p.distribution not in names
    ]
    head = before or "# Known plugins, installed or not, and pretrained weights; docs/plugins.md shows the plugins.\n"
    return head + write_yaml({"plugins": [*ours, *others]}) + (after or "weights: []\n")


def plugins_page(catalogue: Catalogue) -> str:
    """Return the page of known plugins."""
    parts = [
        "<!-- Written by docs/tools/plugins.py from registry.yaml. -->",
        "# Plugins",
        "Plugins that attnzoo knows, installed or not. `attnzoo search TERM` looks through them, and a block that is "
        "not installed is answered with the line that installs it. Installing one runs its code: read it first, or "
        "name in `attnzoo.toml` the plugins that a project may load ([trust](trust.md)).",
    ]
    for plugin in catalogue.plugins:
        parts.append(f"## {plugin.name}")
        parts.append(plugin.summary)
        parts.append(f"```console\n$ attnzoo install {plugin.distribution}\n```")
        if plugin.blocks:
            parts.append(f"{len(plugin.blocks)} blocks: " + ", ".join(f"`{b}`" for b in plugin.blocks) + ".")
    parts.append("## Yours")
    parts.append(
        "Anybody's plugin works once it is installed; nobody has to be asked. To have it listed here and found by "
        "`attnzoo search`, add an entry with `name`, `distribution`, `summary` and `blocks` to `plugins:` in "
        "`registry.yaml`, run `python docs/tools/plugins.py`, and open a pull request. "
        "[How to write one](write-a-plugin.md)."
    )
    return "\n\n".join(parts) + "\n"


def run() -> None:
    """Write both files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for path, make in (
        (REGISTRY, lambda: registry_text(REGISTRY.read_text(encoding="utf-8"))),
        (PAGE, lambda: plugins_page(read_registry_file(REGISTRY))),
    ):
        text = make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"stale: {', '.join(stale)}; run python docs/tools/plugins.py")


if __name__ == "__main__":
    run()
