"""The opt-in setting of the allocator."""

import subprocess
import sys

import pytest

from attnzoo.allocator import keep_freed_memory
from attnzoo.errors import AttnZooError

PROGRAM = """
import resource, attnzoo, torch
attnzoo.keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.zeros(16 << 20)
before = faults()
for _ in range(10):
    torch.zeros(16 << 20)
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_maps_are_not_faulted_in_again():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 10_000  # ten times 64 MB are 160 000 pages


def test_another_c_library_is_refused_in_plain_words(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("musl", "1.2.5"))
    with pytest.raises(AttnZooError) as caught:
        keep_freed_memory()
    expected = "keep_freed_memory: the C library is musl 1.2.5, expected glibc; leave the call out on this system"
    assert str(caught.value) == expected
