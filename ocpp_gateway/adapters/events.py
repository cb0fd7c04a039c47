"""Under which event type and on which topic a charge point's action is published (docs/WIRE.md).

One table serves all versions: no action has another event type in another version. An action that is not in it is an
event of its own name on the station topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ocpp_gateway.adapters.answers import Topic

_EVENT_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "BootNotification": "StationBooted",
        "Heartbeat": "StationHeartbeat",
        "StatusNotification": "ConnectorStatusChanged",
        "StartTransaction": "SessionStarted",
        "StopTransaction": "SessionStopped",
        "MeterValues": "MeterValuesReceived",
        "TransactionEvent": "SessionEvent",
        "DataTransfer": "DataTransferReceived",
    }
)

_SESSION_ACTIONS = frozenset({"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"})


def event_type_of(action: str) -> str:
    """The ``eventType`` of a CALL or SEND from a charge point."""
    return _EVENT_TYPES.get(action, action)


def topic_of(action: str) -> Topic:
    """Charging transactions and meter values go to the session topic, all else to the station topic."""
    return Topic.SESSION if action in _SESSION_ACTIONS else Topic.STATION
