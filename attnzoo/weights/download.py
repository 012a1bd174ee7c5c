"""Download over HTTP into a ``.part`` file: resumed where it stopped, retried, never trusted for its length alone.

Standard library only; proxies by the usual variables (``HTTPS_PROXY``, ``NO_PROXY`` …).
"""

import contextlib
import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnzoo import __version__
from attnzoo.errors import FetchError

__all__ = ["Policy", "Source", "download", "source_of"]

Progress = Callable[[int, int | None], None]
_CHUNK = 1 << 16
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Policy:
    """How stubborn a download is: attempts without progress, seconds of a request, first and longest pause."""

    attempts: int = 5
    timeout: float = 30.0
    pause: float = 0.5
    longest_pause: float = 30.0


@dataclass(frozen=True)
class Source:
    """An address that can be asked, and the headers to ask it with."""

    url: str
    headers: Mapping[str, str]


class _Retry(Exception):
    """This attempt failed for ``reason``; the server asks to wait ``after`` seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


def source_of(address: str) -> Source:
    """Return what to ask for an address: https, http, or ``hf://org/repo/file@revision``.

    Raises:
        FetchError: The address is of no known kind.
    """
    if address.startswith("hf://"):
        return _hub_source(address)
    if address.startswith(("https://", "http://")):
        return Source(address, {})
    message = f"{address!r}: expected https://…, hf://org/repo/file@revision, file:… or a path"
    raise FetchError(message)


def _hub_source(address: str) -> Source:
    rest, _, revision = address.removeprefix("hf://").partition("@")
    parts = rest.split("/")
    if len(parts) < 3 or not all(parts) or ".." in parts:
        message = f"{address!r}: expected hf://org/repo/file@revision"
        raise FetchError(message)
    base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{base}/{parts[0]}/{parts[1]}/resolve/{revision or 'main'}/{'/'.join(parts[2:])}"
    return Source(url, headers)


def download(
    source: Source,
    part: Path,
    *,
    size: int | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> None:
    """Bring the bytes of ``source`` into ``part``, after those that are there already. The caller verifies the hash.

    Raises:
        FetchError: The server refuses, or no attempt came further; what has arrived is kept for the next time.
    """
    policy = policy or Policy()
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(source, part, size, policy, progress)
            return
        except _Retry as retry:
            came_further = part.exists() and part.stat().st_size > before
            failures = 0 if came_further else failures + 1
            if failures >= policy.attempts:
                advice = "try again, it will go on where it stopped"
                message = f"{source.url}: {retry.reason}, {failures} times without progress; {advice}"
                raise FetchError(message) from retry
            pause = min(policy.longest_pause, policy.pause * 2**failures) * random.uniform(0.5, 1.0)
            time.sleep(min(policy.longest_pause, max(pause, retry.after or 0.0)) if failures or retry.after else 0.0)


def _attempt(source: Source, part: Path, size: int | None, policy: Policy, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have == size:
        return
    tag = _read_tag(part)
    if have and (not tag or (size is not None and have > size)):
        _forget(part)  # without a tag, two ranges might be of two files
        have = 0
    request = urllib.request.Request(
        source.url, headers={"User-Agent": f"attnzoo/{__version__}", "Accept-Encoding": "identity"}
    )
    for name, value in source.headers.items():
        request.add_unredirected_header(name, value)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    try:
        with urllib.request.urlopen(request, timeout=policy.timeout) as response:
            _receive(response, part, have, size, progress)
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, part, have)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Retry(f"the connection failed ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", None) or error
    return str(inner) or type(inner).__name__


def _refused(error: urllib.error.HTTPError, part: Path, have: int) -> None:
    if error.code == 416 and have:
        _forget(part)
        reason = "the server has no bytes after those here"
        raise _Retry(reason)
    if error.code in _RETRIED:
        after = error.headers.get("Retry-After", "")
        raise _Retry(f"the server answered {error.code} {error.reason}", float(after) if after.isdigit() else None)
    hint = {401: "; set HF_TOKEN", 403: "; set HF_TOKEN", 404: "; the address may have moved"}.get(error.code, "")
    message = f"{error.url}: the server answered {error.code} {error.reason}, expected the file{hint}"
    raise FetchError(message)


def _receive(response: Any, part: Path, have: int, size: int | None, progress: Progress | None) -> None:
    start = have if response.status == 206 and _range_start(response) == have else 0
    if response.status == 206 and have and not start:
        _forget(part)
        reason = "the server sent another range than was asked for"
        raise _Retry(reason)
    length = response.headers.get("Content-Length", "")
    total = size if size is not None else start + int(length) if length.isdigit() else None
    _write_tag(part, response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
    done = start
    with part.open("ab" if start else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            if size is not None and done > size:
                break
            if progress is not None:
                progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    if size is not None and done > size:
        _forget(part)
        message = f"{response.url}: more than the {size} bytes that the registry file promises; nothing was kept"
        raise FetchError(message)
    if total is not None and done < total:
        raise _Retry(f"the connection ended at byte {done} of {total}")


def _range_start(response: Any) -> int | None:
    text = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdigit() else None


def _tag_path(part: Path) -> Path:
    return part.with_suffix(".etag")


def _read_tag(part: Path) -> str:
    """Return the tag of the file whose bytes are in ``part``; weak tags do not promise equal bytes."""
    try:
        tag = json.loads(_tag_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return tag if isinstance(tag, str) and not tag.startswith("W/") else ""


def _write_tag(part: Path, tag: str) -> None:
    _tag_path(part).write_text(json.dumps(tag), encoding="utf-8")


def _forget(part: Path) -> None:
    for path in (part, _tag_path(part)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
