"""Payloads that the official schemas allow, made from the schemas themselves."""

from __future__ import annotations

import importlib.resources
import json
import string
from functools import cache
from typing import Any

from hypothesis import strategies as st

from ocpp_gateway.ocppj.versions import OcppVersion

_FOLDERS = {OcppVersion.V16: "v16", OcppVersion.V201: "v201", OcppVersion.V21: "v21"}
_FORMATS = {"date-time": "2026-01-02T03:04:05Z", "uri": "https://files.example/1"}
_CHARACTERS = st.sampled_from(string.ascii_letters + string.digits + " äß*")


@cache
def schema(version: OcppVersion, name: str) -> dict[str, Any]:
    path = importlib.resources.files("ocpp") / _FOLDERS[version] / "schemas" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8-sig"))
    return found


def request_schema(version: OcppVersion, action: str) -> dict[str, Any]:
    return schema(version, f"{action}Request" if version.is_2x else action)


def example(version: OcppVersion, action: str, *, is_full: bool) -> Any:
    """The smallest request, or one with everything in it."""
    whole = request_schema(version, action)
    return _example(whole, whole.get("definitions", {}), is_full)


def _example(part: dict[str, Any], definitions: dict[str, Any], is_full: bool) -> Any:
    part = _resolved(part, definitions)
    if "enum" in part:
        return part["enum"][0]
    kind = part.get("type", "string")
    if kind == "object":
        names = part.get("properties", {}) if is_full else part.get("required", ())
        return {
            name: _example(part["properties"][name], definitions, is_full) for name in names if name != "customData"
        }
    if kind == "array":
        return [_example(part["items"], definitions, is_full)] * max(1, part.get("minItems", 1))
    if kind == "string":
        return _FORMATS.get(part.get("format", ""), "x"[: part.get("maxLength", 1)])
    if kind == "boolean":
        return True
    number = max(1, part.get("minimum", 1))
    return min(number, part.get("maximum", number))


def requests(version: OcppVersion, action: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any request that the schema allows."""
    whole = request_schema(version, action)
    return _any(whole, whole.get("definitions", {}))


def _any(part: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    part = _resolved(part, definitions)
    if "enum" in part:
        return st.sampled_from(part["enum"])
    kind = part.get("type", "string")
    if kind == "object":
        members = {
            name: st.deferred(lambda member=member: _any(member, definitions))
            for name, member in part.get("properties", {}).items()
            if name != "customData"
        }
        required = {name: members.pop(name) for name in part.get("required", ())}
        return st.fixed_dictionaries(required, optional=members)
    if kind == "array":
        least = part.get("minItems", 0)
        items = st.deferred(lambda: _any(part["items"], definitions))
        return st.lists(items, min_size=least, max_size=max(least, min(3, part.get("maxItems", 3))))
    if kind == "string":
        if part.get("format") in _FORMATS:
            return st.just(_FORMATS[part["format"]])
        return st.text(_CHARACTERS, max_size=min(20, part.get("maxLength", 20)))
    if kind == "boolean":
        return st.booleans()
    least, most = part.get("minimum", -5), part.get("maximum", 1_000_000)
    if kind == "integer":
        return st.integers(int(least), int(most)) | st.integers(max(0, int(least)), min(2, int(most)))
    return st.integers(int(least) * 10, int(most) * 10).map(lambda tenths: max(least, min(most, tenths / 10)))


def _resolved(part: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        part = definitions[part["$ref"].rpartition("/")[2]]
    return part
