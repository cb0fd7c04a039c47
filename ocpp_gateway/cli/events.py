"""Events on their way from Kafka to the terminal: for ``tail``, and for ``demo`` in a thread beside other work."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from ocpp_gateway.cli.event_line import EventLine, line_of, parse_event, unreadable_line
from ocpp_gateway.cli.failure import Failure

if TYPE_CHECKING:
    from ocpp_gateway.cli.endpoints import Places
    from ocpp_gateway.kafka.tail import EventTail

_OPEN_SECONDS = 10.0
_AT_ONCE_SECONDS = 1.0
"""A broker that runs has answered by then; after that, it is seen whether anything listens."""
_READ_SECONDS = 0.25
TOPICS = {
    "station": "ocpp.station.events",
    "session": "ocpp.session.events",
    "command": "ocpp.command.events",
    "audit": "cpms.audit.events",
    "security": "ocpp.security.events",
}
"""Short names of the gateway's topics (docs/WIRE.md)."""

_STYLES = {
    "ocpp.session.events": "cyan",
    "ocpp.command.events": "magenta",
    "cpms.audit.events": "yellow",
    "ocpp.security.events": "red",
}


def open_tail(places: Places, topics: tuple[str, ...], *, from_beginning: bool) -> EventTail:
    """Connect to Kafka. Raises Failure."""
    from ocpp_gateway.errors import BusUnavailable, ConfigError
    from ocpp_gateway.kafka.config import KafkaConfig
    from ocpp_gateway.kafka.tail import EventTail

    brokers = places.kafka()
    try:
        config = KafkaConfig.from_environ(places.kafka_environ(), brokers=brokers, client_id="ocpp-gateway-tail")
    except ConfigError as error:
        raise Failure(str(error)) from None
    tail = EventTail(config, topics, from_beginning=from_beginning)
    try:
        _open(tail, places, brokers)
    except BusUnavailable as error:
        told = "; ".join([*tail.take_notices(), str(error)][:3])
        tail.close()
        raise Failure(
            f"No Kafka broker at {brokers} answered: {told}.",
            "Check KAFKA_BROKERS and KAFKA_SASL_* or KAFKA_SSL_*; for a gateway started with --dev, use --dev.",
        ) from None
    except BaseException:
        tail.close()
        raise
    return tail


def _open(tail: EventTail, places: Places, brokers: str) -> None:
    from ocpp_gateway.cli.reach import kafka_addresses, refusal
    from ocpp_gateway.errors import BusUnavailable

    try:
        tail.open(_AT_ONCE_SECONDS)
    except BusUnavailable:
        refused = refusal(kafka_addresses(brokers))
        if refused is not None:
            raise Failure(
                f"No Kafka broker is to be had at {brokers}: {refused}.",
                "Is the gateway that was started with --dev still running?"
                if places.dev
                else "Start Kafka there, or set KAFKA_BROKERS to where it runs. To follow a gateway started by "
                "'ocpp-gateway demo' or with --dev, give --dev: ocpp-gateway --dev tail",
            ) from None
        tail.open(_OPEN_SECONDS - _AT_ONCE_SECONDS)


@define
class EventPrinter:
    """Prints what an EventTail reads, filtered, a line each."""

    tail: EventTail
    write: Callable[[str, str], None]
    """Called with a line and its style."""

    notice: Callable[[str], None]
    as_json: bool = False
    charge_points: tuple[str, ...] = ()
    most: int | None = None
    printed: int = field(default=0, init=False)

    def step(self) -> bool:
        """Read what is there, waiting a moment for it, and print it. False when ``most`` has been printed."""
        for text in self.tail.take_notices():
            self.notice(text)
        # Partitions come one after the other; in one batch the order of events is that of their time.
        read = [(parse_event(record.value), record) for record in self.tail.read(_READ_SECONDS)]
        for event, record in sorted(read, key=lambda pair: str((pair[0] or {}).get("occurredAt", ""))):
            if self.charge_points and (event is None or event.get("chargePointId") not in self.charge_points):
                continue
            if self.as_json:
                shown = (
                    event
                    if event is not None
                    else {"topic": record.topic, "raw": record.value.decode("utf-8", "replace")}
                )
                self.write(json.dumps(shown), "")
            else:
                self.write(*styled(event, record.value, record.topic))
            self.printed += 1
            if self.most is not None and self.printed >= self.most:
                return False
        return True


def styled(event: dict[str, object] | None, value: bytes, topic: str) -> tuple[str, str]:
    """A record's line and its style."""
    line: EventLine = unreadable_line(value, topic) if event is None else line_of(event, topic)
    style = _STYLES.get(topic, "")
    if line.event_type == "StationDisconnected" or event is None:
        style = "red"
    elif line.event_type == "StationConnected":
        style = "green"
    return line.text(), style
