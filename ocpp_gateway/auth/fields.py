"""Reading an identity record field by field, each with its type; what is wrong is told by the field's path."""

from __future__ import annotations

from typing import Any, Final

import orjson
from attrs import frozen

from ocpp_gateway.auth.errors import IdentityRecordInvalid

MAX_RECORD_BYTES: Final = 64 * 1024


@frozen
class RecordFields:
    """An object of the record with its path, for messages. ``warnings`` is shared by all objects of one record.

    Members that are absent or ``null`` are None, False or empty. All methods raise IdentityRecordInvalid for a value of
    the wrong type.
    """

    values: dict[str, Any]
    path: str
    warnings: list[str]

    @classmethod
    def of(cls, raw: bytes | str) -> RecordFields:
        """The record stored as ``raw``."""
        if len(raw) > MAX_RECORD_BYTES:
            raise IdentityRecordInvalid("larger than an identity record can be")
        try:
            values = orjson.loads(raw)
        except ValueError:  # not chained: its text quotes the record
            raise IdentityRecordInvalid("not JSON") from None
        if not isinstance(values, dict):
            raise IdentityRecordInvalid("not a JSON object")
        return cls(values, "", [])

    def warn(self, name: str, problem: str) -> None:
        """Tell the operator that the member ``name`` does not do what was meant."""
        self.warnings.append(f"{self.path}{name}: {problem}")

    def text(self, name: str) -> str | None:
        """A text, which may be empty."""
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise IdentityRecordInvalid(f"{self.path}{name}: not a string")

    def given(self, name: str) -> str | None:
        """A text in which an empty one says nothing."""
        return self.text(name) or None

    def lower(self, name: str) -> str | None:
        """A word, in lower case and without blanks around it."""
        value = self.given(name)
        return value.strip().lower() if value is not None else None

    def mandatory_text(self, name: str) -> str:
        """A text that has to be there and say something."""
        value = self.given(name)
        if value is None:
            raise IdentityRecordInvalid(f"{self.path}{name}: missing")
        return value

    def flag(self, name: str) -> bool:
        """True or False."""
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise IdentityRecordInvalid(f"{self.path}{name}: not true or false")

    def number(self, name: str, lowest: int, highest: int) -> int | None:
        """An integer from ``lowest`` to ``highest``."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return value
        raise IdentityRecordInvalid(f"{self.path}{name}: not a number from {lowest} to {highest}")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._list(name)
        if all(isinstance(value, str) for value in values):
            return tuple(values)
        raise IdentityRecordInvalid(f"{self.path}{name}: not a list of strings")

    def nested(self, name: str) -> RecordFields:
        """An object; empty where there is none."""
        value = self.values.get(name)
        return self._object({} if value is None else value, name)

    def nested_list(self, name: str) -> list[RecordFields]:
        """A list of objects."""
        return [self._object(value, name) for value in self._list(name)]

    def _list(self, name: str) -> list[Any]:
        values = self.values.get(name)
        if values is None:
            return []
        if isinstance(values, list):
            return values
        raise IdentityRecordInvalid(f"{self.path}{name}: not a list")

    def _object(self, value: object, name: str) -> RecordFields:
        if isinstance(value, dict):
            return RecordFields(value, f"{self.path}{name}.", self.warnings)
        raise IdentityRecordInvalid(f"{self.path}{name}: not an object")
