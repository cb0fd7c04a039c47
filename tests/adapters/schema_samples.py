"""A valid payload for any request schema of the standard: the required members only, each as small as it may be."""

from __future__ import annotations

import importlib.resources
from typing import Any

import orjson

from ocpp_gateway.ocppj.versions import OcppVersion

_FOLDERS = {OcppVersion.V16: "v16", OcppVersion.V201: "v201", OcppVersion.V21: "v21"}


def sample_request(version: OcppVersion, action: str) -> dict[str, Any]:
    name = f"{action}Request.json" if version.is_2x else f"{action}.json"
    file = importlib.resources.files("ocpp") / _FOLDERS[version] / "schemas" / name
    schema = orjson.loads(file.read_text("utf-8-sig"))
    sample: dict[str, Any] = _sample(schema, schema.get("definitions", {}))
    return sample


def _sample(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _sample(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _sample(schema["properties"][name], definitions) for name in schema.get("required", ())}
        case "array":
            return [_sample(schema["items"], definitions) for _ in range(schema.get("minItems", 0))]
        case "string":
            return "2026-01-01T00:00:00Z" if schema.get("format") == "date-time" else "text"
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "anything"
