"""All error classes of attnzoo. Imports nothing from attnzoo.

::

    AttnZooError
    ├── NameNotFound (LookupError)        no block, argument, weights, site … of that name; carries near matches
    ├── AmbiguousName (LookupError)       several plugins offer the name
    ├── CardError (ValueError)            a card is not valid
    ├── PluginError (RuntimeError)        a plugin cannot be used
    ├── SpecError (ValueError)            a spec is not valid; carries every fault with file:line:column
    ├── LockError (ValueError)            what is installed is not what a lock file records; carries every difference
    ├── ArgumentError (TypeError)         arguments do not fit a block's constructor
    ├── BuildError (ValueError)           a constructor refused its arguments
    ├── ExpressionError (ValueError)      an expression in a card cannot be read or evaluated
    ├── RegistryFileError (ValueError)    registry.yaml is not valid
    ├── WeightsError (RuntimeError)       weights cannot be found, read, verified or written
    │   ├── HashMismatch                  the file's sha256 is another one
    │   ├── LoadError                     tensors are missing, unexpected or misshapen; carries the report
    │   ├── FetchError                    a download failed
    │   └── UnsafeFile                    the file would need pickle, or is of an unknown format
    ├── DialectError (ValueError)         a dialect does not fit the tensors at hand
    ├── GoldenError (ValueError)          a golden file cannot be verified
    └── SurgeryError (ValueError)         a block cannot be inserted, removed or loaded into a host

Each text reads ``where: what was found, what was expected; what to do``.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "AmbiguousName",
    "ArgumentError",
    "AttnZooError",
    "BuildError",
    "CardError",
    "DialectError",
    "ExpressionError",
    "FetchError",
    "GoldenError",
    "HashMismatch",
    "LoadError",
    "LockError",
    "NameNotFound",
    "PluginError",
    "RegistryFileError",
    "SpecError",
    "SurgeryError",
    "UnsafeFile",
    "WeightsError",
    "did_you_mean",
    "near_matches",
]


class AttnZooError(Exception):
    """Base of every error that attnzoo raises on purpose."""


class NameNotFound(AttnZooError, LookupError):
    """Nothing of that name."""


class AmbiguousName(AttnZooError, LookupError):
    """Several things of that name."""


class CardError(AttnZooError, ValueError):
    """A card is not valid; the block it describes cannot be used."""


class PluginError(AttnZooError, RuntimeError):
    """A plugin cannot be used."""


class SpecError(AttnZooError, ValueError):
    """A spec is not valid. ``faults`` has one line a fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


class LockError(AttnZooError, ValueError):
    """What is installed is not what a lock file records. ``differences`` has one line a difference."""

    def __init__(self, differences: Iterable[str]) -> None:
        self.differences = list(differences)
        super().__init__("\n".join(self.differences))


class ArgumentError(AttnZooError, TypeError):
    """Arguments do not fit a block's constructor."""


class BuildError(AttnZooError, ValueError):
    """A block's constructor refused its arguments."""


class ExpressionError(AttnZooError, ValueError):
    """An expression in a card cannot be read or evaluated."""


class RegistryFileError(AttnZooError, ValueError):
    """A registry file is not valid."""


class WeightsError(AttnZooError, RuntimeError):
    """Weights cannot be found, read, verified or written."""


class HashMismatch(WeightsError):
    """A file's sha256 is not the one that was promised."""


class LoadError(WeightsError):
    """Tensors of a file do not fit a module; the module is unchanged. ``report`` says which, where that is known."""

    def __init__(self, message: str, report: object = None) -> None:
        self.report = report
        super().__init__(message)


class FetchError(WeightsError):
    """A download failed."""


class UnsafeFile(WeightsError):
    """A file would need pickle, or is of a format that attnzoo does not read."""


class DialectError(AttnZooError, ValueError):
    """A dialect does not fit the tensors or arguments at hand."""


class GoldenError(AttnZooError, ValueError):
    """A golden file cannot be verified."""


class SurgeryError(AttnZooError, ValueError):
    """A block cannot be inserted into, removed from or loaded into a host."""


def near_matches(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to ``limit`` of ``known`` that look like ``name``, best first."""
    by_folded = {k.lower().replace("_", "-"): k for k in known}
    hits = difflib.get_close_matches(name.lower().replace("_", "-"), list(by_folded), n=limit, cutoff=0.6)
    return [by_folded[h] for h in hits]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x' or 'y'?"``, or an empty string when nothing is near."""
    hits = near_matches(name, known)
    return f"; did you mean {' or '.join(repr(h) for h in hits)}?" if hits else ""
