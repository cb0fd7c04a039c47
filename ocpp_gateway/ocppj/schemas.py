"""The official JSON Schemas, corrected and compiled once: is a payload what the standard says?

The files are data of the ``ocpp`` distribution; nothing of its code runs. Only the actions of ``actions`` are loaded,
so a name from the wire can never reach a file name. Compiling all of them takes some hundredths of a second.

Payloads that a charge point sends are measured more leniently than those sent to one, see ``corrections``.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from itertools import islice
from typing import Any

import orjson
from attrs import frozen
from jsonschema_rs import Draft4Validator, Draft6Validator, ValidationError

from ocpp_gateway.errors import StartFailed
from ocpp_gateway.ocppj.actions import csms_actions, send_actions, station_actions
from ocpp_gateway.ocppj.corrections import JsonSchema, correct, is_tolerable_timestamp
from ocpp_gateway.ocppj.frames import Payload
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.ocppj.violations import Violation, violation

_FOLDERS = {OcppVersion.V16: "v16", OcppVersion.V201: "v201", OcppVersion.V21: "v21"}


#: The validator finds all errors before it tells the first. A payload of more values than this is described by one.
MAX_VALUES_DESCRIBED = 1000

Validator = Draft4Validator | Draft6Validator


@frozen
class Schema:
    """The compiled schema of one payload, the CALL's or the CALLRESULT's of an action."""

    version: OcppVersion
    _strict: Validator
    # Asked only about what breaks the strict one: its timestamps are checked in Python.
    _tolerant: Validator

    def violation(self, payload: Payload) -> Violation | None:
        """The first rule that ``payload`` breaks, or None if it breaks none."""
        if self._strict.is_valid(payload):
            return None
        try:
            self._tolerant.validate(payload)
        except ValidationError as error:
            return self._violation(error)
        return None

    def violations(self, payload: Payload, limit: int = 10) -> tuple[Violation, ...]:
        """The rules that ``payload`` breaks, at most ``limit``; of a huge payload only the first."""
        first = self.violation(payload)
        if first is None:
            return ()
        if _has_more_values_than(MAX_VALUES_DESCRIBED, payload):
            return (first,)
        return tuple(self._violation(error) for error in islice(self._tolerant.iter_errors(payload), limit))

    def _violation(self, error: ValidationError) -> Violation:
        return violation(self.version, error.kind.name, error.kind.as_dict(), error.instance_path)


@frozen
class Schemas:
    """The schemas of all actions, by version."""

    _requests: Mapping[tuple[OcppVersion, str], Schema]
    _responses: Mapping[tuple[OcppVersion, str], Schema]

    @classmethod
    def load(cls, versions: Iterable[OcppVersion] = OcppVersion, source: Traversable | None = None) -> Schemas:
        """Read and compile the schemas of ``versions``; ``source`` is the ``ocpp`` package unless given.

        Raises StartFailed if a file is missing or unreadable.
        """
        if source is None:
            source = importlib.resources.files("ocpp")
        requests: dict[tuple[OcppVersion, str], Schema] = {}
        responses: dict[tuple[OcppVersion, str], Schema] = {}
        for version in versions:
            folder = source / _FOLDERS[version] / "schemas"
            suffix = "Request" if version.is_2x else ""
            # DataTransfer goes both ways; it holds nothing that leniency would change.
            for action in station_actions(version):
                requests[version, action] = _compile(version, folder, action + suffix, lenient=True)
                responses[version, action] = _compile(version, folder, f"{action}Response", lenient=False)
            for action in csms_actions(version) - station_actions(version):
                requests[version, action] = _compile(version, folder, action + suffix, lenient=False)
                responses[version, action] = _compile(version, folder, f"{action}Response", lenient=True)
            for action in send_actions(version):
                requests[version, action] = _compile(version, folder, action, lenient=True)
        return cls(requests, responses)

    def request(self, version: OcppVersion, action: str) -> Schema:
        """The schema of the action's CALL or SEND. Raises KeyError for an action that ``version`` does not have."""
        return self._requests[version, action]

    def response(self, version: OcppVersion, action: str) -> Schema:
        """The schema of the action's CALLRESULT. Raises KeyError for an action that ``version`` does not have."""
        return self._responses[version, action]


def _compile(version: OcppVersion, folder: Traversable, name: str, *, lenient: bool) -> Schema:
    file = folder / f"{name}.json"
    try:
        # Some of the files begin with a byte order mark.
        schema: JsonSchema = orjson.loads(file.read_text("utf-8-sig"))
        correct(version, name, schema)
        draft_4 = "draft-04" in schema.pop("$schema") and not lenient
        draft = Draft4Validator if draft_4 else Draft6Validator
        strict: Validator = draft(schema, validate_formats=True, offline=True)
        tolerant = strict
        if lenient:
            formats = {"date-time": is_tolerable_timestamp}
            tolerant = draft(schema, formats=formats, validate_formats=True, offline=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartFailed(
            "schemas_unusable",
            f"the schema {_FOLDERS[version]}/{name} of the ocpp package cannot be used ({type(error).__name__}); "
            "reinstall it: pip install --force-reinstall ocpp",
        ) from error
    return Schema(version, strict, tolerant)


def _has_more_values_than(limit: int, payload: Payload) -> bool:
    count = 0
    waiting: list[Any] = [payload]
    while waiting:
        value = waiting.pop()
        members = value.values() if type(value) is dict else value if type(value) is list else ()
        count += len(members)
        if count > limit:
            return True
        waiting.extend(members)
    return False
