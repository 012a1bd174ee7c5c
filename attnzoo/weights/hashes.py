"""sha256 of files."""

import hashlib
from pathlib import Path

from attnzoo.errors import HashMismatch

__all__ = ["sha256_of", "verify_hash"]


def verify_hash(path: Path, expected: str, where: str) -> None:
    """Refuse a file whose sha256 is not ``expected`` (or does not begin with it).

    Raises:
        HashMismatch: With both hashes.
    """
    found = sha256_of(path)
    if not found.startswith(expected):
        message = f"{where}: {path} has sha256 {found}, expected {expected}; nothing was loaded"
        raise HashMismatch(message)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
