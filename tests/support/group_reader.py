"""A GroupConsumer and what it was told, for tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from ocpp_gateway.clock import SystemClock
from ocpp_gateway.kafka.config import KafkaConfig
from ocpp_gateway.kafka.consumer import GroupConsumer
from ocpp_gateway.kafka.records import ReceivedRecord

_QUICK_MS = 6_000 if os.environ.get("KAFKA_BROKERS") else 3_500


def quick_group(folder: Path, *, session_ms: int = _QUICK_MS) -> dict[str, str]:
    """Settings with which a group settles soon.

    The mock cluster waits for 3 s until a new group begins, in which its first member must not time out, and for
    (session timeout - 1 s) at each rebalance. A real broker does neither, but takes no session timeout below 6 s.
    """
    path = folder / "quick-group.properties"
    path.write_text(f"session.timeout.ms={session_ms}\nheartbeat.interval.ms=200\nsocket.timeout.ms=2000\n")
    return {"KAFKA_CONFIG_FILE": str(path)}


class GroupReader:
    """``async with GroupReader(...) as reader``: started, and closed at the end.

    ``finish``: every record is finished as soon as it has come. ``refusal`` is raised by the receiver of records.
    """

    def __init__(
        self,
        brokers: str,
        group_id: str,
        topic: str,
        environ: dict[str, str],
        *,
        finish: bool = False,
        **more: object,
    ) -> None:
        self.records: list[ReceivedRecord] = []
        self.assigned: list[tuple[int, ...]] = []
        self.revoked: list[tuple[int, ...]] = []
        self.most_in_flight = 0
        self.refusal: Exception | None = None
        self._finish = finish
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.consumer = GroupConsumer(
            KafkaConfig.from_environ(environ, brokers=brokers, client_id="test"),
            group_id,
            topic,
            reactor=reactor,
            clock=SystemClock(reactor),
            received=self._received,
            assigned=lambda partitions: self._note(self.assigned, partitions),
            revoked=lambda partitions: self._note(self.revoked, partitions),
            **more,
        )

    async def __aenter__(self) -> GroupReader:
        self.consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.consumer.close(10.0)

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

    def finish(self, *values: bytes) -> None:
        """Tell of the records with these values, in this order, that they are finished."""
        for value in values:
            self.consumer.finished(next(record for record in self.records if record.value == value))

    async def when_received(self, count: int) -> None:
        """Wait for so many records in all."""
        await self.when(lambda: len(self.records) >= count)

    async def when(self, condition: Callable[[], bool], seconds: float = 40.0) -> None:
        """Wait until ``condition``, which is looked at whenever something happens."""
        if not condition():
            waiter: Deferred[None] = Deferred()
            self._waiting.append((condition, waiter))
            await waiter.addTimeout(seconds, reactor)

    def _received(self, records: list[ReceivedRecord]) -> None:
        self.records += records
        self.most_in_flight = max(self.most_in_flight, self.consumer.in_flight)
        refusal = self.refusal
        if self._finish:
            for record in records:
                self.consumer.finished(record)
        self.look()
        if refusal is not None:
            raise refusal

    def _note(self, where: list[tuple[int, ...]], partitions: tuple[int, ...]) -> None:
        where.append(partitions)
        self.look()

    def look(self) -> None:
        for entry in list(self._waiting):
            condition, waiter = entry
            if condition():
                self._waiting.remove(entry)
                if not waiter.called:
                    waiter.callback(None)
