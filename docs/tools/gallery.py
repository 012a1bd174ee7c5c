"""Write docs/blocks/<plugin>-<domain>.md, a page a family, from the cards, the docstrings and docs/evidence.json.

python docs/tools/gallery.py          # write
python docs/tools/gallery.py --check  # exit 1 if a page is not what the cards say
"""

import argparse
import inspect
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import attnzoo
from attnzoo.registry import Entry

DOCS = Path(__file__).parents[1]
NOTE = "<!-- Written by docs/tools/gallery.py from cards, docstrings and docs/evidence.json. -->"
FIRST_PARTY = ("vision", "sequence")


def pages() -> dict[str, str]:
    """Return every page by its path below docs/."""
    evidence = json.loads((DOCS / "evidence.json").read_text())
    families: dict[str, list[Entry]] = defaultdict(list)
    for entry in attnzoo.default_registry():
        if entry.plugin.name in FIRST_PARTY:
            family = entry.card.module.split(".")[1].replace("_", "-")
            families[f"{entry.plugin.name}-{family}"].append(entry)
    result = {f"blocks/{family}.md": _page(family, entries, evidence) for family, entries in sorted(families.items())}
    result["blocks/README.md"] = _index(families)
    return result


def _index(families: dict[str, list[Entry]]) -> str:
    lines = [NOTE, "# The blocks", ""]
    for family, entries in sorted(families.items()):
        lines.append(f"- [{family}]({family}.md): {', '.join(e.card.name for e in entries)}")
    total = sum(map(len, families.values()))
    return "\n".join([*lines, "", f"{total} blocks. `attnzoo show <name>` prints one with its arguments."]) + "\n"


def _page(family: str, entries: list[Entry], evidence: dict[str, Any]) -> str:
    parts = [NOTE, f"# {family}"]
    parts += [_section(entry, evidence.get(entry.id, {})) for entry in entries]
    return "\n\n".join(parts) + "\n"


def _section(entry: Entry, evidence: dict[str, Any]) -> str:
    card = entry.card
    paper = ", ".join(str(v) for v in card.paper.values())
    origin = ", ".join(str(v) for v in card.origin.values())
    rows = [
        f"## {entry.id}",
        card.summary,
        f"```text\n{_docstring(card.load_class())}\n```",
        f"- shape: `{card.shape}`",
    ]
    facts = [f"- map `{name}`: `{shape}`" for name, shape in card.maps.items()]
    facts += [f"- paper: {paper}"] if paper else []
    facts += [f"- origin: {origin}"] if origin else []
    facts += [f"- {card.notes}"] if card.notes else []
    facts.append(f"- dialects: {', '.join(card.dialects) or 'none'}")
    rows[-1] += "\n" + "\n".join(facts)
    return "\n\n".join([*rows, _evidence(evidence)])


def _docstring(cls: type) -> str:
    return inspect.getdoc(cls) or ""


def _evidence(evidence: dict[str, Any]) -> str:
    if not evidence:
        return "No golden file: `tests/golden/without-golden.yaml` says why."
    lines = [
        "| compared with | files | output | input gradient | maps |",
        "|---|---:|---:|---:|---:|",
    ]
    for dialect, files in evidence.items():
        worst = [_worst(files.values(), kind) for kind in ("output", "grad_input", "map")]
        lines.append(f"| {dialect} | {len(files)} | {' | '.join(worst)} |")
    return "Largest error, relative to the largest entry:\n\n" + "\n".join(lines)


def _worst(files: Any, kind: str) -> str:
    errors = [f[kind] for f in files if f[kind] is not None]
    return f"{max(errors):.0e}" if errors else "-"


def run() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = pages()
    stale = [p for p, text in wanted.items() if not (DOCS / p).exists() or (DOCS / p).read_text() != text]
    extra = [p for p in (DOCS / "blocks").glob("*.md") if f"blocks/{p.name}" not in wanted]
    if check and (stale or extra):
        sys.exit(f"not what the cards say: {[*stale, *map(str, extra)]}; run python docs/tools/gallery.py")
    (DOCS / "blocks").mkdir(exist_ok=True)
    for path in stale:
        (DOCS / path).write_text(wanted[path])
    for file in extra:
        file.unlink()


if __name__ == "__main__":
    run()
