"""Files as people have them: read right, or refused with a text that says what they are; nothing is half-written."""

import argparse
import collections
import json
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import attnzoo
from attnzoo.cli import main
from attnzoo.errors import ArgumentError, AttnZooError, LoadError, NameNotFound, UnsafeFile, WeightsError
from attnzoo.weights.checkpoint import open_checkpoint
from attnzoo.weights.extract import extract
from attnzoo.weights.header import read_header
from attnzoo.weights.scan import scan

SHAPES = {"fc1.weight": (4, 32, 1, 1), "fc1.bias": (4,), "fc2.weight": (32, 4, 1, 1), "fc2.bias": (32,)}
THEIRS = {"channels": 32, "rd_channels": 4}


def se(site="a.se", dtype=torch.float32, **changed):
    torch.manual_seed(0)
    tensors = {k: torch.randn(s).to(dtype) for k, s in SHAPES.items()} | changed
    return {f"{site}.{k}" if site else k: v for k, v in tensors.items()}


def bias(tensor):
    return {**se(), "a.se.fc1.bias": tensor}


def saved(tmp_path, data, **options):
    path = tmp_path / "x.pth"
    torch.save(data, path, **options)
    return path


def sites(path):
    return [f.site for f in scan(open_checkpoint(path), attnzoo.default_registry())]


def cut(path, site="a.se"):
    out = path.parent / "out.safetensors"
    extract(path, site, out, attnzoo.default_registry())
    return attnzoo.load(out)


def refusal(path, kind=AttnZooError, use=open_checkpoint):
    with pytest.raises(kind) as caught:
        use(path)
    assert not (path.parent / "out.safetensors").exists()
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64]
)
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_tensors_keep_the_type_they_are_stored_in(tmp_path, dtype, save):
    path = tmp_path / "x.bin"
    save(se(dtype=dtype), path)
    for block in (cut(path), attnzoo.load_foreign(path, "se", "timm", site="a.se", **THEIRS)):
        found = block.state_dict()["squeeze.bias"]
        assert found.dtype == dtype
        assert torch.equal(found.float(), se(dtype=dtype)["a.se.fc1.bias"].float())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state},
        lambda state: {"ema": {"shadow": state}},
        lambda state: {"models": [state], "losses": [0.1, 0.2]},
        lambda state: {
            "state_dict": state,
            "epoch": 3,
            "optimizer": {"state": {0: {"m": torch.ones(2)}}, "param_groups": []},
        },
        lambda state: {"state_dict": state, "rng": [torch.ones(3)], "device": torch.device("cuda:1"), "seen": {1, 2}},
        lambda state: collections.OrderedDict((k, torch.nn.Parameter(v)) for k, v in state.items()),
    ],
)
def test_a_state_dict_is_found_wherever_it_lies(tmp_path, wrap):
    path = saved(tmp_path, wrap(se()))
    found = [s for s in sites(path) if s.endswith("a.se")]
    assert len(found) == 1
    assert torch.equal(cut(path, found[0]).state_dict()["squeeze.bias"], se()["a.se.fc1.bias"])


def test_a_block_that_is_the_whole_file_has_the_empty_site(tmp_path):
    path = saved(tmp_path, se(""))
    assert sites(path) == [""]
    assert torch.equal(cut(path, "").state_dict()["squeeze.bias"], se("")["fc1.bias"])


@pytest.mark.parametrize("front", ["module", "module.model", "_orig_mod", "module._orig_mod"])
def test_a_site_without_the_prefix_of_the_file_is_answered_with_the_one_that_is_meant(tmp_path, front):
    path = saved(tmp_path, se(f"{front}.a.se"))
    assert sites(path) == [f"{front}.a.se"]
    text = refusal(path, NameNotFound, cut)
    assert text == f"no block found at 'a.se'; did you mean '{front}.a.se'?"
    with pytest.raises(WeightsError, match=f"no tensor below 'a.se'; did you mean '{front}.a.se'"):
        attnzoo.load_foreign(path, "se", "timm", site="a.se", **THEIRS)


def test_a_tensor_without_numbers_does_no_harm(tmp_path):
    path = saved(tmp_path, se() | {"a.spare": torch.empty(0, 8)})
    assert sites(path) == ["a.se"]
    assert open_checkpoint(path).read(["a.spare"])["a.spare"].shape == (0, 8)


def test_a_type_that_safetensors_has_not_does_no_harm_elsewhere(tmp_path):
    path = saved(tmp_path, se() | {"twiddle": torch.ones(2, dtype=torch.complex128)})
    assert sites(path) == ["a.se"]
    assert open_checkpoint(path).tensors["twiddle"].dtype == "complex128"
    cut(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_weights_stored_as_something_else_than_floating_point_are_refused(tmp_path, dtype):
    path = saved(tmp_path, se(dtype=dtype))
    name = str(dtype).removeprefix("torch.")
    text = (
        f"SE: 'squeeze.weight' is stored as {name}, expected floating point; "
        "convert the checkpoint in the program that made it"
    )
    assert refusal(path, LoadError, cut) == text


def quantized():
    return torch._empty_affine_quantized((4,), scale=0.1, zero_point=0, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (quantized, "sparse or quantized"),
        (lambda: torch.ones(4).to_sparse(), "sparse or quantized"),
        (lambda: torch.ones(4, device="meta"), "on the meta device"),
    ],
)
def test_a_tensor_that_is_no_plain_memory_is_named_when_it_is_needed(tmp_path, make, kind):
    path = saved(tmp_path, bias(make()))
    text = (
        f"tensor 'a.se.fc1.bias' is {kind}, expected a dense tensor with values; "
        "convert it in the program that made the file"
    )
    assert sites(path) == ["a.se"]
    assert refusal(path, WeightsError, cut) == text
    with pytest.raises(WeightsError, match="convert it in the program that made the file"):
        attnzoo.load_foreign(path, "se", "timm", site="a.se", **THEIRS)


def test_two_tensors_of_one_name_are_refused(tmp_path):
    path = saved(tmp_path, {"a": {"b.c": torch.ones(1)}, "a.b": {"c": torch.zeros(1)}})
    assert refusal(path) == "two tensors are called 'a.b.c', expected one; save one state dict alone"


def test_a_dictionary_within_itself_ends(tmp_path):
    knot = {"t": torch.ones(1)}
    knot |= {f"k{i}": knot for i in range(9)}
    assert refusal(saved(tmp_path, knot)) == "over 500000 entries, expected a state dict; save the state dict alone"


@pytest.mark.parametrize("data", [None, {}, [1, 2], {"epoch": 3}])
def test_a_torch_file_without_tensors_is_refused(tmp_path, data):
    assert refusal(saved(tmp_path, data)) == "no tensors in it, expected a state dict"


class Odd(collections.OrderedDict):
    pass


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("data", "name"),
    [
        (Odd(a=torch.ones(1)), f"{__name__}.Odd"),
        ({"state": {"a": torch.ones(1)}, "best": np.float64(0.5)}, "numpy._core.multiarray.scalar"),
        ({"state": {"a": torch.ones(1)}, "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
        ({"state": {"a": torch.ones(1)}, "meters": collections.defaultdict(list)}, "collections.defaultdict"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_a_class_in_a_torch_file_is_refused_by_its_name(tmp_path, data, name, legacy):
    path = saved(tmp_path, data, _use_new_zipfile_serialization=not legacy)
    assert refusal(path, UnsafeFile) == (
        f"needs the class {name}, which attnzoo does not unpickle, expected tensors and plain data only; "
        "save the state dict alone in the program that made it"
    )


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("keep", [0.2, 0.7, 0.99])
def test_a_torch_file_that_was_cut_off_is_refused(tmp_path, legacy, keep):
    path = saved(tmp_path, se(), _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    assert refusal(path, WeightsError).startswith("not a whole torch file (")


def test_no_room_is_made_for_a_text_that_is_longer_than_its_torch_file(tmp_path):
    path = saved(tmp_path, se(), _use_new_zipfile_serialization=False)
    text = b"X\x0d\0\0\0little_endian"
    assert text in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(text, b"X\0\0\0\x7flittle_endian"))
    tracemalloc.start()
    try:
        assert refusal(path, WeightsError).startswith("not a whole torch file (")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("x.pt", b"", "is empty, expected a checkpoint; fetch it again"),
        ("x.pt", b"my notes", "begins with b'my notes', expected a safetensors, torch (weights only) or ONNX file"),
        (
            "x.pt",
            b"<!DOCTYPE html><html>",
            "a web page or XML, expected weights; what was fetched is not the file itself",
        ),
        (
            "x.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
            "a Git LFS pointer, expected the file that it stands for; run: git lfs pull",
        ),
        (
            "x.safetensors",
            b"\x10\0\0",
            "not a whole safetensors file (the header is longer than the file); nothing was loaded",
        ),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, name, data, text):
    path = tmp_path / name
    path.write_bytes(data)
    assert refusal(path) == text


@pytest.mark.parametrize(
    ("legacy", "kind"), [(False, "a torch file or another zip archive"), (True, "a torch file of the old kind")]
)
def test_loading_another_librarys_file_points_to_scan(tmp_path, legacy, kind):
    path = saved(tmp_path, se(), _use_new_zipfile_serialization=not legacy)
    assert refusal(path, WeightsError, attnzoo.load) == f"{kind}, expected a safetensors file; see: attnzoo scan {path}"


def test_loading_a_folder_points_to_scan(tmp_path):
    with pytest.raises(WeightsError) as caught:
        attnzoo.load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: a folder, expected a safetensors file; see: attnzoo scan {tmp_path}"


def test_a_folder_without_a_model_names_a_file_in_it(tmp_path):
    save_file(se(), tmp_path / "part.safetensors")
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: a folder without model.safetensors.index.json or model.safetensors, expected a checkpoint; "
        "name one of its files, such as part.safetensors"
    )


def test_an_index_whose_files_are_not_all_there_is_refused(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    save_file(se(), tmp_path / "1.safetensors")
    weight_map = dict.fromkeys(se(), "1.safetensors") | {"b.weight": "2.safetensors"}
    path.write_text(json.dumps({"weight_map": weight_map}))
    text = "weight_map: 'b.weight' is in 2.safetensors, which is not beside the index; fetch that file too"
    assert refusal(path) == text


def test_a_file_without_tensors_has_no_sites(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({}, path)
    assert sites(path) == []
    save_file({"ids": torch.arange(5), "step": torch.tensor(3)}, path)
    assert sites(path) == []


def test_a_name_that_cannot_be_printed_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    text = b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    reason = "a tensor's name is not valid text); nothing was loaded"
    assert refusal(path, WeightsError, read_header) == f"not a whole safetensors file ({reason}"
    assert (
        refusal(saved(tmp_path, {"\ud800": torch.ones(1)})) == "a tensor's name is not valid text; nothing was loaded"
    )


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [2**62, 0, 2**62]])
def test_sizes_that_overflow_are_refused(tmp_path, shape):
    path = tmp_path / "x.safetensors"
    text = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    reason = f"tensor 'a' has sizes {shape}, which no tensor can have); nothing was loaded"
    assert refusal(path, WeightsError) == f"not a whole safetensors file ({reason}"


def test_a_path_that_is_none_is_refused():
    with pytest.raises(WeightsError, match=r"cannot be read \(embedded null byte\)"):
        open_checkpoint("a\0b")


def test_a_value_that_the_block_does_not_take_is_refused_by_name(tmp_path):
    path, out = saved(tmp_path, se()), tmp_path / "out.safetensors"
    with pytest.raises(ArgumentError) as caught:
        extract(path, "a.se", out, attnzoo.default_registry(), arguments={"gate": "sigmiod"})
    assert str(caught.value).startswith("block 'vision/se': argument 'gate' is 'sigmiod', expected 'sigmoid'")
    assert not out.exists()


def test_a_checkpoint_is_not_written_over(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(se(), path)
    before = path.read_bytes()
    result = CliRunner().invoke(main, ["extract", str(path), "a.se", "-o", str(path)])
    assert result.exit_code == 2
    assert result.output == (
        f"error: {path}: is the checkpoint itself, expected another file to write to; nothing was written\n"
    )
    assert path.read_bytes() == before
