import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from attnzoo.errors import WeightsError
from attnzoo.weights.files import atomic_write
from attnzoo.weights.header import encode_header, read_header
from attnzoo.weights.tensors import read_tensors, tensor_chunks

TENSORS = {
    "odd": torch.arange(3, dtype=torch.int8),
    "big": torch.randn(300, 128),
    "half": torch.randn(5).half(),
    "brain": torch.randn(7, 3).bfloat16(),
    "flag": torch.tensor([True, False]),
    "count": torch.tensor(7),
    "empty": torch.empty(0, 4),
    "turned": torch.randn(4, 6).T,
}


@pytest.fixture
def theirs(tmp_path):
    """A file of the safetensors library, whose data start at a place that is not a multiple of 64."""
    for pad in range(1, 9):
        path = tmp_path / "theirs.safetensors"
        save_file({k: v.contiguous() for k, v in TENSORS.items()}, path, {"pad": "x" * pad})
        if any(i.start % 64 for i in read_header(path).tensors.values()):
            return path
    raise AssertionError


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_tensors_are_those_of_the_safetensors_library(theirs):
    assert same(read_tensors(theirs), load_file(theirs))


def test_every_tensor_read_is_aligned_as_torch_aligns(theirs, tmp_path):
    ours = tmp_path / "ours.safetensors"
    atomic_write(ours, tensor_chunks(TENSORS, {}))
    for path in (theirs, ours):
        assert all(t.data_ptr() % 64 == 0 for t in read_tensors(path).values() if t.numel())


def test_what_is_written_is_read_by_the_safetensors_library(tmp_path):
    path = tmp_path / "ours.safetensors"
    atomic_write(path, tensor_chunks(TENSORS, {"a": "b"}))
    assert same(load_file(path), {k: v.contiguous() for k, v in TENSORS.items()})
    assert read_header(path).metadata == {"a": "b"}


def test_changing_a_tensor_leaves_the_file_as_it_is(tmp_path):
    path = tmp_path / "ours.safetensors"
    atomic_write(path, tensor_chunks(TENSORS, {}))
    before = path.read_bytes()
    read_tensors(path)["big"].zero_()
    assert path.read_bytes() == before


def test_large_tensors_of_a_saved_file_lie_aligned_in_it(tmp_path):
    path = tmp_path / "ours.safetensors"
    atomic_write(path, tensor_chunks(TENSORS, {}))
    assert read_header(path).tensors["big"].start % 64 == 0


def test_only_the_tensors_that_are_asked_for_are_read(theirs):
    assert list(read_tensors(theirs, ["half"])) == ["half"]
    with pytest.raises(WeightsError) as caught:
        read_tensors(theirs, ["haf"])
    assert str(caught.value) == f"{theirs}: no tensor 'haf', expected one of the 8 in the file"


def test_a_tensor_without_values_cannot_be_written():
    with pytest.raises(WeightsError, match="tensor 'a': is on the meta device, expected a dense tensor with values"):
        list(tensor_chunks({"a": torch.empty(2, device="meta")}, {}))


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"{", "the header is not JSON"),
        (b"[1]", "the header is a list, expected an object"),
        (b"[" * 100000, "the header is not JSON"),
        (b'{"a":1,"a":2}', "the header is not JSON: a name is given twice"),
        ({"a": 1}, "tensor 'a' is not described by dtype, shape and data_offsets"),
        ({"a": {**ONE, "dtype": "F33"}}, "tensor 'a' has type 'F33'"),
        ({"a": {**ONE, "shape": [-2]}}, "tensor 'a' has a shape or offsets that are not whole numbers from 0 on"),
        ({"a": {**ONE, "shape": [2.0]}}, "tensor 'a' has a shape or offsets that are not whole numbers from 0 on"),
        ({"a": {**ONE, "shape": [3]}}, "tensor 'a' has 8 bytes, its shape needs 12"),
        ({"a": {**ONE, "data_offsets": [8, 16]}}, "tensor 'a' starts at byte"),
        ({"a": ONE, "b": ONE}, "tensor 'b' starts at byte"),
        ({"__metadata__": {"a": 1}, "a": ONE}, "__metadata__ is not a mapping of texts"),
    ],
)
def test_a_header_that_is_not_right_is_refused(tmp_path, header, reason):
    path = write(tmp_path / "x.safetensors", header, b"\0" * 8)
    with pytest.raises(WeightsError) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path}: not a whole safetensors file ({reason}")


def test_bytes_after_the_tensors_are_refused(tmp_path):
    path = write(tmp_path / "x.safetensors", {"a": ONE}, b"\0" * 9)
    with pytest.raises(WeightsError, match="its tensors end at byte"):
        read_header(path)


def test_the_header_is_padded_so_that_tensors_start_aligned():
    head, order = encode_header({"b": ("F32", (16,)), "a": ("F32", (3,)), "c": ("F64", (8,))}, {})
    assert len(head) % 64 == 0
    assert order == ["c", "b", "a"]
