"""One event, one line: what happened, in words. Pure; the line is safe to print whatever a charge point put into it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from attrs import frozen

from ocpp_gateway.cli.failure import printable

_LONGEST = 160


@frozen
class EventLine:
    """The parts of a line; ``text`` joins them."""

    clock: str
    charge_point_id: str
    version: str
    event_type: str
    detail: str

    def text(self) -> str:
        """The line, in columns."""
        return (
            f"{self.clock}  {self.charge_point_id:<12} {self.version:<6} {self.event_type:<24} {self.detail}".rstrip()
        )


def parse_event(value: bytes) -> dict[str, Any] | None:
    """The event in a record's value, None if it is none."""
    try:
        event = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("eventType"), str) else None


def line_of(event: dict[str, Any], topic: str) -> EventLine:
    """The line for ``event``."""
    payload = _object(event.get("payload"))
    request = _object(payload.get("payload"))
    event_type = _text(event.get("eventType"))
    tell = _DETAILS.get(event_type)
    detail = tell(payload, request) if tell is not None else _other(payload, request)
    flags = [name for name in ("idempotent", "orphaned", "idTokenUnverified") if payload.get(name) is True]
    if payload.get("schemaErrors"):
        flags.append("breaks the schema")
    if flags:
        detail = f"{detail} [{', '.join(flags)}]"
    return EventLine(
        clock=_clock(_text(event.get("occurredAt"))),
        charge_point_id=_short(event.get("chargePointId") or "-", 48),
        version=_short(event.get("ocppVersion") or "-", 8),
        event_type=_short(event_type, 60),
        detail=_short(detail.strip(), _LONGEST),
    )


def unreadable_line(value: bytes, topic: str) -> EventLine:
    """The line for a record that is no event."""
    shown = value[:_LONGEST].decode("utf-8", "replace")
    return EventLine(time.strftime("%H:%M:%S.000"), "-", "-", "(no event)", _short(f"{topic}: {shown}", _LONGEST))


def _booted(payload: dict[str, Any], request: dict[str, Any]) -> str:
    station = _object(request.get("chargingStation"))
    vendor = request.get("chargePointVendor") or station.get("vendorName")
    model = request.get("chargePointModel") or station.get("model")
    return f"{_text(vendor)} {_text(model)} {_text(request.get('reason'))}"


def _authorize(payload: dict[str, Any], request: dict[str, Any]) -> str:
    token = _object(request.get("idToken"))
    return f"token {_text(request.get('idTag') or token.get('idToken'))}"


def _status(payload: dict[str, Any], request: dict[str, Any]) -> str:
    status = _text(request.get("status") or request.get("connectorStatus"))
    error = _text(request.get("errorCode"))
    return f"connector {_place(request)} {status}" + (f" {error}" if error not in ("", "NoError") else "")


def _started(payload: dict[str, Any], request: dict[str, Any]) -> str:
    transaction, meter = _text(payload.get("transactionId")), _text(request.get("meterStart"))
    return f"connector {_place(request)} transaction {transaction} at {meter} Wh"


def _stopped(payload: dict[str, Any], request: dict[str, Any]) -> str:
    reason = _text(request.get("reason")) or "Local"
    return f"transaction {_text(request.get('transactionId'))} at {_text(request.get('meterStop'))} Wh, {reason}"


def _metered(payload: dict[str, Any], request: dict[str, Any]) -> str:
    transaction = request.get("transactionId")
    about = "" if transaction is None else f"transaction {_text(transaction)} "
    return f"connector {_place(request)} {about}{_measured(request)}"


def _session_event(payload: dict[str, Any], request: dict[str, Any]) -> str:
    info = _object(request.get("transactionInfo"))
    transaction = _text(info.get("transactionId"))[:8]
    parts = (
        _text(request.get("eventType")),
        f"#{_text(request.get('seqNo'))}",
        f"transaction {transaction}",
        _text(request.get("triggerReason")),
        _measured(request),
        _text(info.get("stoppedReason")),
    )
    return " ".join(part for part in parts if part)


def _members(payload: dict[str, Any], request: dict[str, Any]) -> str:
    said = [f"{name} {_text(value)}" for name, value in payload.items() if isinstance(value, str | int | float)]
    return ", ".join(said[:6])


def _identity(payload: dict[str, Any], request: dict[str, Any]) -> str:
    certificate = _text(payload.get("fingerprint"))
    return f"{_text(payload.get('change'))} {certificate}".rstrip() + _by_whom(payload)


def _certificate(payload: dict[str, Any], request: dict[str, Any]) -> str:
    seconds = payload.get("expiresInSeconds")
    return (
        _text(payload.get("fingerprint")) + ("" if seconds is None else f" for {_text(seconds)} s") + _by_whom(payload)
    )


def _by_whom(payload: dict[str, Any]) -> str:
    reason = _text(payload.get("reason"))
    return f" by {_text(payload.get('actorId'))}" + (f": {reason}" if reason else "")


def _other(payload: dict[str, Any], request: dict[str, Any]) -> str:
    body = request or {name: value for name, value in payload.items() if name not in ("action", "payload")}
    return json.dumps(body, ensure_ascii=False) if body else ""


_DETAILS: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    "Authorize": _authorize,
    "StationBooted": _booted,
    "StationHeartbeat": lambda payload, request: "",
    "ConnectorStatusChanged": _status,
    "SessionStarted": _started,
    "SessionStopped": _stopped,
    "MeterValuesReceived": _metered,
    "SessionEvent": _session_event,
    "StationConnected": _members,
    "StationDisconnected": _members,
    "HandshakeRefused": _members,
    "SessionTakenOver": _members,
    "SessionRevoked": _members,
    "ChargerIdentityUpserted": _identity,
    "ChargerIdentityRemoved": _identity,
    "ChargerCertificateRevoked": _certificate,
    "ChargerCertificateUnrevoked": _certificate,
}


def _measured(request: dict[str, Any]) -> str:
    """The main figures of the latest meter value: energy and power."""
    values = request.get("meterValue")
    latest = _object(values[-1]) if isinstance(values, list) and values else {}
    samples = latest.get("sampledValue")
    shown = []
    for sample in samples if isinstance(samples, list) else []:
        measurand = _object(sample).get("measurand", "Energy.Active.Import.Register")
        if measurand in ("Energy.Active.Import.Register", "Power.Active.Import", "SoC"):
            unit = sample.get("unit") or _object(sample.get("unitOfMeasure")).get("unit") or "Wh"
            shown.append(f"{_text(sample.get('value'))} {'%' if unit == 'Percent' else _text(unit)}")
    return ", ".join(shown[:3])


def _place(request: dict[str, Any]) -> str:
    evse = request.get("evseId")
    connector = request.get("connectorId")
    if evse is None:
        return _text(connector) or "-"
    return _text(evse) if connector is None else f"{_text(evse)}.{_text(connector)}"


def _clock(occurred_at: str) -> str:
    """The time of day of an ISO timestamp: the date says little while one watches."""
    _, has_date, clock = occurred_at.partition("T")
    return _short(clock.removesuffix("Z") if has_date else occurred_at, 12).ljust(12)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _short(value: Any, most: int) -> str:
    text = printable(_text(value)).replace("\n", " ")
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
