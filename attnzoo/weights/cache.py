"""Where fetched files are kept: one folder of the platform, files named by what they are."""

import hashlib
import os
import re
from pathlib import Path

__all__ = ["cache_folder", "cached_path", "is_offline"]


def cache_folder() -> Path:
    """Return the folder of fetched files: ``ATTNZOO_CACHE``, or the platform's place for caches."""
    import platformdirs

    given = os.environ.get("ATTNZOO_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("attnzoo", appauthor=False)) / "weights"


def cached_path(url: str, sha256: str) -> Path:
    """Return where the file of an address with a hash lies, or would lie."""
    name = re.sub(r"[^\w.-]", "_", url.partition("#")[0].rsplit("/", 1)[-1].partition("?")[0])[-80:] or "file"
    key = sha256[:16] or "url-" + hashlib.sha256(url.encode()).hexdigest()[:12]
    return cache_folder() / f"{key}-{name}"


def is_offline() -> bool:
    """Say whether ``ATTNZOO_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids the network."""
    return any(
        os.environ.get(v, "").lower() in ("1", "true", "yes", "on") for v in ("ATTNZOO_OFFLINE", "HF_HUB_OFFLINE")
    )
