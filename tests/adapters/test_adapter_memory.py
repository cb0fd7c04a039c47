"""What the adapters remember is bounded, and reads of damaged payloads give a value or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocpp_gateway.adapters.fields import integer, payload_part, salvaged_text, text
from ocpp_gateway.adapters.recent import Recent


@given(max_entries=st.integers(1, 40), keys=st.lists(st.integers(0, 60), max_size=200))
def test_recent_holds_the_last_half_and_never_more_than_all(max_entries: int, keys: list[int]) -> None:
    recent: Recent[int, int] = Recent(max_entries)
    for key in keys:
        recent.put(key, key)
        assert len(recent) <= max_entries
    last = list(dict.fromkeys(reversed(keys)))[: max_entries // 2]
    assert all(key in recent and recent.get(key) == key for key in last[:-1])


def test_recent_keeps_what_is_read() -> None:
    recent: Recent[str, bool] = Recent(10)
    recent.put("kept", False)
    for number in range(100):
        recent.put(f"other {number}", True)
        assert recent.get("kept") is False
    assert recent.get("other 0") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, 7), (7.0, 7), (-1, -1), (7.5, None), (True, None), ("7", None), (None, None), (1e300, None), (2**60, None)],
)
def test_integer(value: Any, expected: int | None) -> None:
    assert integer(value) == expected
    assert type(integer(value)) is type(expected)


@pytest.mark.parametrize(("value", "expected"), [("a", "a"), ("", None), (1, None), (None, None), (["a"], None)])
def test_text(value: Any, expected: str | None) -> None:
    assert text(value) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"idTag": "A","meterStart":,}', "A"),
        (b'{"idTag":"\xc3\xa9"', "\u00e9"),
        (b'{"idTag":"\xff"', None),
        (b'{"idTag":"a\\"b"', None),
        (b'{"idTag":5', None),
        (b'{"idTag":"', None),
        (b"", None),
    ],
)
def test_salvaged_text(raw: bytes, expected: str | None) -> None:
    assert salvaged_text(raw, "idTag") == expected


def test_payload_part_leaves_the_message_id_out() -> None:
    assert payload_part("StopTransaction", b'[2,"1","StopTransaction",{,}]') == b",{,}]"
    assert payload_part("StopTransaction", b'{"a":"StopTransaction"}') == b'{"a":"StopTransaction"}'
    assert payload_part("StopTransaction", b"[2,") == b"[2,"
