"""What a 2.0.1 or 2.1 charge point says (OCPP 2.0.1 part 2, use cases B01, C01, E01 to E08, J02)."""

from __future__ import annotations

import uuid
from typing import Any

from attrs import frozen

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.messages import (
    CONNECTOR,
    EVSE,
    MODEL,
    VENDOR,
    BootReason,
    ConnectorStatus,
    Message,
    StopReason,
    Transaction,
    member,
)
from ocpp_gateway.simulator.meter import Reading

_STATUS = {
    ConnectorStatus.AVAILABLE: "Available",
    ConnectorStatus.PREPARING: "Occupied",
    ConnectorStatus.CHARGING: "Occupied",
    ConnectorStatus.FINISHING: "Occupied",
    ConnectorStatus.UNAVAILABLE: "Unavailable",
}
_ENDING = {
    # why it stopped -> (what triggered the event, the reason as 2.x spells it)
    StopReason.LOCAL: ("StopAuthorized", "Local"),
    StopReason.REMOTE: ("RemoteStop", "Remote"),
    StopReason.EV_DISCONNECTED: ("EVCommunicationLost", "EVDisconnected"),
    StopReason.DEAUTHORIZED: ("Deauthorized", "DeAuthorized"),
    StopReason.RESET: ("ResetCommand", "ImmediateReset"),
}


@frozen
class MessagesV2x:
    """See ``messages.Messages``. 2.0.1 and 2.1 say the same in what a simulated charge point says."""

    version: OcppVersion

    def boot(self, serial_number: str, reason: BootReason) -> Message:
        """See Messages."""
        station = {"vendorName": VENDOR, "model": MODEL, "serialNumber": serial_number, "firmwareVersion": "1.0.0"}
        return Message("BootNotification", {"reason": reason.value, "chargingStation": station})

    def heartbeat(self) -> Message:
        """See Messages."""
        return Message("Heartbeat", {})

    def status(self, status: ConnectorStatus, timestamp: str) -> Message:
        """See Messages. Deprecated in 2.1 in favour of NotifyEvent, and still what its charge points send."""
        payload = {
            "timestamp": timestamp,
            "connectorStatus": _STATUS[status],
            "evseId": EVSE,
            "connectorId": CONNECTOR,
        }
        return Message("StatusNotification", payload)

    def authorize(self, id_token: str) -> Message:
        """See Messages."""
        return Message("Authorize", {"idToken": _token(id_token)})

    def begin(self, id_token: str) -> Transaction:
        """With an id of the charge point's own."""
        return Transaction(id_token, id=str(uuid.uuid4()))

    def started(self, transaction: Transaction, reading: Reading) -> tuple[Message, ...]:
        """Started when the driver is authorized, Updated when the energy flows."""
        by_remote = transaction.remote_start_id is not None
        started = _event("Started", "RemoteStart" if by_remote else "Authorized", transaction, reading.timestamp)
        started["transactionInfo"]["chargingState"] = "EVConnected"
        if by_remote:
            started["transactionInfo"]["remoteStartId"] = transaction.remote_start_id
        started["idToken"] = _token(transaction.id_token)
        started["meterValue"] = [_meter_value(reading, "Transaction.Begin")]
        charging = _event("Updated", "ChargingStateChanged", transaction, reading.timestamp)
        charging["transactionInfo"]["chargingState"] = "Charging"
        return (Message("TransactionEvent", started), Message("TransactionEvent", charging))

    def metered(self, transaction: Transaction | None, reading: Reading, *, is_asked_for: bool = False) -> Message:
        """TransactionEvent in a transaction, MeterValues outside of one."""
        if transaction is None:
            return Message("MeterValues", {"evseId": EVSE, "meterValue": [_meter_value(reading, "Trigger")]})
        trigger, context = ("Trigger", "Trigger") if is_asked_for else ("MeterValuePeriodic", "Sample.Periodic")
        payload = _event("Updated", trigger, transaction, reading.timestamp)
        payload["transactionInfo"]["chargingState"] = "Charging"
        payload["meterValue"] = [_meter_value(reading, context)]
        return Message("TransactionEvent", payload)

    def stopped(self, transaction: Transaction, reading: Reading, reason: StopReason) -> Message:
        """TransactionEvent Ended."""
        trigger, stopped_reason = _ENDING[reason]
        payload = _event("Ended", trigger, transaction, reading.timestamp)
        payload["transactionInfo"].update(chargingState="Idle", stoppedReason=stopped_reason)
        if reason is StopReason.LOCAL:
            payload["idToken"] = _token(transaction.id_token)
        payload["meterValue"] = [_meter_value(reading, "Transaction.End")]
        return Message("TransactionEvent", payload)

    def token_status(self, answer: Payload) -> str:
        """See Messages."""
        status = member(answer, "idTokenInfo", "status")
        return status if isinstance(status, str) else "Accepted"


def _event(event_type: str, trigger: str, transaction: Transaction, timestamp: str) -> dict[str, Any]:
    return {
        "eventType": event_type,
        "timestamp": timestamp,
        "triggerReason": trigger,
        "seqNo": transaction.seq_no(),
        "transactionInfo": {"transactionId": transaction.id},
        "evse": {"id": EVSE, "connectorId": CONNECTOR},
    }


def _token(id_token: str) -> Payload:
    return {"idToken": id_token, "type": "ISO14443"}


def _meter_value(reading: Reading, context: str) -> Payload:
    rows = (
        (reading.energy_wh, "Energy.Active.Import.Register", "Wh", "Outlet"),
        (reading.power_w, "Power.Active.Import", "W", "Outlet"),
        (reading.current_a, "Current.Import", "A", "Outlet"),
        (reading.voltage_v, "Voltage", "V", "Outlet"),
        (reading.soc_percent, "SoC", "Percent", "EV"),
    )
    samples = [
        {
            "value": value,
            "context": context,
            "measurand": measurand,
            "location": location,
            "unitOfMeasure": {"unit": unit},
        }
        for value, measurand, unit, location in rows
    ]
    return {"timestamp": reading.timestamp, "sampledValue": samples}
