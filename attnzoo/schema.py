"""The JSON Schema of specs, made from the installed blocks and their signatures."""

import inspect
from typing import Any

from attnzoo.arguments import parameters_of
from attnzoo.errors import CardError
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
            "node": {"oneOf": [{"$ref": f"#/$defs/{k}"} for k in ("block", "chain", "sum", "residual")]},
            "block": {
                "type": "object",
                "required": ["block"],
                "properties": {
                    "block": {"enum": sorted(n for group in names.values() for n in group)},
                    "args": {"type": "object"},
                    "weights": {"type": "string"},
                    "version": {"type": "integer"},
                    "at": {"type": "string"},
                    "position": {"enum": ["after", "before", "replace"]},
                    "identity": {"type": "boolean"},
                    "name": {"type": "string"},
                    "view": {"enum": ["map", "tokens"]},
                },
                "additionalProperties": False,
                "allOf": [_when(names[e.id], schema, e) for e, schema in entries],
            },
            "chain": _list_node("chain"),
            "sum": _list_node("sum"),
            "residual": {
                "type": "object",
                "required": ["residual"],
                "properties": {"residual": {"$ref": "#/$defs/node"}},
                "additionalProperties": False,
            },
            "insert": {
                "type": "object",
                "required": ["insert"],
                "properties": {
                    "insert": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["at"]}}
                },
                "additionalProperties": False,
            },
        },
    }


def _list_node(kind: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [kind],
        "properties": {kind: {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/node"}}},
        "additionalProperties": False,
    }


def _names(registry: Registry, entry: Entry) -> list[str]:
    """Return the id of a block and its short name if that is unique."""
    shared = [e for e in registry if e.card.name == entry.card.name]
    return [entry.id, entry.card.name] if len(shared) == 1 else [entry.id]


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
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

    schema: dict[str, Any] = {}
    if parameter.annotation is not Any:
        try:
            schema = TypeAdapter(parameter.annotation).json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError):
            schema = {}
    if parameter.default is not inspect.Parameter.empty:
        schema["default"] = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return schema
