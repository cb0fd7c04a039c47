"""Each action that a charge point may send is answered with what its response schema allows."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_ports import CALLER, NOW, MemoryStore, adapter_of, body_of, call_of, result_of
from hypothesis import given
from hypothesis import strategies as st
from schema_samples import sample_request

from ocpp_gateway.adapters.answers import Adapter, CallRefused, TokenStatus, Topic
from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.ocppj.actions import send_actions, station_actions, transaction_related
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.ocppj.versions import OcppVersion

EVERY_ACTION = [(version, action) for version in OcppVersion for action in sorted(station_actions(version))]
SCHEMAS = Schemas.load()

CONTRACT = {
    "BootNotification": ("StationBooted", Topic.STATION),
    "Heartbeat": ("StationHeartbeat", Topic.STATION),
    "StatusNotification": ("ConnectorStatusChanged", Topic.STATION),
    "StartTransaction": ("SessionStarted", Topic.SESSION),
    "StopTransaction": ("SessionStopped", Topic.SESSION),
    "MeterValues": ("MeterValuesReceived", Topic.SESSION),
    "TransactionEvent": ("SessionEvent", Topic.SESSION),
    "DataTransfer": ("DataTransferReceived", Topic.STATION),
}


@pytest.mark.parametrize(("version", "action"), EVERY_ACTION)
def test_every_action_gets_a_valid_answer(version: OcppVersion, action: str) -> None:
    payload = sample_request(version, action)
    assert SCHEMAS.request(version, action).violations(payload) == ()
    store = MemoryStore()
    store.tokens["tenant-a", "text"] = TokenStatus("Accepted", "2027-01-01T00:00:00+01:00", "GROUP")
    for policy in IdTokenPolicy:
        answer = result_of(adapter_of(version, store, policy).answer(CALLER, call_of(action, payload)))
        assert SCHEMAS.response(version, action).violations(body_of(answer)) == ()
        answer.confirmed()


@pytest.mark.parametrize("version", OcppVersion)
def test_event_types_and_topics_are_those_of_the_contract(version: OcppVersion) -> None:
    adapter = adapter_of(version, MemoryStore())
    assert adapter.version is version
    for action in station_actions(version):
        assert (adapter.event_type(action), adapter.topic(action)) == CONTRACT.get(action, (action, Topic.STATION))


@pytest.mark.parametrize("version", OcppVersion)
def test_send_is_published_under_its_own_name(version: OcppVersion) -> None:
    adapter = adapter_of(version, MemoryStore())
    for action in send_actions(version):
        assert adapter.immediate(CALLER, call_of(action, {})) is not None
        assert (adapter.event_type(action), adapter.topic(action)) == (action, Topic.STATION)


@pytest.mark.parametrize("version", OcppVersion)
def test_an_action_of_the_other_side_is_refused(version: OcppVersion) -> None:
    adapter = adapter_of(version, MemoryStore())
    assert adapter.immediate(CALLER, call_of("Reset", {})) is None
    with pytest.raises(CallRefused) as refused:
        result_of(adapter.answer(CALLER, call_of("Reset", {})))
    assert (refused.value.code, refused.value.reason) == (ErrorCode.NOT_SUPPORTED, "not_answerable")
    with pytest.raises(CallRefused):
        result_of(adapter.minimal(CALLER, "Reset", {}, b"{}"))


@pytest.mark.parametrize("version", OcppVersion)
def test_clocks_are_those_of_the_moment_of_sending(version: OcppVersion) -> None:
    adapter = adapter_of(version, MemoryStore())
    boot = adapter.immediate(CALLER, call_of("BootNotification", sample_request(version, "BootNotification")))
    beat = adapter.immediate(CALLER, call_of("Heartbeat", {}))
    assert boot is not None and beat is not None
    assert body_of(boot, NOW) == {"status": "Accepted", "currentTime": "2026-01-02T03:04:05Z", "interval": 300}
    assert body_of(boot, NOW + 9)["currentTime"] == "2026-01-02T03:04:14Z"
    assert body_of(beat, NOW + 9) == {"currentTime": "2026-01-02T03:04:14Z"}


@pytest.mark.parametrize("version", OcppVersion)
def test_what_nobody_could_do_is_not_promised(version: OcppVersion) -> None:
    adapter = adapter_of(version, MemoryStore())
    expected = {"SignCertificate": "Rejected", "DataTransfer": "UnknownVendorId"}
    if version.is_2x:
        expected |= {
            "Get15118EVCertificate": "Failed",
            "GetCertificateStatus": "Failed",
            "NotifyEVChargingNeeds": "Rejected",
            "NotifyEVChargingSchedule": "Accepted",
        }
    if version is OcppVersion.V21:
        expected |= dict.fromkeys(
            ("OpenPeriodicEventStream", "PullDynamicScheduleUpdate", "VatNumberValidation"), "Rejected"
        )
    for action, status in expected.items():
        answer = adapter.immediate(CALLER, call_of(action, sample_request(version, action)))
        assert answer is not None
        assert body_of(answer)["status"] == status


def test_chain_status_names_each_certificate_asked_about() -> None:
    adapter = adapter_of(OcppVersion.V21, MemoryStore())
    one = {"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "1"}
    two = {**one, "serialNumber": "2"}
    requests = [
        {"certificateHashData": one, "source": "OCSP", "urls": ["https://ocsp.example.com"]},
        {"certificateHashData": two, "source": "CRL", "urls": ["https://crl.example.com"]},
    ]
    call = call_of("GetCertificateChainStatus", {"certificateStatusRequests": requests})
    body = body_of(result_of(adapter.answer(CALLER, call)))
    assert body == {
        "certificateStatus": [
            {"certificateHashData": one, "source": "OCSP", "status": "Failed", "nextUpdate": "2026-01-02T03:04:05Z"},
            {"certificateHashData": two, "source": "CRL", "status": "Failed", "nextUpdate": "2026-01-02T03:04:05Z"},
        ]
    }
    assert SCHEMAS.response(OcppVersion.V21, "GetCertificateChainStatus").violations(body) == ()


@pytest.mark.parametrize(
    ("version", "payload", "connector_id"),
    [
        (OcppVersion.V16, {"connectorId": 0}, 0),
        (OcppVersion.V16, {"connectorId": 2.0}, 2),
        (OcppVersion.V16, {"connectorId": True}, None),
        (OcppVersion.V16, {"connectorId": "1"}, None),
        (OcppVersion.V16, {"evse": {"id": 1, "connectorId": 3}}, None),
        (OcppVersion.V201, {"evse": {"id": 1, "connectorId": 3}}, 3),
        (OcppVersion.V201, {"evse": {"id": 1}}, None),
        (OcppVersion.V201, {"evse": "1"}, None),
        (OcppVersion.V21, {"evseId": 1, "connectorId": 2}, 2),
        (OcppVersion.V21, {}, None),
    ],
)
def test_connector_id(version: OcppVersion, payload: dict[str, Any], connector_id: int | None) -> None:
    assert adapter_of(version, MemoryStore()).connector_id(payload) == connector_id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "connectorId",
    "idTag",
    "meterStart",
    "meterStop",
    "timestamp",
    "transactionId",
    "eventType",
    "seqNo",
    "transactionInfo",
    "idToken",
    "type",
    "evse",
    "certificateStatusRequests",
    "certificateHashData",
    "source",
    "vatNumber",
)
broken_payloads = st.recursive(
    json_values,
    lambda children: st.dictionaries(st.sampled_from(FIELDS), children, max_size=6),
    max_leaves=10,
).filter(lambda value: isinstance(value, dict))


@given(
    version=st.sampled_from(OcppVersion),
    policy=st.sampled_from(IdTokenPolicy),
    away=st.booleans(),
    payload=broken_payloads,
    raw=st.binary(max_size=60) | st.just(b'[2,"1","StartTransaction",{"idTag":"A","meterStart":,}]'),
)
def test_minimal_answers_any_payload_of_a_transaction_related_call(
    version: OcppVersion, policy: IdTokenPolicy, away: bool, payload: dict[str, Any], raw: bytes
) -> None:
    """Billing data is never refused, whatever it looks like, and whether Redis is there or not."""
    store = MemoryStore()
    store.away = away
    adapter: Adapter = adapter_of(version, store, policy)
    for action in transaction_related(version):
        answer = result_of(adapter.minimal(CALLER, action, payload, raw))
        assert SCHEMAS.response(version, action).violations(body_of(answer)) == ()
        answer.confirmed()


@given(version=st.sampled_from(OcppVersion), policy=st.sampled_from(IdTokenPolicy), payload=broken_payloads)
def test_no_payload_breaks_an_adapter(version: OcppVersion, policy: IdTokenPolicy, payload: dict[str, Any]) -> None:
    adapter = adapter_of(version, MemoryStore(), policy)
    adapter.connector_id(payload)
    for action in station_actions(version):
        try:
            answer = result_of(adapter.answer(CALLER, Call("id-1", action, payload, repr(payload).encode())))
        except CallRefused as refused:
            assert action not in transaction_related(version)
            assert refused.reason == "not_answerable"
        else:
            assert isinstance(body_of(answer), dict)
