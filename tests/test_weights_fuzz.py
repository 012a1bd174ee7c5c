"""Damaged files: every outcome is success or an attnzoo error, none takes long, and together they take little memory.

Memory is measured in a process of its own, since what other tests took before would hide it:
``python tests/test_weights_fuzz.py FOLDER COUNT [READER]`` prints how much it grew.
"""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from attnzoo.errors import AttnZooError
from attnzoo.weights.catalogue import read_registry_file
from attnzoo.weights.checkpoint import open_checkpoint
from attnzoo.weights.store import read_description

MIB = 2**20
GROWTH = 96 * MIB  # over all inputs; a leak of 5 kB an input is more, and so is one header that is believed
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


def fuzz(tmp_path, count, instead=None):
    """Give ``count`` damaged files to their readers, or to one ``instead``."""
    rng = random.Random(0)
    files = seeds(tmp_path)
    for i in range(count):
        path, reader, data = files[i % len(files)]
        path.write_bytes(mutate(data, rng))
        begin = time.process_time()
        with contextlib.suppress(AttnZooError):
            (instead or reader)(path)
        assert time.process_time() - begin < 1, path.read_bytes()


def test_damaged_files_are_refused_with_an_attnzoo_error(tmp_path):
    fuzz(tmp_path, 400)


def peaks():
    """Return the most memory that this process ever held, in bytes: promised to it (VmPeak), and in use (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return {name: int(re.search(rf"{name}:\s+(\d+) kB", status).group(1)) * 1024 for name in ("VmPeak", "VmHWM")}


LEAKED = []


def leak(path):
    LEAKED.append(bytearray(MIB))


def promise(path):
    """Allocate much for a moment and write nothing to it, as for a header that lies; only VmPeak can tell."""
    torch.empty(256 * MIB, dtype=torch.uint8)


READERS = {"leak": leak, "promise": promise}


def grown(tmp_path, count, reader=""):
    """Return by how many bytes a process grows that reads ``count`` damaged files."""
    command = [sys.executable, __file__, str(tmp_path), str(count), *([reader] if reader else [])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # every thread is promised an arena of its own
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the kernel does not tell peaks of memory here"
)


@pytest.mark.slow
@linux
def test_twenty_thousand_damaged_files_are_refused_with_an_attnzoo_error_and_take_little_memory(tmp_path):
    growth = grown(tmp_path, 20_000)
    assert max(growth.values()) < GROWTH, growth


@pytest.mark.slow
@linux
@pytest.mark.parametrize(("reader", "kinds"), [("leak", {"VmPeak", "VmHWM"}), ("promise", {"VmPeak"})])
def test_a_reader_that_takes_memory_is_caught(tmp_path, reader, kinds):
    growth = grown(tmp_path, 400, reader)
    assert {name for name, size in growth.items() if size >= GROWTH} == kinds


if __name__ == "__main__":
    before = peaks()
    fuzz(Path(sys.argv[1]), int(sys.argv[2]), READERS[sys.argv[3]] if len(sys.argv) > 3 else None)
    print(json.dumps({name: size - before[name] for name, size in peaks().items()}))
