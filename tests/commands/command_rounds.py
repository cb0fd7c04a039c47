"""As command_world, and back ends request a commandId again and again, whatever has become of it so far.

Each record names a connector of its own and has a payload of its own, so it is seen which one an event or a CALL is of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from command_parts import Topic
from command_world import World

from ocpp_gateway.commands.outcome import RETRYABLE
from ocpp_gateway.commands.request import Command

_MOST_RECORDS = 8
"""Of one commandId: charge points may be offline for long."""


class _WatchedTopic(Topic):
    """``failed`` is told which commandId may be requested again, as soon as the event is there."""

    def __init__(self, failed: Callable[[str], object]) -> None:
        super().__init__()
        self.failed = failed

    def append(self, value: bytes, headers: Any) -> None:
        super().append(value, headers)
        event = self.records[-1][1]
        if event["payload"].get("reason") in RETRYABLE:
            self.failed(event["correlationId"])


class RoundsWorld(World):
    def __init__(self, seed: int, nodes: str) -> None:
        super().__init__(seed, nodes)
        self.topic = _WatchedTopic(self._failed)
        self.is_impatient = True
        """Whether back ends request again what has failed, mostly."""

        self.requested: dict[str, list[Command]] = {}
        """By commandId, in the order of their records; they are numbered from 1, by their connectors."""

    def request(self, **changes: Any) -> Command:
        wanted = super().request(connector_id=1, **changes)
        self.requested[wanted.command_id] = [wanted]
        return wanted

    def any_repetition(self) -> None:
        if self.commands:
            self._request_again(self.random.choice(self.commands[-4:]).command_id)

    def _failed(self, command_id: str) -> None:
        if self.is_impatient and self.random.random() < 0.7:
            self.later(lambda: self._request_again(command_id))

    def _request_again(self, command_id: str) -> None:
        requested = self.requested[command_id]
        if len(requested) < _MOST_RECORDS:
            number = len(requested) + 1
            again = attrs.evolve(
                requested[0],
                requested_at_ms=self.now_ms,
                connector_id=number,
                payload={"vendorId": f"{command_id}, record {number}"},
            )
            requested.append(again)
            self.send_record(again)

    def come_to_rest(self) -> None:
        self.is_impatient = False
        super().come_to_rest()

    def ends(self, command_id: str) -> list[tuple[int, str, str]]:
        """What its records were told, in the order of the topic: number, event, reason. Repeated events count once."""
        ends = {
            event_id: (event["connectorId"], event["eventType"], event["payload"].get("reason", ""))
            for event_id, event in self.topic.records
            if event["correlationId"] == command_id and event["eventType"] not in ("CommandDispatched", "CommandQueued")
        }
        return list(ends.values())

    def check(self) -> None:
        calls = [vendor_id for point in self.points.values() for vendor_id in point.received]
        assert len(calls) == len(set(calls)), "a CALL was sent twice"
        self.check_no_event_comes_twice()
        for command_id, requested in self.requested.items():
            ends = self.ends(command_id)
            story = command_id, ends, self.redis.rows.get(command_id)
            assert sorted(number for number, _, _ in ends) == list(range(1, len(requested) + 1)), story
            rounds = [(number, reason) for number, event_type, reason in ends if event_type != "CommandDuplicate"]
            assert rounds, story
            assert all(reason in RETRYABLE for _, reason in rounds[:-1]), story
            sent = {wanted.connector_id for wanted in requested if wanted.payload["vendorId"] in calls}
            for number, event_type, _ in ends:
                if event_type in ("CommandFailed", "CommandDuplicate"):
                    assert number not in sent, story
                elif event_type != "CommandTimeout":
                    assert number in sent, story
        self.check_nothing_is_left()


@attrs.frozen
class Schedule:
    """``shares``: see World.live."""

    nodes: str
    events: int
    shares: dict[Callable[[Any], object], float]


_CALM: dict[Callable[[Any], object], float] = {
    World.any_request: 0.25,
    RoundsWorld.any_repetition: 0.2,
    World.any_connect: 0.07,
    World.any_disconnect: 0.08,
    World.rebalance: 0.04,
    World.any_steps: 0.2,
    World.any_time: 0.08,
}

SCHEDULES = {
    "calm": Schedule("abc", 80, _CALM),
    "kills": Schedule("abc", 80, {**_CALM, World.any_kill: 0.04, World.any_start: 0.04, World.any_stop: 0.01}),
    # The node that has the charge point often gets the commandId again before it knows that its earlier round is done.
    "reconnects": Schedule(
        "a", 150, {World.any_request: 0.3, World.any_connect: 0.3, World.any_steps: 0.3, World.any_time: 0.05}
    ),
}


def run(name: str, seed: int, events: int | None = None) -> RoundsWorld:
    """As command_world.run, by one of SCHEDULES."""
    schedule = SCHEDULES[name]
    world = RoundsWorld(seed, schedule.nodes)
    world.live(schedule.events if events is None else events, schedule.shares)
    return world
