"""Expressions in cards: a small, closed part of Python's syntax, evaluated without running Python code.

A card may say ``hidden: "max(channels // 16, 8)"``. The text is parsed with :mod:`ast` and walked here; only the node
types and functions listed below exist, so reading a card can run no code.
"""

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from attnzoo.constructed import activation, batch_norm, class_name, keyword, mm_batch_norm, token_norm
from attnzoo.errors import ExpressionError, did_you_mean

__all__ = ["evaluate", "names_in", "parse_signature"]

_MAX_LENGTH = 1000
_MAX_POWER = 64
_MAX_BITS = 256


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, int | float) and abs(exponent) > _MAX_POWER:
        message = f"exponent {exponent!r} is beyond {_MAX_POWER}"
        raise ExpressionError(message)
    if isinstance(base, int) and base.bit_length() > _MAX_BITS:
        message = f"a base of {base.bit_length()} bits is beyond {_MAX_BITS}"
        raise ExpressionError(message)
    return base**exponent


def _remainder(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        message = "only numbers and tensors have a remainder"
        raise ExpressionError(message)
    return left % right


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(left, str | list | tuple) or isinstance(right, str | list | tuple):
        message = "only numbers and tensors can be multiplied"
        raise ExpressionError(message)
    return left * right


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _remainder,
    ast.Pow: _power,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}

_SCALAR_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
    "int": int,
    "float": float,
    "bool": bool,
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "log": math.log,
    "log2": math.log2,
    "len": len,
    "sum": sum,
    "activation": activation,
    "batch_norm": batch_norm,
    "class_name": class_name,
    "keyword": keyword,
    "mm_batch_norm": mm_batch_norm,
    "token_norm": token_norm,
    "pair": lambda value: value if isinstance(value, list | tuple) else [value, value],
    "unpair": lambda value: (
        value[0] if isinstance(value, list | tuple) and value and value.count(value[0]) == len(value) else value
    ),
}


@functools.cache
def _tensor_functions() -> Mapping[str, Callable[..., Any]]:
    """Functions on tensors; torch and einops are imported when the first of them is called."""
    import einops
    import torch

    return {
        "rearrange": einops.rearrange,
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softmax": torch.softmax,
        "transpose": torch.transpose,
        "reshape": torch.reshape,
        "stack": torch.stack,
        "cat": torch.cat,
        "mean": torch.mean,
        "sum_over": torch.sum,
    }


_TENSOR_NAMES = frozenset(
    ["rearrange", "relu", "sigmoid", "tanh", "softmax", "transpose", "reshape", "stack", "cat", "mean", "sum_over"]
)


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    if len(text) > _MAX_LENGTH:
        message = f"expression of {len(text)} characters, at most {_MAX_LENGTH} are read"
        raise ExpressionError(message)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = f"expression {text!r}: not readable ({error})"
        raise ExpressionError(message) from error


def names_in(text: str) -> set[str]:
    """Return the names that the expression ``text`` uses, functions left out."""
    tree = _parse(text)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called}


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """Return the value of the expression ``text`` with the values of ``names``.

    Raises:
        ExpressionError: The text uses something that expressions do not have, an unknown name, or fails to compute.
    """
    tree = _parse(text)
    try:
        return _value(tree, names)
    except ExpressionError as error:
        message = f"expression {text!r}: {error}"
        raise ExpressionError(message) from error
    except Exception as error:
        # Whatever an operator or tensor function raises on odd values is a fault of the expression, told as such.
        message = f"expression {text!r}: {type(error).__name__}: {error}"
        raise ExpressionError(message) from error


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=name):
            return _lookup(name, names)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(e, names) for e in elements]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, names), _value(right, names))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, names))
        case ast.BoolOp(op=op, values=values):
            return _boolean(op, values, names)
        case ast.Compare():
            return _comparison(node, names)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, names) else orelse, names)
        case ast.Subscript(value=value, slice=index):
            return _value(value, names)[_index(index, names)]
        case ast.Call(func=ast.Name(id=function), args=args, keywords=keywords):
            arguments = [_value(a, names) for a in args]
            options = {k.arg: _value(k.value, names) for k in keywords if k.arg is not None}
            return _function(function)(*arguments, **options)
    message = f"{type(node).__name__} is not part of expressions"
    raise ExpressionError(message)


def _index(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Slice):
        return slice(*(_value(p, names) if p is not None else None for p in (node.lower, node.upper, node.step)))
    if isinstance(node, ast.Tuple):
        return tuple(_index(e, names) for e in node.elts)
    return _value(node, names)


def _lookup(name: str, names: Mapping[str, Any]) -> Any:
    if name in names:
        return names[name]
    message = f"no name {name!r}{did_you_mean(name, names)}"
    raise ExpressionError(message)


def _function(name: str) -> Callable[..., Any]:
    if name in _SCALAR_FUNCTIONS:
        return _SCALAR_FUNCTIONS[name]
    if name in _TENSOR_NAMES:
        return _tensor_functions()[name]
    message = f"no function {name!r}{did_you_mean(name, [*_SCALAR_FUNCTIONS, *_TENSOR_NAMES])}"
    raise ExpressionError(message)


def _boolean(op: ast.boolop, values: list[ast.expr], names: Mapping[str, Any]) -> Any:
    result: Any = None
    for value in values:
        result = _value(value, names)
        if bool(result) == isinstance(op, ast.Or):
            return result
    return result


def _comparison(node: ast.Compare, names: Mapping[str, Any]) -> bool:
    left = _value(node.left, names)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = _value(comparator, names)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True


def parse_signature(text: str) -> dict[str, Any]:
    """Read a constructor's signature, ``"channels, reduction=16"``, into ``{name: default}``.

    A name without a default maps to :data:`inspect.Parameter.empty`. Defaults are literals; nothing is run.
    """
    import inspect

    try:
        parsed = ast.parse(f"def f({text}): pass").body
    except SyntaxError as error:
        message = f"signature {text!r}: not readable ({error.msg})"
        raise ExpressionError(message) from error
    function = parsed[0]
    if not isinstance(function, ast.FunctionDef) or len(parsed) != 1:
        message = f"signature {text!r}: not a list of parameters"
        raise ExpressionError(message)
    spec = function.args
    names = [a.arg for a in [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]]
    if spec.vararg or spec.kwarg or len(set(names)) < len(names):
        message = f"signature {text!r}: with * or a name given twice, expected every parameter once by its name"
        raise ExpressionError(message)
    result: dict[str, Any] = {a.arg: inspect.Parameter.empty for a in [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]}
    positional = [*spec.posonlyargs, *spec.args]
    try:
        for argument, default in zip(reversed(positional), reversed(spec.defaults), strict=False):
            result[argument.arg] = ast.literal_eval(default)
        for argument, keyword_default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
            if keyword_default is not None:
                result[argument.arg] = ast.literal_eval(keyword_default)
    except ValueError as error:
        message = f"signature {text!r}: a default is not a literal"
        raise ExpressionError(message) from error
    return result
