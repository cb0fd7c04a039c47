"""What a 1.6 charge point says (OCPP 1.6 edition 2, sections 4 and 6)."""

from __future__ import annotations

from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.messages import (
    CONNECTOR,
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

UNKNOWN_TRANSACTION = -1
"""Sent in place of an id that the gateway never gave, as charge points in the field do."""


class MessagesV16:
    """See ``messages.Messages``."""

    version = OcppVersion.V16

    def boot(self, serial_number: str, reason: BootReason) -> Message:
        """1.6 has no place for the reason."""
        return Message(
            "BootNotification",
            {
                "chargePointVendor": VENDOR,
                "chargePointModel": MODEL,
                "chargePointSerialNumber": serial_number,
                "firmwareVersion": "1.0.0",
            },
        )

    def heartbeat(self) -> Message:
        """See Messages."""
        return Message("Heartbeat", {})

    def status(self, status: ConnectorStatus, timestamp: str) -> Message:
        """See Messages."""
        return Message(
            "StatusNotification",
            {"connectorId": CONNECTOR, "errorCode": "NoError", "status": status.value, "timestamp": timestamp},
        )

    def authorize(self, id_token: str) -> Message:
        """See Messages."""
        return Message("Authorize", {"idTag": id_token})

    def begin(self, id_token: str) -> Transaction:
        """Without an id: the gateway chooses it."""
        return Transaction(id_token)

    def started(self, transaction: Transaction, reading: Reading) -> tuple[Message, ...]:
        """StartTransaction."""
        payload = {
            "connectorId": CONNECTOR,
            "idTag": transaction.id_token,
            "meterStart": reading.energy_wh,
            "timestamp": reading.timestamp,
        }
        return (Message("StartTransaction", payload),)

    def metered(self, transaction: Transaction | None, reading: Reading, *, is_asked_for: bool = False) -> Message:
        """MeterValues."""
        context = "Trigger" if transaction is None or is_asked_for else "Sample.Periodic"
        payload: Payload = {"connectorId": CONNECTOR}
        if transaction is not None:
            payload["transactionId"] = self._id(transaction)
        payload["meterValue"] = [{"timestamp": reading.timestamp, "sampledValue": _samples(reading, context)}]
        return Message("MeterValues", payload)

    def stopped(self, transaction: Transaction, reading: Reading, reason: StopReason) -> Message:
        """StopTransaction. A reset from afar is a SoftReset here (section 7.36)."""
        payload = {
            "transactionId": self._id(transaction),
            "idTag": transaction.id_token,
            "meterStop": reading.energy_wh,
            "timestamp": reading.timestamp,
            "reason": "SoftReset" if reason is StopReason.RESET else reason.value,
        }
        return Message("StopTransaction", payload)

    def token_status(self, answer: Payload) -> str:
        """See Messages."""
        status = member(answer, "idTagInfo", "status")
        return status if isinstance(status, str) else "Accepted"

    @staticmethod
    def _id(transaction: Transaction) -> int | str:
        return UNKNOWN_TRANSACTION if transaction.id is None else transaction.id


def _samples(reading: Reading, context: str) -> list[Payload]:
    rows = (
        (str(reading.energy_wh), "Energy.Active.Import.Register", "Wh", "Outlet"),
        (str(reading.power_w), "Power.Active.Import", "W", "Outlet"),
        (str(reading.current_a), "Current.Import", "A", "Outlet"),
        (str(reading.voltage_v), "Voltage", "V", "Outlet"),
        (str(reading.soc_percent), "SoC", "Percent", "EV"),
    )
    return [
        {"value": value, "context": context, "measurand": measurand, "location": location, "unit": unit}
        for value, measurand, unit, location in rows
    ]
