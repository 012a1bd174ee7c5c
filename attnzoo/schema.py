"""The JSON Schema of specs, made from the installed blocks and their signatures."""

import inspect
from collections.abc import Mapping
from typing import Any

from attnzoo.arguments import parameters_of
from attnzoo.card import fold
from attnzoo.errors import AttnZooError, CardError
from attnzoo.registry import Entry, Registry

__all__ = ["spec_schema"]


def spec_schema(registry: Registry) -> dict[str, Any]:
    """Return a JSON Schema (draft 2020-12) of a spec file. Imports the blocks, to read their signatures."""
    entries = [(entry, schema) for entry in registry if (schema := _arguments_schema(entry)) is not None]
    names = {e.id: _names(registry, e) for e, _ in entries}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "attnzoo spec",
        "oneOf": [{"$ref": "#/$defs/node"}, {"$ref": "#/$defs/insert"}],
        "$defs": {
            "name": {"enum": sorted(n for group in names.values() for n in group)},
            "arguments": {"allOf": [_when(names[e.id], schema, e) for e, schema in entries]},
            "nodes": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/node"}},
            "node": {"oneOf": [{"$ref": "#/$defs/name"}, *({"$ref": f"#/$defs/{kind}"} for kind in _KINDS)]},
            **{kind: _object(kind, values) for kind, values in _KINDS.items()},
            "insertion": {"oneOf": [_object(kind, {**values, **_PLACE}, "at") for kind, values in _KINDS.items()]},
            "insert": _object(
                "insert", {"insert": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/insertion"}}}
            ),
        },
    }


_KINDS: Mapping[str, Mapping[str, Any]] = {
    "block": {
        "block": {"$ref": "#/$defs/name"},
        "args": {"type": ["object", "null"]},
        "weights": {"type": ["string", "null"]},
        "version": {"type": ["integer", "null"], "minimum": 1},
    },
    "chain": {"chain": {"$ref": "#/$defs/nodes"}},
    "sum": {"sum": {"$ref": "#/$defs/nodes"}},
    "residual": {"residual": {"$ref": "#/$defs/node"}},
}
_PLACE: Mapping[str, Any] = {
    "at": {"type": "string"},
    "position": {"enum": ["after", "before", "replace"]},
    "identity": {"type": "boolean"},
    "name": {"type": "string"},
    "view": {"enum": ["map", "tokens"]},
}


def _object(kind: str, properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": [kind, *required],
        "properties": dict(properties),
        "additionalProperties": False,
    }
    return {**schema, "allOf": [{"$ref": "#/$defs/arguments"}]} if kind == "block" else schema


def _names(registry: Registry, entry: Entry) -> list[str]:
    """Return the id of a block, and its short name and aliases where they are unique."""
    short = [entry.card.name, *map(fold, entry.card.aliases)]
    return [entry.id, *(n for n in short if _means(registry, n, entry))]


def _means(registry: Registry, name: str, entry: Entry) -> bool:
    try:
        return registry.find(name) is entry
    except AttnZooError:  # several plugins offer it
        return False


def _when(names: list[str], arguments: dict[str, Any], entry: Entry) -> dict[str, Any]:
    return {
        "if": {"properties": {"block": {"enum": names}}, "required": ["block"]},
        "then": {"properties": {"args": {"description": entry.card.summary, **arguments}}},
    }


def _arguments_schema(entry: Entry) -> dict[str, Any] | None:
    """Return the schema of a block's arguments, or None when its class cannot be imported."""
    try:
        parameters = parameters_of(entry.card.load_class())
    except CardError:
        return None
    properties = {name: _property(parameter) for name, parameter in parameters.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(parameter: inspect.Parameter) -> dict[str, Any]:
    from pydantic import PydanticUserError, TypeAdapter

    schema: dict[str, Any] = {}
    if parameter.annotation is not Any:
        try:
            schema = TypeAdapter(parameter.annotation).json_schema()
        except (PydanticUserError, TypeError, NameError):
            schema = {}  # a type that JSON does not have
    default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    if parameter.default is not inspect.Parameter.empty and isinstance(default, str | int | float | list | None):
        schema["default"] = default  # others, such as a class, cannot be written in a spec
    return schema
