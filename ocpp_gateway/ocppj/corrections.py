"""Where the published JSON Schemas are wrong, or stricter than the field can bear.

* The schemas come with the ``ocpp`` distribution; it adds ``minItems: 1`` to the arrays of 1.6 MeterValues, which the
  official file does not have, and chargers do send empty ones.
* 1.6 spells a unit "Celcius" and, since the errata, "Celsius"; StopTransaction learned that years after MeterValues.
  Frequency has a measurand but no unit: Hertz is taken wherever units are listed, not only in MeterValues.
* Draft 4, in which the 1.6 core schemas are written, does not take 10.0 for an integer; draft 6 does. A meter reading
  of ``10.0`` says the same as ``10``, so what a charge point sends is measured by draft 6. What is sent to a charge
  point stays under its own draft: its parser may be as strict as that.
* A timestamp without a zone is not RFC 3339, but common. It is taken from a charge point, never sent to one.
* ``multipleOf: 0.1`` (charging limits of 1.6) is unusable in binary floating point; the validator in use computes it
  in decimal, so there is nothing to correct. A test holds it to that.

What stays strict although the field breaks it (closed enumerations, lengths, unknown members) is a matter of policy:
a violation is reported, and whoever asked decides.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from ocpp_gateway.ocppj.versions import OcppVersion

JsonSchema = dict[str, Any]

_EITHER_SPELLING = frozenset({"Celcius", "Celsius"})
_ACCEPTED_UNITS = ("Celcius", "Celsius", "Hertz")

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)?", re.ASCII
)


def correct(version: OcppVersion, name: str, schema: JsonSchema) -> None:
    """Correct ``schema``, the one of the file ``name`` without its ending, in place."""
    if version is not OcppVersion.V16:
        return
    _complete_units(schema)
    if name == "MeterValues":
        meter_value = schema["properties"]["meterValue"]
        meter_value.pop("minItems", None)
        meter_value["items"]["properties"]["sampledValue"].pop("minItems", None)


def is_tolerable_timestamp(text: str) -> bool:
    """Whether ``text`` is an RFC 3339 timestamp, or one but for the zone that it lacks."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return False
    try:
        date.fromisoformat(match[1])
    except ValueError:
        return False
    return True


def _complete_units(schema: object) -> None:
    if isinstance(schema, dict):
        values = schema.get("enum")
        if isinstance(values, list) and not _EITHER_SPELLING.isdisjoint(values):
            values.extend(unit for unit in _ACCEPTED_UNITS if unit not in values)
        for member in schema.values():
            _complete_units(member)
    elif isinstance(schema, list):
        for item in schema:
            _complete_units(item)
