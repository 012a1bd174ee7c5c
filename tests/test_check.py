"""``attnzoo check`` on files, folders and plugins: the eight failures of popular collections, and its reports."""

import json
import textwrap

import pytest
from click.testing import CliRunner

from attnzoo.cli import main

HEAD = """
import torch
from torch import nn

class {name}(nn.Module):
    def __init__(self, {arguments}):
        super().__init__()
"""
GATE = "self.gate = nn.Linear(channels, channels)"
WEIGHT = "torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]"


@pytest.fixture
def check(tmp_path):
    """Return a function that writes a class to a file, checks the file and returns exit code and output."""

    def run(name, init, forward, *options, arguments="channels", fast=True):
        text = HEAD.format(name=name, arguments=arguments)
        text += (
            textwrap.indent(textwrap.dedent(init), " " * 8) + "\n" + textwrap.indent(textwrap.dedent(forward), " " * 4)
        )
        path = tmp_path / f"{name.lower()}.py"
        path.write_text(text)
        result = CliRunner().invoke(main, ["check", str(path), *(["--fast"] if fast else []), *options])
        return result.exit_code, result.output

    return run


def failure(output, name):
    """Return the three lines of a failed check: what, with what input, how to mend it."""
    lines = output.splitlines()
    hits = [i for i, line in enumerate(lines) if line.startswith("FAIL") and f" {name}: " in line]
    assert len(hits) == 1, output
    return lines[hits[0]], lines[hits[0] + 1].strip(), next(x for x in lines[hits[0] :] if "to mend" in x).strip()


def test_layers_in_a_python_list_are_found(check):
    code, output = check(
        "HiddenLayers",
        f"{GATE}\nself.branches = [nn.Conv2d(channels, channels, 1) for _ in range(2)]",
        f"def forward(self, x):\n    return sum(b(x) for b in self.branches) * {WEIGHT}\n",
    )
    found, _, mend = failure(output, "gradients")
    assert code == 1
    assert "the layers in the Python list, tuple or dict 'branches' are not registered" in found
    assert mend == "to mend: keep them in nn.ModuleList, nn.ModuleDict or nn.Sequential"


def test_an_overwritten_input_is_found_with_the_smallest_input(check):
    code, output = check("Overwrites", GATE, f"def forward(self, x):\n    return x.mul_({WEIGHT})\n")
    found, given, mend = failure(output, "input_unchanged")
    assert code == 1
    assert found.endswith("forward changed its input 'x'")
    assert given == "with {'channels': 32} and x (1, 32, 1, 1) float32"
    assert mend == "to mend: work on a new tensor; no in-place operation on the input or a view of it"


def test_a_softmax_over_the_batch_is_found(check):
    code, output = check(
        "OverBatch",
        GATE,
        "def forward(self, x):\n    return x * self.gate(x.mean((2, 3))).softmax(0)[..., None, None]\n",
    )
    found, _, mend = failure(output, "samples_do_not_mix")
    assert code == 1
    assert "of a batch changes by" in found
    assert mend == "to mend: look for a softmax, mean or norm over the batch axis"


def test_a_hard_coded_size_is_found_and_named(check):
    code, output = check(
        "FixedSize",
        "self.place = nn.Parameter(torch.ones(49, channels))",
        "def forward(self, x):\n    return x * self.place.T.reshape(1, -1, 7, 7)\n",
    )
    found, _, mend = failure(output, "shapes")
    assert code == 1
    assert "forward takes 'n c h w' of size 7 x 7 and refuses 6 x 5" in found
    assert mend.startswith("to mend: take sizes from the input (x.shape) instead of constants")


def test_a_constant_of_fixed_type_is_found(check):
    code, output = check(
        "FixedType", GATE, f"def forward(self, x):\n    return x * {WEIGHT} + torch.ones(1, x.shape[1], 1, 1)\n"
    )
    found, _, mend = failure(output, "bfloat16")
    assert code == 1
    assert "torch.bfloat16 in, torch.float32 out" in found
    assert mend.startswith("to mend: make constants with the type of the input")


def test_a_constant_that_forward_multiplies_with_is_found(check):
    code, output = check(
        "FixedMatrix", GATE, f"def forward(self, x):\n    return x @ torch.eye(x.shape[3]) * {WEIGHT}\n"
    )
    found, _, mend = failure(output, "float64")
    assert code == 1
    assert "forward raised RuntimeError" in found
    assert mend.startswith("to mend: make constants with the type of the input")


def test_a_dead_parameter_is_found(check):
    code, output = check(
        "DeadParameter",
        f"{GATE}\nself.scale = nn.Parameter(torch.ones(1))",
        f"def forward(self, x):\n    return x * {WEIGHT}\n",
    )
    found, _, mend = failure(output, "gradients")
    assert code == 1
    assert found.endswith("parameter 'scale' gets no gradient")
    assert mend == "to mend: use it in forward, or do not create it"


def test_a_crash_in_backward_is_found(check):
    code, output = check(
        "BackwardCrash",
        GATE,
        f"def forward(self, x):\n    y = torch.exp(x * {WEIGHT})\n    y += 1\n    return y\n",
    )
    found, _, mend = failure(output, "gradients")
    assert code == 1
    assert "backward raised one of the variables needed for gradient computation" in found
    assert mend == "to mend: look for tensors that are changed in place after they were used"


MASKED = """
def forward(self, query, mask=None):
    scores = self.proj(query) @ query.transpose(1, 2)
    if mask is not None:
        scores = {how}
    return scores.softmax(-1) @ query
"""


def test_a_mask_read_the_wrong_way_round_is_found(check):
    how = "scores.masked_fill(mask[:, None], -1e4)"
    init = "self.proj = nn.Linear(embed_dim, embed_dim)"
    code, output = check("WrongMask", init, MASKED.format(how=how), arguments="embed_dim")
    found, _, mend = failure(output, "masks")
    assert code == 1
    assert "a masked key changes the output by" in found
    assert mend.startswith("to mend: True means may attend")


def test_a_mask_that_changes_nothing_is_found(check):
    init = "self.proj = nn.Linear(embed_dim, embed_dim)"
    code, output = check("NoMask", init, MASKED.format(how="scores + 0 * mask[:, None]"), arguments="embed_dim")
    assert code == 1
    assert "a masked key changes the output by" in failure(output, "masks")[0]


GOOD = f"def forward(self, x):\n    return x * {WEIGHT}\n"
REFUSES = "if channels < 1:\n    raise ValueError(f'Good: channels={channels}, expected at least 1')\n"


def test_a_good_file_passes_and_says_what_was_guessed(check):
    code, output = check("Good", REFUSES + GATE, GOOD, arguments="channels: int = 512")
    assert code == 0, output
    assert output.splitlines() == [
        "note good.py:Good: Good(channels=32), shape 'n c h w -> n c h w' (guessed; see --args, --shape, --axes)",
        "16 passed, 0 failed, 0 exempt",
    ]


def test_json_has_notes_and_outcomes(check):
    code, output = check("GoodJson", REFUSES + GATE, GOOD, "--json")
    data = json.loads(output)
    assert code == 0
    assert {o["status"] for o in data["outcomes"]} == {"passed"}
    assert data["notes"][0].startswith("goodjson.py:GoodJson")


def test_an_argument_that_cannot_be_guessed_is_asked_for(check):
    code, output = check("Odd", "self.x = flavour", "def forward(self, x):\n    return x\n", arguments="flavour")
    assert code == 2
    assert output == (
        "error: Odd: no value known for the argument 'flavour', expected it to be said; add --args '{flavour: …}'\n"
    )


def test_arguments_and_shape_can_be_said(check):
    code, output = check(
        "Said",
        "self.proj = nn.Linear(flavour, 2 * flavour)",
        "def forward(self, x):\n    return self.proj(x)\n",
        *("--args", "{flavour: 8}", "--shape", "n l c -> n l d", "--axes", "{c: flavour, d: 2 * flavour}"),
        arguments="flavour",
    )
    assert "Said(flavour=8), shape 'n l c -> n l d'" in output
    assert code == 0, output


def test_a_constructor_that_raises_is_a_failure(check):
    code, output = check("Raises", "raise KeyError('x')", "def forward(self, x):\n    return x\n")
    assert code == 1
    assert "Raises(channels=32) raised KeyError: 'x'" in failure(output, "shapes")[0]


def test_a_file_that_cannot_be_imported_is_an_error(tmp_path):
    path = tmp_path / "broken_file.py"
    path.write_text("import nothing_of_that_name\n")
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 2
    assert f"error: {path}: cannot be imported (ModuleNotFoundError" in result.output


def test_helpers_are_left_out_unless_they_are_named(tmp_path):
    path = tmp_path / "pair.py"
    path.write_text(
        "from torch import nn\n\nclass Inner(nn.Identity):\n    pass\n\nclass Outer(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.inner = Inner()\n"
        "    def forward(self, x):\n        return self.inner(x)\n"
    )
    result = CliRunner().invoke(main, ["check", str(path), "--fast"])
    assert result.output.startswith("note helpers of other classes, not checked on their own: Inner")
    result = CliRunner().invoke(main, ["check", f"{path}:Inner", "--fast"])
    assert "note pair.py:Inner: Inner(), shape 'n c h w -> n c h w'" in result.output
    result = CliRunner().invoke(main, ["check", f"{path}:Iner", "--fast"])
    assert result.output == f"error: {path}: no nn.Module class 'Iner'; did you mean 'Inner'?\n"


def test_a_folder_with_a_package_is_checked_without_being_installed(tmp_path):
    package = tmp_path / "attnzoo_folder_case"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "keep.py").write_text("from torch import nn\n\nclass Keep(nn.Identity):\n    pass\n")
    (package / "keep.yaml").write_text(
        "name: keep\nclass: Keep\nsummary: S.\ndomain: mixed\nshape: 'n c h w -> n c h w'\nexample: {}\n"
    )
    (package / "bad.yaml").write_text("name: bad\n")
    result = CliRunner().invoke(main, ["check", str(tmp_path), "--fast"])
    assert "FAIL card bad.yaml card:" in result.output
    assert "16 passed, 1 failed, 0 exempt" in result.output


def test_a_plugin_is_checked_by_its_distribution_and_package(attnzoo_registry):
    import attnzoo_vision.plugin
    from attnzoo.errors import NameNotFound
    from attnzoo.registry import default_registry
    from attnzoo.testing.target import resolve_target

    attnzoo_registry(vision=attnzoo_vision.plugin)
    by_package = resolve_target("attnzoo_vision", default_registry()).subjects
    assert len(by_package) == len(resolve_target("vision", default_registry()).subjects) > 10
    with pytest.raises(NameNotFound, match="no block named 'attnzoo_vison'"):
        resolve_target("attnzoo_vison", default_registry())
