"""What a connected charge point may say, and what becomes of everything else.

Whatever comes ends in an answer, in a counted silence where OCPP-J wants one, or in a close with a name; never in an
error of ours, and never at the cost of another charge point: one is connected all the while and keeps its Heartbeat.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gateway import Gateway
from support.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    Frame,
    PeerClosed,
    RawCharger,
    frame,
    metric,
)
from support.stations import SUBPROTOCOLS, basic, provision

from ocpp_gateway.ocppj.actions import csms_actions, station_actions
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.session.reasons import CloseReason

VERSIONS = ("1.6", "2.0.1", "2.1")
TIMESTAMP = "2026-01-02T03:04:05Z"


def ocpp_version(version: str) -> OcppVersion:
    found = OcppVersion.from_label(version)
    assert found is not None
    return found


def connected(gateway: Gateway, charge_point_id: str, version: str = "1.6") -> RawCharger:
    headers = basic(charge_point_id).items()
    return RawCharger(gateway.ocpp_port, charge_point_id, headers, subprotocols=SUBPROTOCOLS[version])


@define
class Hostile:
    """Charge points, one per version, that connect again whenever they were thrown out."""

    gateway: Gateway
    redis_url: str
    bystander: RawCharger
    _chargers: dict[str, RawCharger] = field(factory=dict)
    _epochs: dict[str, int] = field(factory=dict)
    _beats: int = 0

    def try_out(self, version: str, wire: bytes) -> list[Any] | str:
        """Send ``wire``: the messages that come back before a Heartbeat is answered, or the reason of the close."""
        charger = self._charger(version)
        try:
            charger.socket.send(wire + frame(b'[2,"probe","Heartbeat",{}]'))
            self.beat()
            said = []
            while True:
                message = charger.receive()
                if message[1] == "probe":
                    assert message[0] == 3, message
                    return said
                said.append(message)
        except PeerClosed as closed:
            return self._thrown_out(version, closed.args[0])

    def hang_up_behind(self, version: str, wire: bytes) -> str:
        """Send ``wire`` and nothing more; the reason of the close."""
        charger = self._charger(version)
        charger.socket.send(wire)
        self.beat()
        charger.socket.finish()
        charger.socket.rest()
        return self._thrown_out(version, None)

    def beat(self) -> None:
        """The bystander is served, whatever else goes on."""
        self._beats += 1
        assert self.bystander.call(str(self._beats), "Heartbeat", {})[0] == 3

    def close(self) -> None:
        for charger in (self.bystander, *self._chargers.values()):
            charger.socket.close()

    def _charger(self, version: str) -> RawCharger:
        if version not in self._chargers:
            identity = f"CP-hostile-{version}"
            provision(self.redis_url, identity)
            self._chargers[version] = connected(self.gateway, identity, version)
            self._epochs[version] = self._epochs.get(version, 0) + 1
        return self._chargers[version]

    def _thrown_out(self, version: str, last: object) -> str:
        charger = self._chargers.pop(version)
        charger.socket.close()
        line = self.gateway.wait_for(
            "session.closed", charge_point_id=charger.charge_point_id, epoch=self._epochs[version]
        )
        reason = next(each for each in CloseReason if each.label == line["close_reason"])
        if isinstance(last, Frame) and reason.code is not None:
            assert last.close_code == line["close_code"] == reason.code
            assert last.close_text == reason.text
        return reason.label


@pytest.fixture(scope="module")
def hostile(gateway: Gateway, redis_url: str) -> Iterator[Hostile]:
    provision(redis_url, "CP-bystander")
    hostile = Hostile(gateway, redis_url, connected(gateway, "CP-bystander", "2.0.1"))
    yield hostile
    hostile.close()
    assert gateway.wait_for("session.closed", charge_point_id="CP-bystander")["epoch"] == 1  # it never had to reconnect


# The corpus.


@frozen
class Broken:
    """A message that is no frame. ``code`` is what answers it, ``has_id`` whether its id ``a`` can be read."""

    text: bytes
    reason: str
    code: ErrorCode
    has_id: bool


RPC, FORMAT = ErrorCode.RPC_FRAMEWORK_ERROR, ErrorCode.FORMAT_VIOLATION
BROKEN = [
    Broken(b'[2,"a","Heartbeat",{', "not_json", RPC, True),
    Broken(b'[2,"a","Heartbeat",{}]]', "not_json", RPC, True),
    Broken(b'[2,"a","Heartbeat",{"x":\x00}]', "not_json", RPC, True),
    Broken(b'[2,"a', "not_json", RPC, False),
    Broken(b"", "not_json", RPC, False),
    Broken(b"Heartbeat", "not_json", RPC, False),
    Broken(b'\xef\xbb\xbf[2,"a","Heartbeat",{}]', "not_json", RPC, False),
    Broken(b"[]", "wrong_arity", RPC, False),
    Broken(b"{}", "not_an_array", RPC, False),
    Broken(b"null", "not_an_array", RPC, False),
    Broken(b"[" * 100_000, "too_deep", FORMAT, False),
    Broken(b'{"a":' * 40_000, "too_deep", FORMAT, False),
    Broken(b'[2,"a","Heartbeat",' + b"[" * 100_000 + b"]" * 100_000 + b"]", "too_deep", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",' + b'{"x":' * 33 + b"1" + b"}" * 33 + b"]", "too_deep", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",{"x":NaN}]', "not_finite", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",{"x":-Infinity}]', "not_finite", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",{"x":"\\ud800"}]', "lone_surrogate", FORMAT, True),
    Broken(b'[2,"\\udfff","Heartbeat",{}]', "lone_surrogate", FORMAT, False),
    Broken(b'[2,"a","Heartbeat",{"x":1,"x":2}]', "duplicate_key", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",{"x":1180591620717411303424}]', "number_out_of_range", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",{"x":1e999}]', "number_out_of_range", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",{"x":' + b"9" * 200_000 + b"}]", "number_out_of_range", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",[]]', "payload_not_an_object", FORMAT, True),
    Broken(b'[2,"a","Heartbeat","{}"]', "payload_not_an_object", FORMAT, True),
    Broken(b'[2,"a","Heartbeat",{},{}]', "wrong_arity", RPC, True),
    Broken(b'[2,"a"]', "wrong_arity", RPC, True),
    Broken(b'[2,"a",7,{}]', "bad_action", RPC, True),
    Broken(b'[2,"a","%b",{}]' % (b"A" * 65), "bad_action", RPC, True),
    Broken(b'[2,null,"Heartbeat",{}]', "bad_message_id", RPC, False),
    Broken(b'[2,{"a":1},"Heartbeat",{}]', "bad_message_id", RPC, False),
    Broken(b'[2,1.5,"Heartbeat",{}]', "bad_message_id", RPC, False),
    Broken(b'[2,1180591620717411303424,"Heartbeat",{}]', "bad_message_id", RPC, False),
    Broken(b'[2,"%b","Heartbeat",{}]' % (b"i" * 1000), "message_id_too_long", RPC, False),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_that_is_no_frame_is_answered_where_that_is_possible(hostile: Hostile, version: str) -> None:
    label = ocpp_version(version).label
    for broken in BROKEN:
        counted = metric(hostile.gateway.http_port, "ocpp_bad_frames_total", version=label, reason=broken.reason)

        said = hostile.try_out(version, frame(broken.text))

        counted_now = metric(hostile.gateway.http_port, "ocpp_bad_frames_total", version=label, reason=broken.reason)
        what = broken.text[:60]
        if said == "bad_frames":
            continue  # as many as are tolerated; it has connected again
        assert counted_now == counted + 1, what
        if version == "1.6" and not broken.has_id:
            assert said == [], what
        else:
            message_id = "a" if broken.has_id else "-1"
            assert said == [[4, message_id, broken.code.spelling(ocpp_version(version)), broken.reason, {}]], what


def test_so_many_of_them_end_the_connection(gateway: Gateway, charge_point_id: str) -> None:
    with connected(gateway, charge_point_id) as charger:
        charger.send(*[b"nonsense"] * 9)
        assert charger.call("1", "Heartbeat", {})[0] == 3
        charger.send(*[b"nonsense"] * 10)
        closing = charger.closed()
    assert (closing.close_code, closing.close_text) == (1002, "Too many frames that are not OCPP-J")
    assert gateway.wait_for("session.closed", charge_point_id=charge_point_id)["close_reason"] == "bad_frames"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_message_type_is_ignored_or_in_201_refused(hostile: Hostile, version: str) -> None:
    unknown = ["0", "1", "7", "-2", "2.0", '"2"', "true", "null", "[]", "99999"]
    unknown += [] if version == "2.1" else ["5", "6"]
    for number in unknown:
        said = hostile.try_out(version, frame(b'[%b,"a","Heartbeat",{}]' % number.encode()))

        if said == "bad_frames":
            continue
        expected = [[4, "a", "MessageTypeNotSupported", "unknown_message_type", {}]] if version == "2.0.1" else []
        assert said == expected, number


@pytest.mark.parametrize("version", VERSIONS)
def test_an_answer_that_nobody_waits_for_is_dropped(hostile: Hostile, version: str) -> None:
    def count() -> float:
        label = ocpp_version(version).label
        return metric(hostile.gateway.http_port, "ocpp_bad_frames_total", version=label, reason="unexpected_answer")

    before = count()
    for text in (
        b'[3,"a",{}]',
        b'[3,"a",null]',
        b'[4,"a","GenericError","",{}]',
        b'[4,"a","GenericError","no details"]',
    ):
        assert hostile.try_out(version, frame(text)) == []
    assert count() == before + 4
    if version == "2.1":
        assert hostile.try_out(version, frame(b'[5,"a","GenericError","",{}]')) == []
        assert hostile.try_out(version, frame(b'[6,"a","Heartbeat",{}]')) == []  # a SEND is never answered
        assert hostile.try_out(version, frame(b'[6,"a","NotifyPeriodicEventStream",{}]')) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_an_action_is_known_and_from_this_side_or_refused(hostile: Hostile, version: str) -> None:
    spoken = ocpp_version(version)
    others = sorted(csms_actions(spoken) - station_actions(spoken))
    unknown = ["Teleport", "heartbeat", "../../etc/passwd", "./Heartbeat", "HeartbeatRequest", "", "\u00e9", "a\nb"]
    signed = "NotImplemented" if version == "1.6" else "NotSupported"
    for action, code in [
        *((action, "NotSupported") for action in others),
        *((action, "NotImplemented") for action in unknown),
        ("Heartbeat-Signed", signed),
    ]:
        said = hostile.try_out(version, frame(json.dumps([2, "a", action, {}]).encode()))
        assert said == [[4, "a", code, "", {}]], action


@pytest.mark.parametrize("version", VERSIONS)
def test_wrong_types_everywhere_are_refused_by_the_schema(hostile: Hostile, version: str) -> None:
    wrong: list[Any] = [None, True, -1, 1.5, 2**63, "", "x" * 5000, [], [[]], {}, {"": {}}]
    codes = {code.spelling(ocpp_version(version)) for code in ErrorCode}
    for value in wrong:
        good = (
            {"chargePointModel": "M", "chargePointVendor": "V"}
            if version == "1.6"
            else {"chargingStation": {"model": "M", "vendorName": "V"}, "reason": "PowerUp"}
        )
        for name in [*good, "unknown"]:
            payload = json.dumps([2, "a", "BootNotification", {**good, name: value}]).encode()
            (answer,) = hostile.try_out(version, frame(payload))
            if answer[0] == 3:
                assert (name, value) in [("chargePointModel", ""), ("chargePointVendor", "")]
            else:
                assert answer[:2] == [4, "a"]
                assert answer[2] in codes
                assert name in answer[3]
                assert len(answer[3]) <= 255


CLOSES = [
    (frame(b'[2,"a","Heartbeat",{}]', BINARY), "binary_message"),
    (frame(b'[2,"a","Heartbeat",{}]', masked=False), "protocol_error"),
    (frame(b'[2,"a","Heartbeat",{"x":"\xff"}]'), "invalid_utf8"),
    (frame(b'[2,"a","Heartbeat",{"x":"\xed\xa0\x80"}]'), "invalid_utf8"),
    (frame(b"\xc3"), "invalid_utf8"),
    (frame(b"\xc3", fin=False) + frame(b"x", CONTINUATION), "invalid_utf8"),
    *((frame(b'[2,"a","Heartbeat",{}]', reserved=bits), "protocol_error") for bits in (1, 2, 4, 7)),
    *((frame(b"x", opcode), "protocol_error") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    (frame(b"x" * 126, PING), "protocol_error"),
    (frame(b"x" * 126, CLOSE), "protocol_error"),
    (frame(b"x", PING, fin=False), "protocol_error"),
    (frame(b"x", CLOSE), "protocol_error"),
    (frame(struct.pack("!H", 999), CLOSE), "protocol_error"),
    (frame(struct.pack("!H", 1005), CLOSE), "protocol_error"),
    (frame(b"\x03\xe8\xff", CLOSE), "invalid_utf8"),
    (frame(b"x", CONTINUATION), "protocol_error"),
    (frame(b"[", fin=False) + frame(b'[2,"a","Heartbeat",{}]'), "protocol_error"),
    (b"\x81\xfe\x00\x01abcdx", "protocol_error"),  # a length in more bytes than it needs
    (b"\x81\xff" + b"\xff" * 8 + b"abcd", "protocol_error"),  # a length with the sign bit set
    (frame(b"x" * 1000, announced=100_000_000), "message_too_big"),
    (frame(b"x" * 1000, announced=2**63 - 1), "message_too_big"),
    (frame(b"x" * 1000, announced=100_000_000) + b"x" * 5_000_000, "message_too_big"),
    (frame(b" " * 262_145), "message_too_big"),
    (frame(b" " * 200_000, fin=False) + frame(b" " * 100_000, CONTINUATION), "message_too_big"),
    (frame(b"", fin=False) + frame(b"", CONTINUATION, fin=False) * 4200, "too_many_fragments"),
    (frame(b"", CLOSE), "peer_closed"),
    (frame(b"\x03\xe8", CLOSE), "peer_closed"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "protocol_error"),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_breach_of_the_websocket_protocol_ends_in_a_close_with_a_name(hostile: Hostile, version: str) -> None:
    for wire, reason in CLOSES:
        assert hostile.try_out(version, wire) == reason, wire[:60]


def test_what_the_protocol_allows_is_allowed(hostile: Hostile) -> None:
    call = b'[2,"a","Heartbeat",{}]'
    for wire in (
        frame(b" " * 200_000 + call),
        frame(b"\t" + call[:7] + b"\r\n " + call[7:]),
        frame(b"", fin=False) + frame(b"", CONTINUATION, fin=False) * 100 + frame(call, CONTINUATION),
        frame(call[:5], fin=False) + frame(b"ping", PING) + frame(call[5:], CONTINUATION),
        b"".join(
            frame(call[place : place + 1], CONTINUATION if place else 1, fin=place == len(call) - 1)
            for place in range(len(call))
        ),
        frame(b"unasked", PONG) * 100 + frame(call),
    ):
        (answer,) = hostile.try_out("1.6", wire)
        assert answer[:2] == [3, "a"], wire[:60]


def test_bytes_may_come_one_at_a_time(gateway: Gateway, hostile: Hostile, charge_point_id: str) -> None:
    padding = b" " * 6000  # more pieces than a message may have fragments
    with connected(gateway, charge_point_id) as charger:
        charger.socket.send_bytewise(frame(b'[2,"a","Heartbeat",' + padding + b"{}]"))
        hostile.beat()
        assert charger.receive()[:2] == [3, "a"]


def test_who_does_not_read_is_not_read_either(gateway: Gateway, hostile: Hostile, charge_point_id: str) -> None:
    pings = frame(b"p" * 125, PING) * 500
    with connected(gateway, charge_point_id) as charger:
        assert charger.socket.sends_at_most(pings, 60_000_000)
        hostile.beat()
        charger.socket.reset()
        assert gateway.wait_for("session.closed", charge_point_id=charge_point_id)["close_reason"] == "connection_lost"


# One CALL after the other.


def meter_values(message_id: str | int, value: str) -> list[Any]:
    sampled = [{"timestamp": TIMESTAMP, "sampledValue": [{"value": value}]}]
    return [2, message_id, "MeterValues", {"connectorId": 1, "meterValue": sampled}]


def start_transaction(message_id: str) -> list[Any]:
    payload = {"connectorId": 1, "idTag": "TAG-1", "meterStart": 1, "timestamp": TIMESTAMP}
    return [2, message_id, "StartTransaction", payload]


def test_answers_and_events_come_in_the_order_of_the_calls(
    gateway: Gateway, hostile: Hostile, events: Any, charge_point_id: str
) -> None:
    kinds = [
        lambda message_id: meter_values(message_id, message_id),
        start_transaction,  # waits for Redis
        lambda message_id: [2, message_id, "Authorize", {"idTag": "TAG-1"}],
        lambda message_id: [2, message_id, "Teleport", {}],  # refused at once
        lambda message_id: [2, message_id, "StopTransaction", {"transactionId": "broken"}],
    ]
    calls = [kinds[number % len(kinds)](str(number)) for number in range(300)]  # many more than may wait
    with connected(gateway, charge_point_id) as charger:
        charger.send(*calls)
        hostile.beat()
        answers = [charger.receive() for _ in calls]
        charger.hang_up()

    assert [answer[1] for answer in answers] == [call[1] for call in calls]
    assert {answer[0] for answer in answers if int(answer[1]) % 5 != 3} == {3}
    published = [event["messageId"] for event in events(charge_point_id, "ocpp.session.events")]
    assert published == [call[1] for call in calls if int(call[1]) % 5 in (0, 1, 4)]


def test_a_retransmission_gets_the_same_answer_and_makes_no_second_event(
    gateway: Gateway, events: Any, charge_point_id: str
) -> None:
    def count() -> float:
        return metric(gateway.http_port, "ocpp_calls_total", action="StartTransaction", outcome="retransmitted")

    before = count()
    with connected(gateway, charge_point_id) as charger:
        charger.send(*[start_transaction("1")] * 3)  # in flight
        answers = [charger.receive() for _ in range(3)]
        charger.send(start_transaction("1"))  # just answered
        answers.append(charger.receive())
    assert answers == [answers[0]] * 4
    assert answers[0][:2] == [3, "1"]
    assert len(events(charge_point_id, "ocpp.session.events")) == 1
    assert count() == before + 3


def test_other_bytes_under_the_same_id_are_a_new_message(gateway: Gateway, events: Any, charge_point_id: str) -> None:
    with connected(gateway, charge_point_id) as charger:
        charger.send(meter_values("1", "10"), meter_values("1", "20"))
        assert [charger.receive() for _ in range(2)] == [[3, "1", {}]] * 2
    with connected(gateway, charge_point_id) as charger:
        charger.send(meter_values("1", "20"))  # the same bytes, on another connection
        assert charger.receive() == [3, "1", {}]
    published = events(charge_point_id, "ocpp.session.events")
    values = [event["payload"]["payload"]["meterValue"][0]["sampledValue"][0]["value"] for event in published]
    assert values == ["10", "20", "20"]
    assert [event["payload"].get("idempotent") for event in published] == [None, None, True]


# Tolerated, and counted.


@pytest.mark.parametrize("version", VERSIONS)
def test_quirks_are_tolerated_and_counted(hostile: Hostile, version: str) -> None:
    for text, quirk, message_id in [
        (b'[2,"a","Heartbeat",null]', "null_payload", "a"),
        (b'[2,"a","Heartbeat"]', "missing_payload", "a"),
        (b'[2,7,"Heartbeat",{}]', "numeric_message_id", 7),
        (b'[2,-1,"Heartbeat",{}]', "numeric_message_id", -1),
        (b'[4,"a","GenericError","no details"]', "short_callerror", None),
        (b'[4,"a","GenericError",null,[]]', "loose_callerror", None),
    ]:
        labels = {"version": ocpp_version(version).label, "quirk": quirk}
        before = metric(hostile.gateway.http_port, "ocpp_quirks_total", **labels)

        said = hostile.try_out(version, frame(text))

        assert [answer[:2] for answer in said] == ([] if message_id is None else [[3, message_id]])
        assert metric(hostile.gateway.http_port, "ocpp_quirks_total", **labels) == before + 1, quirk


# Billing data is never refused.


def test_a_stop_that_breaks_the_schema_is_published_as_it_came_and_answered(
    gateway: Gateway, events: Any, charge_point_id: str
) -> None:
    broken: list[dict[str, Any]] = [
        {},
        {"transactionId": "seven", "meterStop": 1.5, "timestamp": "soon", "reason": "Bored"},
        {"transactionId": -1, "meterStop": 10, "timestamp": TIMESTAMP, "extra": {"\u00e9": [None]}},
        {"transactionId": 2**40, "meterStop": "", "timestamp": 0, "transactionData": {}, "idTag": "x" * 100},
    ]
    with connected(gateway, charge_point_id) as charger:
        for number, payload in enumerate(broken):
            assert charger.call(str(number), "StopTransaction", payload)[0] == 3
    published = events(charge_point_id, "ocpp.session.events")
    assert [event["eventType"] for event in published] == ["SessionStopped"] * len(broken)
    assert [event["payload"]["payload"] for event in published] == broken
    assert all(event["payload"]["schemaErrors"] for event in published)


UNREADABLE = [
    # version, text, what the answer begins with, why it is broken
    ("1.6", b'[2,"a","StopTransaction",{"meterStop":1', [3, "a"], "not_json"),
    ("1.6", b'[2,"b","StartTransaction",{"x":1,"x":2}]', [3, "b"], "duplicate_key"),
    ("1.6", b'[2,"c","MeterValues",{"x":NaN}]', [3, "c"], "not_finite"),
    ("1.6", b'[2,"d","StopTransaction",[]]', [3, "d"], "payload_not_an_object"),
    ("1.6", b'[2,null,"StopTransaction",{}]', None, "bad_message_id"),
    ("2.0.1", b'[2,"a","TransactionEvent",{"seqNo":1', [3, "a"], "not_json"),
    ("2.0.1", b'[2,null,"TransactionEvent",{}]', [3, "-1"], "bad_message_id"),
    ("2.1", b'[2,"a","TransactionEvent",{"x":"\\ud800"}]', [3, "a"], "lone_surrogate"),
]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stop_that_is_not_even_json_is_published_as_text_and_answered(
    gateway: Gateway, events: Any, charge_point_id: str, version: str
) -> None:
    cases = [case for case in UNREADABLE if case[0] == version]
    with connected(gateway, charge_point_id, version) as charger:
        for _, text, begin, _ in cases:
            charger.send(text)
            if begin is not None:
                assert charger.receive()[:2] == begin
        assert charger.call("z", "Heartbeat", {})[0] == 3
    published = events(charge_point_id, "ocpp.session.events")
    assert [event["payload"]["rawFrame"].encode() for event in published] == [text for _, text, _, _ in cases]
    assert [event["payload"]["schemaErrors"] for event in published] == [[reason] for *_, reason in cases]
    assert [event.get("messageId") for event in published] == [begin and begin[1] for _, _, begin, _ in cases]
    assert all(event["payload"]["payload"] == {} for event in published)


# Fuzz.

FUZZ = settings(
    max_examples=120, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LABELS = {reason.label for reason in CloseReason}

NAMES = [
    "connectorId", "idTag", "meterStart", "meterStop", "timestamp", "transactionId", "meterValue", "sampledValue",
    "value", "status", "errorCode", "eventType", "triggerReason", "seqNo", "transactionInfo", "evse", "idToken",
    "customData", "vendorId", "data", "key", "chargingStation", "reason", "requestId", "generatedAt", "reportData",
]  # fmt: skip
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from([TIMESTAMP, "TAG-1", "Accepted", "1", 1, 0, -1]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10) | st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
ACTIONS = sorted(set().union(*(station_actions(version) for version in OcppVersion)))
near_calls = st.tuples(
    st.sampled_from([2, 2, 2, 2, 3, 4, 5, 6]) | json_values,
    st.text(max_size=40) | st.integers() | json_values,
    st.sampled_from(ACTIONS) | st.text(max_size=70) | json_values,
    st.dictionaries(st.sampled_from(NAMES), json_values, max_size=6) | json_values,
).map(list)


@FUZZ
@given(version=st.sampled_from(VERSIONS), message=near_calls, cut=st.integers(0, 5))
def test_what_looks_like_a_call_ends_in_an_answer_or_a_named_close(
    hostile: Hostile, version: str, message: list[Any], cut: int
) -> None:
    text = json.dumps(message[: 4 - max(0, cut - 3)])
    said = hostile.try_out(version, frame(text.encode()))
    if isinstance(said, str):
        assert said == "bad_frames"
        return
    codes = {code.spelling(ocpp_version(version)) for code in ErrorCode}
    for answer in said:
        assert answer[0] in (3, 4)
        if answer[0] == 3:
            assert isinstance(answer[2], dict)
        else:
            assert answer[2] in codes
            assert len(answer[3]) <= 255
            assert "Traceback" not in answer[3]
            assert "Error" not in answer[3]


@FUZZ
@given(version=st.sampled_from(VERSIONS), data=st.data())
def test_a_mutilated_call_ends_in_an_answer_or_a_named_close(hostile: Hostile, version: str, data: Any) -> None:
    text = bytearray(
        b'[2,"a","StatusNotification",{"connectorId":1,"errorCode":"NoError","status":"Available",'
        b'"timestamp":"2026-01-02T03:04:05Z","vendorId":"\\u00e9"}]'
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=3))
    said = hostile.try_out(version, frame(bytes(text)))
    assert said in ("bad_frames", "invalid_utf8") if isinstance(said, str) else len(said) <= 1


@FUZZ
@given(version=st.sampled_from(VERSIONS), wire=st.lists(st.binary(max_size=40), max_size=5), is_framed=st.booleans())
def test_any_bytes_at_all_end_in_a_named_close(
    hostile: Hostile, version: str, wire: list[bytes], is_framed: bool
) -> None:
    opcodes = (CONTINUATION, 1, BINARY, CLOSE, PING, PONG)
    sent = (
        [frame(part, opcodes[len(part) % len(opcodes)], fin=len(part) % 3 > 0) for part in wire] if is_framed else wire
    )
    assert hostile.hang_up_behind(version, b"".join(sent)) in LABELS
