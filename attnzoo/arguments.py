"""Arguments of a block against its constructor's signature: names and types, before anything is built."""

import functools
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from attnzoo.errors import did_you_mean

__all__ = ["Parameters", "argument_faults", "full_arguments", "parameters_of"]

Parameters = Mapping[str, inspect.Parameter]


@functools.lru_cache(maxsize=1024)
def parameters_of(cls: Any) -> Parameters:
    """Return the parameters of ``cls``'s constructor by name, annotations resolved, ``self`` left out."""
    signature = inspect.signature(cls.__init__)
    try:
        hints = typing.get_type_hints(cls.__init__)
    except Exception:
        # An annotation that does not resolve leaves its argument unchecked; the constructor still checks it.
        hints = {}
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in list(signature.parameters.values())[1:] if p.kind not in kinds]
    return {p.name: p.replace(annotation=hints.get(p.name, Any)) for p in parameters}


def full_arguments(cls: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` with the constructor's defaults filled in."""
    defaults = {k: p.default for k, p in parameters_of(cls).items() if p.default is not inspect.Parameter.empty}
    return {**defaults, **arguments}


def argument_faults(block: str, cls: Any, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with ``arguments``: argument name to message. Empty when they fit."""
    parameters = parameters_of(cls)
    faults = {}
    for name in arguments:
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            hint = did_you_mean(name, parameters) or f"; its arguments are: {known}"
            faults[name] = f"block {block!r}: no argument {name!r}{hint}"
        elif problem := _type_fault(cls, name, arguments[name]):
            faults[name] = f"block {block!r}: argument {name!r} is {arguments[name]!r}, expected {problem}"
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            faults[name] = (
                f"block {block!r}: no value for argument {name!r}, expected {type_words(parameter.annotation)}"
            )
    return faults


def _type_fault(cls: Any, name: str, value: Any) -> str:
    if _is_plain(value, annotation := parameters_of(cls)[name].annotation):
        return ""
    from pydantic import ValidationError

    adapter = _adapter(cls, name)
    if adapter is None:
        return ""
    for form in (_tuples(value), value, _lists(value)):
        try:
            adapter.validate_python(form, strict=True)
        except ValidationError:
            continue
        return ""
    return type_words(annotation)


def _is_plain(value: Any, annotation: Any) -> bool:
    """Say at once that an int is an int (and no bool), a str a str, …; the common case of `attnzoo.create`."""
    return type(value) is annotation


def _tuples(value: Any) -> Any:
    """Return lists as tuples: YAML has only lists, signatures may want tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _lists(value: Any) -> Any:
    """Return tuples as lists: Python has both, a signature names one."""
    return [_lists(v) for v in value] if isinstance(value, tuple) else value


@functools.lru_cache(maxsize=4096)
def _adapter(cls: Any, name: str) -> Any:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    annotation = parameters_of(cls)[name].annotation
    if annotation is Any:
        return None
    # Dataclasses and the like have a configuration of their own and refuse another.
    for config in (ConfigDict(arbitrary_types_allowed=True), None):
        try:
            return TypeAdapter(annotation, config=config)
        except (PydanticUserError, TypeError, NameError):
            continue
    return None


def type_words(annotation: Any) -> str:
    """Return a type in words: ``a whole number``, ``'avg' or 'max'``, ``a list of …``."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        list: "a list",
        tuple: "a list",
        type(None): "null",
        Any: "a value",
    }
    if isinstance(annotation, type) or annotation is Any:
        return words.get(annotation, getattr(annotation, "__name__", str(annotation)))
    if origin is typing.Literal:
        return " or ".join(repr(a) for a in args)
    if origin in (list, tuple) or getattr(origin, "__name__", "") == "Sequence":
        inner = [type_words(a) for a in args if a is not Ellipsis]
        return f"a list of {', '.join(dict.fromkeys(inner))}" if inner else "a list"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(a) for a in args)
    if origin is type and args:
        return f"a subclass of {getattr(args[0], '__name__', args[0])}"
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")
