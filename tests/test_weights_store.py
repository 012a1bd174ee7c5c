"""Saved files under kills, and tensors of other sizes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import attnzoo
from attnzoo.errors import LoadError
from attnzoo.weights.store import load_into

SAVE_FOR_EVER = """
import os, signal, sys
import attnzoo
block = attnzoo.create("se", channels=1024)
while sys.stdin.readline():  # every child starts without importing torch again
    child = os.fork()
    if not child:
        while True:
            attnzoo.save(block, sys.argv[1])
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def filled(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def test_tensors_of_other_sizes_are_refused_unless_adapting_is_asked_for():
    wide, narrow = nn.Linear(8, 4), filled(nn.Linear(4, 2), 1.0)
    before = wide.weight.detach().clone()
    with pytest.raises(LoadError) as caught:
        load_into(wide, narrow.state_dict(), "narrow")
    assert set(caught.value.report.misshapen) == {"weight", "bias"}
    assert torch.equal(wide.weight, before)


def test_adapting_keeps_sums_over_inputs_and_is_reported():
    wide, narrow = nn.Linear(8, 4), filled(nn.Linear(4, 2), 1.0)
    report = load_into(wide, narrow.state_dict(), "narrow", adapt=True)
    assert report.ok
    assert report.adapted == {"weight": ((2, 4), (4, 8)), "bias": ((2,), (4,))}
    assert torch.equal(wide.weight, torch.full((4, 8), 0.5))
    assert torch.equal(wide.bias, torch.ones(4))


def test_adapting_does_not_make_up_for_missing_names():
    module = nn.Linear(8, 4)
    before = module.weight.detach().clone()
    with pytest.raises(LoadError) as caught:
        load_into(module, {"weight": torch.ones(2, 2)}, "w", adapt=True)
    assert caught.value.report.missing == ("bias",)
    assert torch.equal(module.weight, before)


def test_adapting_does_not_change_the_number_of_axes():
    with pytest.raises(LoadError) as caught:
        load_into(nn.Linear(8, 4), {"weight": torch.ones(4, 8, 1), "bias": torch.ones(4)}, "w", adapt=True)
    assert caught.value.report.misshapen == {"weight": ((4, 8, 1), (4, 8))}


@pytest.mark.slow
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_file(tmp_path):
    path = tmp_path / "se.safetensors"
    rng, longest = random.Random(0), 0.1  # seconds
    arguments = [sys.executable, "-c", SAVE_FOR_EVER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(100):
            process.stdin.write("go\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            if path.exists():
                attnzoo.load(path)
            else:  # a busy machine saves nothing in that time
                longest = min(2 * longest, 2)
        process.stdin.close()
    assert path.exists()
    assert [p for p in tmp_path.iterdir() if p.suffix == ".safetensors" and p != path] == []
