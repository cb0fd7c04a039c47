"""OCPP 1.6J: what the gateway answers.

===============================  =====================================================================================
action                           answer
===============================  =====================================================================================
BootNotification                 Accepted, the clock, the heartbeat interval
Heartbeat                        the clock
Authorize                        idTagInfo by the id-token policy; CALLERROR InternalError while it cannot be known
StartTransaction                 transactionId, and idTagInfo by the policy; Accepted while it cannot be known, with
                                 ``idTokenUnverified`` in the event, because billing data is never refused
StopTransaction, MeterValues     {}: nobody can undo a stop (section 4.10)
DataTransfer                     UnknownVendorId: no vendor's extension is implemented here (section 4.3)
SignCertificate                  Rejected: Accepted would promise a CertificateSigned that nobody would send
StatusNotification,              {}
DiagnosticsStatusNotification,
FirmwareStatusNotification,
LogStatusNotification,
SecurityEventNotification,
SignedFirmwareStatusNotification
===============================  =====================================================================================

A transactionId that the CSMS gives in place of ours is as good as ours from then on: a retry is told it again, and
MeterValues of it are no orphans. One below 1, as of a transaction that is refused, stands for none (errata 3.54).

Members of events: SessionStarted has ``transactionId`` and ``idempotent``, SessionStopped ``idempotent``,
MeterValuesReceived ``orphaned`` (its transactionId is not one that this charge point got here; left out while Redis
cannot say) and, only if true, ``idempotent``. ``idempotent``: an event with the same content was published before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from attrs import define

from ocpp_gateway.adapters.answers import Answer, Caller, CallRefused, StartQuestion
from ocpp_gateway.adapters.base import EMPTY_BODY, VersionAdapter, boot_accepted, fixed, heartbeat
from ocpp_gateway.adapters.fields import integer, payload_part, salvaged_text, text
from ocpp_gateway.adapters.known import KnownTransactions
from ocpp_gateway.adapters.repeats import bytes_digest, fields_digest
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.errorcodes import ErrorCode
from ocpp_gateway.ocppj.frames import Call, Payload, Send
from ocpp_gateway.ocppj.versions import OcppVersion

_ANSWERED_EMPTY = (
    "StatusNotification",
    "DiagnosticsStatusNotification",
    "FirmwareStatusNotification",
    "LogStatusNotification",
    "SecurityEventNotification",
    "SignedFirmwareStatusNotification",
)

#: What MeterValues adds to its event, by (whether the transaction is known, whether the values were seen before).
_METER_VALUES_EXTRAS: Mapping[tuple[bool | None, bool], Mapping[str, Any]] = {
    (True, False): {"orphaned": False},
    (True, True): {"orphaned": False, "idempotent": True},
    (False, False): {"orphaned": True},
    (False, True): {"orphaned": True, "idempotent": True},
    (None, False): {},
    (None, True): {"idempotent": True},
}


@define(eq=False, kw_only=True)
class Adapter16(VersionAdapter):
    """The answers above."""

    transactions: KnownTransactions

    def __attrs_post_init__(self) -> None:
        self._fixed.update(
            BootNotification=boot_accepted(self.heartbeat_interval),
            Heartbeat=heartbeat(),
            DataTransfer=fixed({"status": "UnknownVendorId"}),
            SignCertificate=fixed({"status": "Rejected"}),
            **dict.fromkeys(_ANSWERED_EMPTY, Answer(EMPTY_BODY)),
        )
        self._decide.update(MeterValues=self._meter_values)
        self._ask.update(
            Authorize=self._authorize,
            StartTransaction=self._start_transaction,
            StopTransaction=self._stop_transaction,
            MeterValues=self._meter_values_asking,
        )

    @property
    def version(self) -> OcppVersion:
        """See Adapter."""
        return OcppVersion.V16

    def connector_id(self, payload: Mapping[str, Any]) -> int | None:
        """See Adapter."""
        return integer(payload.get("connectorId"))

    async def minimal(self, caller: Caller, action: str, payload: Mapping[str, Any], raw: bytes) -> Answer:
        """See Adapter."""
        if action == "StartTransaction":
            return await self._started(caller, payload, raw)
        if action == "StopTransaction":
            return await self._stopped(caller, payload, raw)
        if action == "MeterValues":
            return await self._metered(caller, payload, payload_part(action, raw))
        return self._fixed_or_refused(action)

    async def _authorize(self, caller: Caller, call: Call | Send) -> Answer:
        try:
            verdict = await self.verdicts.verdict(caller.tenant_id, text(call.payload.get("idTag")))
        except StoreUnavailable as unavailable:
            raise CallRefused(ErrorCode.INTERNAL_ERROR, "id_tokens_unavailable") from unavailable
        return Answer(lambda now: orjson.dumps({"idTagInfo": verdict.id_tag_info(now)}))

    async def _start_transaction(self, caller: Caller, call: Call | Send) -> Answer:
        return await self._started(caller, call.payload, call.raw_payload)

    async def _started(self, caller: Caller, payload: Mapping[str, Any], raw: bytes) -> Answer:
        connector_id = integer(payload.get("connectorId"))
        id_tag = text(payload.get("idTag")) or salvaged_text(raw, "idTag")
        meter_start = integer(payload.get("meterStart"))
        timestamp = text(payload.get("timestamp"))
        question: StartQuestion | bytes
        if connector_id is not None and id_tag is not None and meter_start is not None and timestamp is not None:
            question = StartQuestion(connector_id, id_tag, meter_start, timestamp)
            digest = fields_digest(caller, "StartTransaction", connector_id, id_tag, meter_start, timestamp)
        else:
            question = payload_part("StartTransaction", raw)
            digest = bytes_digest(caller, question)
        transaction_id, repeated = await self.transactions.allocate(caller, question)
        # The same id again is not yet the same event again: the first may have been lost on its way to Kafka.
        idempotent = self.repeats.seen_here(digest) or (repeated and await self.repeats.seen_anywhere(caller, digest))
        verdict = await self.verdicts.verdict_in_transaction(caller.tenant_id, id_tag)

        def body(now: float) -> bytes:
            return orjson.dumps({"transactionId": transaction_id, "idTagInfo": verdict.id_tag_info(now)})

        async def adopt(payload: Payload) -> Payload:
            theirs = integer(payload.get("transactionId"))
            if theirs is None or theirs < 1:
                return payload
            return {**payload, "transactionId": await self.transactions.adopt(caller, question, theirs)}

        extras: dict[str, Any] = {"transactionId": transaction_id, "idempotent": idempotent}
        if verdict.unverified:
            extras["idTokenUnverified"] = True
        return Answer(body, extras, self.repeats.remember_everywhere(caller, digest), overruled=adopt)

    async def _stop_transaction(self, caller: Caller, call: Call | Send) -> Answer:
        return await self._stopped(caller, call.payload, call.raw_payload)

    async def _stopped(self, caller: Caller, payload: Mapping[str, Any], raw: bytes) -> Answer:
        transaction_id = integer(payload.get("transactionId"))
        meter_stop = integer(payload.get("meterStop"))
        timestamp = text(payload.get("timestamp"))
        if transaction_id is not None and meter_stop is not None and timestamp is not None:
            digest = fields_digest(caller, "StopTransaction", transaction_id, meter_stop, timestamp)
        else:
            digest = bytes_digest(caller, payload_part("StopTransaction", raw))
        idempotent = await self.repeats.seen_anywhere(caller, digest)
        return Answer(EMPTY_BODY, {"idempotent": idempotent}, self.repeats.remember_everywhere(caller, digest))

    def _meter_values(self, caller: Caller, call: Call | Send) -> Answer | None:
        transaction_id = call.payload.get("transactionId")
        known: bool | None = True
        if transaction_id is not None:
            number = integer(transaction_id)
            known = None if number is None else self.transactions.known_here(caller, number)
            if known is None:
                return None
        return self._metered_answer(caller, known, call.raw_payload)

    async def _meter_values_asking(self, caller: Caller, call: Call | Send) -> Answer:
        return await self._metered(caller, call.payload, call.raw_payload)

    async def _metered(self, caller: Caller, payload: Mapping[str, Any], content: bytes) -> Answer:
        number = integer(payload.get("transactionId"))
        known: bool | None = True
        if number is not None:
            known = await self.transactions.known(caller, number)
        elif payload.get("transactionId") is not None or not payload:
            known = None
        return self._metered_answer(caller, known, content)

    def _metered_answer(self, caller: Caller, known: bool | None, content: bytes) -> Answer:
        digest = bytes_digest(caller, content)
        extras = _METER_VALUES_EXTRAS[known, self.repeats.seen_here(digest)]
        return Answer(EMPTY_BODY, extras, self.repeats.remember_here(digest))
