"""docs/schemas, held against events that came out of Kafka. Closed: a member that they do not name is a mistake."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012, Draft202012Validator, Registry

_FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "schemas"


@cache
def validator(name: str) -> Draft202012Validator:
    """Of docs/schemas/``name``.json."""
    schemas = [_closed(json.loads(file.read_text())) for file in sorted(_FOLDER.glob("*.json"))]
    registry = Registry([(schema["$id"], schema) for schema in schemas], draft=Draft202012)
    (wanted,) = [schema for schema in schemas if schema["$id"] == f"urn:ocpp-gateway:{name}"]
    return Draft202012Validator(wanted, registry=registry, validate_formats=True, offline=True)


def must_fit(name: str, event: Any) -> None:
    """Fail, with what is wrong, unless ``event`` is what docs/schemas/``name``.json says."""
    problems = [f"{list(error.instance_path)}: {error.message}" for error in validator(name).iter_errors(event)]
    assert not problems, f"{event} is no {name}: {problems}"


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: value if name == "examples" else _closed(value) for name, value in schema.items()}
    is_object = "object" in str(schema.get("type")) and "properties" in schema
    return {**result, "unevaluatedProperties": False} if is_object else result
