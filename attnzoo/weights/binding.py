"""The arguments of a dialect: a call of their constructor, bound to its signature, and turned into our arguments."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from attnzoo.card import Dialect
from attnzoo.errors import DialectError, ExpressionError, did_you_mean
from attnzoo.expression import evaluate

__all__ = ["applies", "bind_arguments", "our_arguments"]


def bind_arguments(dialect: Dialect, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Bind a call of their constructor to the dialect's signature, defaults filled in.

    Raises:
        DialectError: Too many, unknown or missing arguments.
    """
    where = f"dialect {dialect.name!r}"
    names = list(dialect.signature)
    if len(args) > len(names):
        message = f"{where}: {len(args)} positional arguments, the signature has {len(names)}"
        raise DialectError(message)
    bound = dict(dialect.signature)
    bound.update(zip(names, args, strict=False))
    for key, value in kwargs.items():
        if key not in bound:
            message = f"{where}: no argument {key!r} in the signature{did_you_mean(key, names)}"
            raise DialectError(message)
        bound[key] = value
    missing = [k for k, v in bound.items() if v is inspect.Parameter.empty]
    if missing:
        message = f"{where}: no value for {', '.join(map(repr, missing))}; the signature requires it"
        raise DialectError(message)
    return bound


def applies(dialect: Dialect, bound: Mapping[str, Any]) -> bool:
    """Say whether the dialect's ``when`` holds for their arguments.

    Raises:
        DialectError: It cannot be said of these arguments.
    """
    if dialect.when is None:
        return True
    try:
        return bool(evaluate(dialect.when, bound))
    except ExpressionError as error:
        message = f"dialect {dialect.name!r}: when: {error}"
        raise DialectError(message) from error


def our_arguments(
    dialect: Dialect,
    bound: Mapping[str, Any],
    call: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Return our constructor arguments for their bound arguments.

    ``call`` are the arguments of their forward call and ``shapes`` those of their tensors, where they are known.
    """
    names = {**bound, "call": dict(call or {}), "shapes": dict(shapes or {})}
    result = {}
    for ours, value in dialect.args.items():
        try:
            result[ours] = evaluate(value, names) if isinstance(value, str) else value
        except ExpressionError as error:
            message = f"dialect {dialect.name!r}: args.{ours}: {error}"
            raise DialectError(message) from error
    return result
