"""The opt-in setting of the allocator."""

import subprocess
import sys

import pytest

from attnzoo.allocator import keep_freed_memory
from attnzoo.errors import AttnZooError

PROGRAM = """
import os, sys, attnzoo, torch
if sys.argv[1] == "kept":
    attnzoo.keep_freed_memory()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
tensor = torch.ones(16 << 20)
full = resident()
del tensor
print(full - resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_maps_stay_with_the_process_only_with_the_setting():
    given_back = {}
    for setting in ("kept", "default"):
        command = [sys.executable, "-c", PROGRAM, setting]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        given_back[setting] = int(result.stdout)
    assert given_back["kept"] < 16 << 20  # of 64 MB
    assert given_back["default"] > 48 << 20


def test_another_c_library_is_refused_in_plain_words(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("musl", "1.2.5"))
    with pytest.raises(AttnZooError) as caught:
        keep_freed_memory()
    expected = "keep_freed_memory: the C library is musl 1.2.5, expected glibc; leave the call out on this system"
    assert str(caught.value) == expected
