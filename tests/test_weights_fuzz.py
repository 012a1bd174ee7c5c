"""Damaged files: every outcome is success or an attnzoo error, and none takes long."""

import contextlib
import random
import time

import pytest
import torch
from safetensors.torch import save_file

from attnzoo.errors import AttnZooError
from attnzoo.weights.catalogue import read_registry_file
from attnzoo.weights.checkpoint import open_checkpoint
from attnzoo.weights.store import read_description

STATE = {"se.fc1.weight": torch.ones(2, 8, 1, 1), "se.fc1.bias": torch.zeros(2), "n": torch.tensor(3)}
REGISTRY = b"""plugins:
  - {name: vision, distribution: attnzoo-vision, blocks: [se]}
weights:
  - {name: se/x, block: vision/se, args: {channels: 32}, url: a.safetensors, sha256: "aaaaaaaa", licence: MIT, size: 5}
"""
HEAD = b'\x00\xff\x80{}[]":,0129-. \n&*!|>PK'


def mutate(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(data) or 1)
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[place] = rng.choice(HEAD) if rng.random() < 0.5 else rng.randrange(256)
        elif kind == 1:
            data[place:place] = bytes(rng.choice(HEAD) for _ in range(rng.randrange(1, 9)))
        elif kind == 2:
            del data[place : place + rng.choice((1, 2, 8, 64))]
        elif data:
            data[place:place] = data[place : place + rng.randrange(1, 64)]
    return bytes(data)


def read_checkpoint(path):
    read_description(path) if path.suffix == ".safetensors" else None
    checkpoint = open_checkpoint(path)
    checkpoint.read(checkpoint.tensors)


def seeds(tmp_path):
    torch.save(STATE, tmp_path / "zip.pth")
    torch.save(STATE, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "a.safetensors", {"attnzoo": '{"format": 1, "spec": {"block": "se"}}'})
    (tmp_path / "r.yaml").write_bytes(REGISTRY)
    names = {
        "zip.pth": read_checkpoint,
        "legacy.pth": read_checkpoint,
        "a.safetensors": read_checkpoint,
        "r.yaml": read_registry_file,
    }
    return [(tmp_path / n, f, (tmp_path / n).read_bytes()) for n, f in names.items()]


def fuzz(tmp_path, count):
    rng = random.Random(0)
    files = seeds(tmp_path)
    for i in range(count):
        path, reader, data = files[i % len(files)]
        path.write_bytes(mutate(data, rng))
        begin = time.process_time()
        with contextlib.suppress(AttnZooError):
            reader(path)
        assert time.process_time() - begin < 1, path.read_bytes()


def test_damaged_files_are_refused_with_an_attnzoo_error(tmp_path):
    fuzz(tmp_path, 400)


@pytest.mark.slow
def test_twenty_thousand_damaged_files_are_refused_with_an_attnzoo_error(tmp_path):
    fuzz(tmp_path, 20_000)
