"""The record in Redis of what was sent to a charge point and what it said: ``command-audit:{commandId}``."""

from __future__ import annotations

from typing import Any

import orjson
from attrs import field, frozen

from ocpp_gateway.clock import iso_millis
from ocpp_gateway.commands.outcome import Outcome
from ocpp_gateway.commands.request import Command
from ocpp_gateway.commands.secrecy import redacted
from ocpp_gateway.ocppj.frames import Payload


@frozen(kw_only=True)
class Audit:
    """A command that was sent, as its audit record tells it."""

    command: Command
    action: str
    message_id: str
    station_id: str
    tenant_id: str
    ocpp_version: str
    """The label: 1.6J, 2.0.1 or 2.1."""

    node_id: str
    request_payload: Payload = field(repr=False)
    """As it goes to the charge point; secrets are hidden when it is encoded."""

    sent_at: float
    """Wall clock, seconds since the epoch."""

    def encode(self, outcome: Outcome | None = None, response_at: float | None = None) -> bytes:
        """The record's JSON, with ``outcome`` once there is one, which came at ``response_at`` if it is an answer."""
        record: dict[str, Any] = {
            "commandId": self.command.command_id,
            "commandType": self.command.command_type,
            "action": self.action,
            "chargePointId": self.command.charge_point_id,
            "stationId": self.station_id,
            "tenantId": self.tenant_id,
            "connectorId": self.command.connector_id,
            "ocppVersion": self.ocpp_version,
            "nodeId": self.node_id,
            "uniqueId": self.message_id,
            "status": "Dispatched" if outcome is None else outcome.event_type.removeprefix("Command"),
            "sentAt": iso_millis(self.sent_at),
            "responseAt": None if response_at is None else iso_millis(response_at),
            "requestPayload": redacted(self.action, self.request_payload),
            "responsePayload": None if outcome is None else outcome.received,
            "error": None if outcome is None else _audited_error(outcome),
        }
        return orjson.dumps({name: value for name, value in record.items() if value is not None})


def _audited_error(outcome: Outcome) -> dict[str, Any] | None:
    if "error" not in outcome.payload:
        return None
    response = outcome.payload.get("response", {})
    return {
        "code": response.get("errorCode", outcome.reason),
        "description": response.get("errorDescription", outcome.payload["error"]),
        "details": response.get("errorDetails", {}),
    }
