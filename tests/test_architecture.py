"""Who may import whom, read from the code's syntax trees."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "attnzoo"
PLUGINS = {p.name: p for p in (ROOT / "plugins").iterdir() if (p / "pyproject.toml").exists()}

# Lower layers first: a module may import, when it is itself imported, only from its own layer or a lower one.
LAYERS = [
    {"errors"},
    {"yaml_reader", "constructed", "hookspecs"},
    {"expression"},
    {"card_checks", "shape"},
    {"card"},
    {"project"},
    {"plugins", "arguments"},
    {"registry"},
    {"spec", "spec_reader", "weights", "surgery", "compose", "schema", "search", "installing", "allocator", "layers"},
    {"builder", "doctor", "golden", "hosts"},
    {"insertion", "lock", "scaffold"},
    {"api", "testing", "demo"},
    {"cli"},
]
# Layers above their own that a package may use all the same, each for a reason.
ALLOWED = {
    ("weights", "builder"): "the store builds the block that a file describes",
}


def imports(path, top_level_only=True):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module == "attnzoo":
                yield from (f"attnzoo.{a.name}" for a in node.names)


def unit(path):
    parts = path.relative_to(CORE).with_suffix("").parts
    return parts[0]


def layer(name):
    return next((i for i, names in enumerate(LAYERS) if name in names), None)


CORE_FILES = sorted(p for p in CORE.rglob("*.py") if p.parent != CORE or p.stem not in ("__init__", "__main__"))


def test_every_core_module_has_its_layer():
    known = set().union(*LAYERS)
    found = {unit(p) for p in CORE_FILES} | {"registry"}
    extra = found - known - {"__init__"}
    assert not extra, f"give these modules a layer in LAYERS: {sorted(extra)}"


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(CORE)))
def test_core_modules_import_only_lower_layers(path):
    mine = unit(path)
    for name in imports(path):
        if name.startswith("attnzoo."):
            other = name.split(".")[1]
            if layer(other) is None or other == mine or (mine, other) in ALLOWED:
                continue
            assert layer(other) <= layer(mine), f"{path.relative_to(ROOT)} imports attnzoo.{other}, a higher layer"


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(CORE)))
def test_core_never_imports_a_plugin(path):
    names = {n.split(".")[0] for n in imports(path, top_level_only=False)}
    assert not names & {f.replace("-", "_") for f in PLUGINS}


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(CORE)))
def test_nothing_but_the_cli_imports_the_cli_or_prints(path):
    if unit(path) == "cli":
        return
    assert not any(n.startswith("attnzoo.cli") for n in imports(path, top_level_only=False))
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls)


HOST_LIBRARIES = {"torchvision", "timm", "ultralytics", "transformers", "segmentation_models_pytorch"}


def plugin_files():
    for folder in PLUGINS.values():
        package = folder / folder.name.replace("-", "_")
        yield from sorted(package.rglob("*.py"))


@pytest.mark.parametrize("path", list(plugin_files()), ids=lambda p: str(p.relative_to(ROOT / "plugins")))
def test_plugins_import_only_torch_and_public_names(path):
    own = path.relative_to(ROOT / "plugins").parts[1]
    standard = set(sys.stdlib_module_names)
    for name in imports(path, top_level_only=False):
        top = name.split(".")[0]
        host_library = own == "attnzoo_hosts" and top in HOST_LIBRARIES
        fits = top in standard or top in ("torch", "attnzoo", own) or host_library
        assert fits, f"{path.relative_to(ROOT)} imports {name}"
        if name.startswith("attnzoo."):
            import attnzoo

            # A plugin of hosts describes places with the types of attnzoo.hosts; blocks read layers by attnzoo.layers.
            assert name.split(".")[1] in [*attnzoo.__all__, "hosts", "errors", "layers"], (
                f"{path.relative_to(ROOT)} imports {name}, which is not public"
            )


@pytest.mark.parametrize("path", list(plugin_files()), ids=lambda p: str(p.relative_to(ROOT / "plugins")))
def test_blocks_take_no_open_keyword_arguments(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "forward"):
            assert node.args.kwarg is None, f"{path.relative_to(ROOT)}:{node.lineno} takes **{node.args.kwarg.arg}"


@pytest.mark.parametrize(
    "code",
    [
        "import attnzoo",
        "import attnzoo; attnzoo.list_blocks()",
        "from attnzoo.cli import main; main(['list'], standalone_mode=False)",
        "from attnzoo.cli import main; main(['plugins'], standalone_mode=False)",
        "from attnzoo.cli import main; main(['weights', 'list'], standalone_mode=False)",
        "import attnzoo.testing, attnzoo.testing.pytest_plugin",
    ],
)
def test_listing_imports_no_torch(code):
    check = "import sys; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules), 'heavy imports'"
    subprocess.run([sys.executable, "-c", f"{code}\n{check}"], check=True, capture_output=True)


def test_modules_stay_within_their_budget():
    for path in [*CORE_FILES, *plugin_files()]:
        lines = len(path.read_text().splitlines())
        assert lines <= 300, f"{path.relative_to(ROOT)}: {lines} lines, budget 300"


def test_functions_stay_within_their_budget():
    for path in [*CORE_FILES, *plugin_files()]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                text = len((ast.get_docstring(node, clean=False) or "").splitlines())
                lines = node.end_lineno - node.lineno + 1 - text
                budget = 40 if node.name == "__init__" else 30
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                assert lines <= budget, f"{place}: {node.name} has {lines} lines beside its docstring, budget {budget}"
