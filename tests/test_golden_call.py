"""How a golden file's call and outputs are read."""

import json

import pytest
import torch
from safetensors.torch import save_file

from attnzoo.card import Dialect
from attnzoo.golden.call import their_outputs
from attnzoo.golden.compare import GRADIENT_TOLERANCE, Comparison, compare, without_rounding
from attnzoo.golden.files import GoldenFile, read_golden

WHOLE = torch.arange(2 * 14 * 3.0).view(2, 14, 3)


def golden(metadata=None, **outputs):
    return GoldenFile("file.safetensors", {"call": "", **(metadata or {})}, {"output": outputs}, {})


def dialect():
    return Dialect(name="theirs", origin={"code": "formula"}, signature={}, args={}, tensors={})


def test_outputs_that_are_consecutive_pieces_of_ours_are_cut_from_it():
    lengths = {"prefill": 3, **{f"step{i}": 1 for i in range(11)}}
    stored = {key: torch.zeros(2, length, 3) for key, length in lengths.items()}
    found = their_outputs(golden(**stored), dialect(), (WHOLE, None), {"output": WHOLE})
    assert torch.equal(found["prefill"], WHOLE[:, :3])
    assert torch.equal(found["step2"], WHOLE[:, 5:6])
    assert torch.equal(found["step10"], WHOLE[:, 13:])


def test_outputs_of_other_shapes_are_ours_in_order():
    stored = {"a": torch.zeros(2, 14, 3), "b": torch.zeros(2)}
    names = {"output": WHOLE, "output_0": WHOLE, "output_1": torch.ones(2)}
    found = their_outputs(golden(**stored), dialect(), (WHOLE, torch.ones(2)), names)
    assert found["b"] is names["output_1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"recurrence": 2}), {"recurrence": 2}),
        ("need_weights=True, average_attn_weights=False", {"need_weights": True, "average_attn_weights": False}),
        ("x, mask", {}),
        ("a=open('x')", {}),
        ("no ( call", {}),
        ("", {}),
    ],
)
def test_call_arguments_are_json_or_keywords_of_plain_values(text, expected):
    assert golden({"call_arguments": text}).call == expected


def test_a_gradient_that_is_exactly_zero_may_carry_rounding():
    assert compare("grad_input", torch.full((3,), 1e-8), torch.zeros(3), GRADIENT_TOLERANCE).ok


def test_a_wrong_small_tensor_is_not_let_off():
    assert not compare("output", torch.full((3,), 1e-4), torch.full((3,), 2e-4)).ok


def test_rounding_is_what_float64_brings_within_the_tolerance():
    over, exact = Comparison("output", 9e-5, 2e-5), Comparison("output", 1e-7, 2e-5)
    (kept,) = without_rounding([over], lambda: [exact])
    assert (kept.ok, kept.error, kept.note) == (True, 1e-7, "in float64")


def test_an_error_far_over_the_tolerance_is_no_rounding():
    over = Comparison("output", 1e-2, 2e-5)
    assert without_rounding([over], lambda: [Comparison("output", 0.0, 2e-5)]) == [over]


def test_a_difference_that_float64_has_too_is_kept():
    over = Comparison("output", 9e-5, 2e-5)
    assert without_rounding([over], lambda: [over]) == [over]


def test_a_block_without_float64_keeps_its_result():
    over = Comparison("output", 9e-5, 2e-5)
    assert without_rounding([over], lambda: 1 / 0) == [over]


def test_a_whole_state_after_the_step_is_told_by_its_prefix(tmp_path):
    before = {"state.bn.weight": torch.ones(2), "state.bn.running_mean": torch.zeros(2)}
    later = {key.replace("state.", "state.after."): tensor + 1 for key, tensor in before.items()}
    path = tmp_path / "block--reference--a.safetensors"
    save_file({"output": torch.zeros(1), **before, **later}, path, metadata={"constructor": "{}"})
    golden = read_golden(path)
    assert set(golden.groups["state"]) == {"bn.weight", "bn.running_mean"}
    assert golden.after["bn.running_mean"].sum() == 2


@pytest.mark.parametrize("name", ["lateral", "post_attention", "outpost"])
def test_a_submodule_with_the_same_names_is_no_state_after_the_step(tmp_path, name):
    keys = ["conv.weight", "conv.bias", f"{name}.conv.weight", f"{name}.conv.bias"]
    path = tmp_path / "block--reference--a.safetensors"
    state = {f"state.{key}": torch.ones(2) for key in keys}
    save_file({"output": torch.zeros(1), **state}, path, metadata={"constructor": "{}"})
    golden = read_golden(path)
    assert set(golden.groups["state"]) == set(keys)
    assert not golden.after


@pytest.mark.parametrize(
    "prefix", ["state_after", "after", "output.state", "output.after", "state.after", "buffer_after"]
)
def test_buffers_after_the_step_are_known_under_any_prefix(tmp_path, prefix):
    tensors = {"input": torch.zeros(1), "output": torch.zeros(1), "output.state": torch.ones(1)}
    tensors |= {"state.bn.weight": torch.ones(2), "state.bn.running_mean": torch.zeros(2)}
    tensors |= {f"{prefix}.bn.running_mean": torch.ones(2), "grad_state.bn.weight": torch.ones(2)}
    path = tmp_path / "block--reference--a.safetensors"
    save_file(tensors, path, metadata={"constructor": "{}"})
    golden = read_golden(path)
    assert list(golden.after) == ["bn.running_mean"]
    assert golden.after["bn.running_mean"].sum() == 2
    assert set(golden.groups["state"]) == {"bn.weight", "bn.running_mean"}
    assert set(golden.groups["output"]) == {"", "state"}
