"""Files that are either whole or not there: written beside their place, then moved into it."""

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from attnzoo.errors import WeightsError

__all__ = ["atomic_write", "move_into_place"]


def atomic_write(path: Path | str, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write ``data`` to a temporary file beside ``path`` and move it there in one step.

    A kill in the middle leaves an older file whole, and at most a hidden ``.<name>.….part`` beside it.

    Raises:
        WeightsError: The folder does not exist or cannot be written to.
    """
    temporary = ""
    try:
        path = Path(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        move_into_place(temporary, path)
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        message = f"{path}: cannot be written ({reason}); nothing was changed"
        raise WeightsError(message) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def move_into_place(temporary: Path | str, path: Path) -> None:
    """Move a finished file to ``path``, and the folder's entry to the disk."""
    os.replace(temporary, path)
    with contextlib.suppress(OSError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
