"""An opt-in setting of the C library's allocator for large maps on a CPU."""

import ctypes
import platform

from attnzoo.errors import AttnZooError

__all__ = ["keep_freed_memory"]

_MMAP_MAX = -4  # how many blocks may have a mapping of their own
_TRIM_THRESHOLD = -1  # free bytes at the top of the heap from which they go back to the system
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, so that large maps are not paid for page by page again and again.

    glibc returns every block over 32 MB to the system when it is freed, and every fresh map of that size is then
    faulted in anew: a product of a 100 MB map with its channel weights takes five times as long as into memory that is
    there. Two calls of ``mallopt`` switch that off, for any block of any library in the process. The process keeps its
    peak of memory until it ends, and it cannot be undone; call it once, before the first large tensor.

    Raises:
        AttnZooError: The C library is not glibc, or refuses.
    """
    library, version = platform.libc_ver()
    if platform.system() != "Linux" or library != "glibc":
        found = f"{library} {version}".strip() or platform.system()
        message = f"keep_freed_memory: the C library is {found}, expected glibc; leave the call out on this system"
        raise AttnZooError(message)
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, _NEVER)):
        message = "keep_freed_memory: glibc refused the setting, expected it to take it; leave the call out"
        raise AttnZooError(message)
