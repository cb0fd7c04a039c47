"""OCPP 2.0.1 and 2.1: what the gateway answers. The versions differ in data only.

===============================  =====================================================================================
action                           answer
===============================  =====================================================================================
BootNotification                 Accepted, the clock, the heartbeat interval
Heartbeat                        the clock
Authorize                        idTokenInfo by the id-token policy; CALLERROR InternalError while it cannot be known.
                                 No certificateStatus: the gateway says nothing about contract certificates
TransactionEvent                 {}, or idTokenInfo by the policy if the request has an idToken (E01.FR.11); Accepted
                                 while it cannot be known, with ``idTokenUnverified`` in the event
DataTransfer                     UnknownVendorId: no vendor's extension is implemented here
SignCertificate                  Rejected: Accepted would promise a CertificateSigned that nobody would send
Get15118EVCertificate            Failed, with an empty exiResponse
GetCertificateStatus             Failed: the gateway asks no OCSP responder
NotifyEVChargingNeeds            Rejected ("service not available"): Accepted and Processing both promise a profile
NotifyEVChargingSchedule         Accepted: the message was processed, which does not mean that the schedule is approved
GetCertificateChainStatus (2.1)  Failed for each certificate asked about
OpenPeriodicEventStream (2.1)    Rejected: the same data then comes by NotifyEvent, whose receipt is confirmed
PullDynamicScheduleUpdate (2.1)  Rejected
VatNumberValidation (2.1)        Rejected, with the number echoed as the schema demands
NotifyPeriodicEventStream (2.1)  nothing is ever sent: it is a SEND (N15.FR.02)
all others                       {}
===============================  =====================================================================================

What is Rejected or Failed for want of a CSMS says so in ``statusInfo.reasonCode``.

Members of events: SessionEvent has ``idempotent``; MeterValuesReceived has it if true. It means that an event with the
same content was published before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from attrs import define

from ocpp_gateway.adapters.answers import Answer, Caller, CallRefused
from ocpp_gateway.adapters.base import EMPTY_BODY, Decide, VersionAdapter, boot_accepted, fixed, heartbeat
from ocpp_gateway.adapters.fields import integer, member, payload_part, salvaged_text, text
from ocpp_gateway.adapters.repeats import bytes_digest, fields_digest
from ocpp_gateway.adapters.tokens import ACCEPTED, Verdict
from ocpp_gateway.clock import iso_seconds
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, Send
from ocpp_gateway.ocppj.versions import OcppVersion

_NOBODY_TO_ASK = {"statusInfo": {"reasonCode": "UnsupportedRequest"}}
_REJECTED = {"status": "Rejected", **_NOBODY_TO_ASK}
_FAILED = {"status": "Failed", **_NOBODY_TO_ASK}

_EMPTY_201 = (
    "ClearedChargingLimit",
    "FirmwareStatusNotification",
    "LogStatusNotification",
    "NotifyChargingLimit",
    "NotifyCustomerInformation",
    "NotifyDisplayMessages",
    "NotifyEvent",
    "NotifyMonitoringReport",
    "NotifyReport",
    "PublishFirmwareStatusNotification",
    "ReportChargingProfiles",
    "ReservationStatusUpdate",
    "SecurityEventNotification",
    "StatusNotification",
)

_EMPTY_21 = (
    "BatterySwap",
    "ClosePeriodicEventStream",
    "NotifyDERAlarm",
    "NotifyDERStartStop",
    "NotifyPeriodicEventStream",
    "NotifyPriorityCharging",
    "NotifySettlement",
    "ReportDERControl",
)

_FIXED_201: Mapping[str, Mapping[str, Any]] = {
    "DataTransfer": {"status": "UnknownVendorId"},
    "SignCertificate": _REJECTED,
    "Get15118EVCertificate": {**_FAILED, "exiResponse": ""},
    "GetCertificateStatus": _FAILED,
    "NotifyEVChargingNeeds": _REJECTED,
    "NotifyEVChargingSchedule": {"status": "Accepted"},
    **{action: {} for action in _EMPTY_201},
}

_FIXED_21: Mapping[str, Mapping[str, Any]] = {
    **_FIXED_201,
    "OpenPeriodicEventStream": _REJECTED,
    "PullDynamicScheduleUpdate": _REJECTED,
    **{action: {} for action in _EMPTY_21},
}

_FIRST_SEEN: Mapping[str, Any] = {"idempotent": False}
_SEEN_BEFORE: Mapping[str, Any] = {"idempotent": True}
_NOTHING: Mapping[str, Any] = {}


@define(eq=False, kw_only=True)
class Adapter2x(VersionAdapter):
    """The answers above for one of the two versions."""

    version: OcppVersion

    def __attrs_post_init__(self) -> None:
        self._fixed.update({action: fixed(payload) for action, payload in _FIXED[self.version].items()})
        self._decide.update(_DECIDE[self.version])
        self._fixed.update(BootNotification=boot_accepted(self.heartbeat_interval), Heartbeat=heartbeat())
        self._decide.update(MeterValues=self._meter_values, TransactionEvent=self._transaction_event)
        self._ask.update(Authorize=self._authorize, TransactionEvent=self._transaction_event_asking)

    def connector_id(self, payload: Mapping[str, Any]) -> int | None:
        """See Adapter."""
        connector_id = integer(payload.get("connectorId"))
        return integer(member(payload, "evse").get("connectorId")) if connector_id is None else connector_id

    async def minimal(self, caller: Caller, action: str, payload: Mapping[str, Any], raw: bytes) -> Answer:
        """See Adapter."""
        if action == "TransactionEvent":
            return await self._event_asking(caller, payload, raw)
        if action == "MeterValues":
            return self._metered(caller, payload_part(action, raw))
        return self._fixed_or_refused(action)

    async def _authorize(self, caller: Caller, call: Call | Send) -> Answer:
        id_token = member(call.payload, "idToken")
        try:
            verdict = (
                ACCEPTED
                if _without_authorization(id_token)
                else await self.verdicts.verdict(caller.tenant_id, text(id_token.get("idToken")))
            )
        except StoreUnavailable as unavailable:
            raise CallRefused(ErrorCode.INTERNAL_ERROR, "id_tokens_unavailable") from unavailable
        return Answer(_id_token_info(verdict))

    def _meter_values(self, caller: Caller, call: Call | Send) -> Answer:
        return self._metered(caller, call.raw_payload)

    def _metered(self, caller: Caller, content: bytes) -> Answer:
        digest = bytes_digest(caller, content)
        extras = _SEEN_BEFORE if self.repeats.seen_here(digest) else _NOTHING
        return Answer(EMPTY_BODY, extras, self.repeats.remember_here(digest))

    def _transaction_event(self, caller: Caller, call: Call | Send) -> Answer | None:
        """Decide an Updated whose id token, if any, needs no registry: the bulk of them carry only meter values."""
        payload = call.payload
        if payload.get("eventType") != "Updated":
            return None
        if "idToken" not in payload:
            body = EMPTY_BODY
        elif self.verdicts.accepts_all or _without_authorization(member(payload, "idToken")):
            body = _id_token_info(ACCEPTED)
        else:
            return None
        digest = _event_digest(caller, payload, call.raw_payload)
        extras = _SEEN_BEFORE if self.repeats.seen_here(digest) else _FIRST_SEEN
        return Answer(body, extras, self.repeats.remember_here(digest))

    async def _transaction_event_asking(self, caller: Caller, call: Call | Send) -> Answer:
        return await self._event_asking(caller, call.payload, call.raw_payload)

    async def _event_asking(self, caller: Caller, payload: Mapping[str, Any], raw: bytes) -> Answer:
        digest = _event_digest(caller, payload, raw)
        if payload.get("eventType") == "Updated":
            idempotent = self.repeats.seen_here(digest)
            confirmed = self.repeats.remember_here(digest)
        else:
            idempotent = await self.repeats.seen_anywhere(caller, digest)
            confirmed = self.repeats.remember_everywhere(caller, digest)
        verdict = await self._verdict_on_event(caller, payload, raw)
        if verdict is None:
            return Answer(EMPTY_BODY, {"idempotent": idempotent}, confirmed)
        extras = {"idempotent": idempotent}
        if verdict.unverified:
            extras["idTokenUnverified"] = True
        return Answer(_id_token_info(verdict), extras, confirmed)

    async def _verdict_on_event(self, caller: Caller, payload: Mapping[str, Any], raw: bytes) -> Verdict | None:
        """The verdict on the event's id token; None if it has none."""
        if "idToken" in payload:
            id_token = member(payload, "idToken")
            if _without_authorization(id_token):
                return ACCEPTED
            token = text(id_token.get("idToken"))
        elif payload:
            return None
        else:  # not even JSON
            token = salvaged_text(raw, "idToken")
            if token is None:
                return None
        return await self.verdicts.verdict_in_transaction(caller.tenant_id, token)


def _without_authorization(id_token: Mapping[str, Any]) -> bool:
    """A start button: always Accepted (C02.FR.02)."""
    return id_token.get("type") == "NoAuthorization"


def _id_token_info(verdict: Verdict) -> Any:
    return lambda now: orjson.dumps({"idTokenInfo": verdict.id_token_info(now)})


def _event_digest(caller: Caller, payload: Mapping[str, Any], raw: bytes) -> bytes:
    """What makes two TransactionEvents the same: transaction and seqNo (part 2, chapter E, 1.3.2), and, as not every
    charge point counts, the kind and time of the event.
    """
    transaction_id = text(member(payload, "transactionInfo").get("transactionId"))
    sequence_number = integer(payload.get("seqNo"))
    event_type = text(payload.get("eventType"))
    timestamp = text(payload.get("timestamp"))
    if transaction_id is None or sequence_number is None or event_type is None or timestamp is None:
        return bytes_digest(caller, payload_part("TransactionEvent", raw))
    return fields_digest(caller, "TransactionEvent", transaction_id, sequence_number, event_type, timestamp)


def _certificate_chain_status(_caller: Caller, call: Call | Send) -> Answer:
    """Nobody was asked, so the status is Failed for all, and it may be asked again at once."""
    requests = call.payload.get("certificateStatusRequests")
    asked = [
        (request["certificateHashData"], request["source"])
        for request in (requests if type(requests) is list else [])
        if type(request) is dict and "certificateHashData" in request and "source" in request
    ]
    if not asked:
        raise CallRefused(ErrorCode.INTERNAL_ERROR, "not_answerable")

    def body(now: float) -> bytes:
        statuses = [
            {"certificateHashData": data, "source": source, "status": "Failed", "nextUpdate": iso_seconds(now)}
            for data, source in asked
        ]
        return orjson.dumps({"certificateStatus": statuses})

    return Answer(body)


def _vat_number_validation(_caller: Caller, call: Call | Send) -> Answer:
    vat_number = text(call.payload.get("vatNumber")) or ""
    return fixed({**_REJECTED, "vatNumber": vat_number})


_FIXED: Mapping[OcppVersion, Mapping[str, Mapping[str, Any]]] = {
    OcppVersion.V201: _FIXED_201,
    OcppVersion.V21: _FIXED_21,
}

_DECIDE: Mapping[OcppVersion, Mapping[str, Decide]] = {
    OcppVersion.V201: {},
    OcppVersion.V21: {
        "GetCertificateChainStatus": _certificate_chain_status,
        "VatNumberValidation": _vat_number_validation,
    },
}
