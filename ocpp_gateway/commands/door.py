"""A command from a person or a script, who waits for what becomes of it: ``ocpp-gateway command`` and the HTTP port.

The door writes a record of ``cpms.command.requests`` as any back end does, and then watches how far the command is. So
it goes the same way as all others, in order with them, and whoever waits may go away: it is carried out all the same.

A commandId that was there before asks for the same command once more. What became of it is told again, or waited for;
only one that failed in a way that may pass (the charge point was offline, say) is requested again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol

import orjson
from attrs import define, field, frozen

from ocpp_gateway.clock import Clock, iso_millis
from ocpp_gateway.commands.outcome import RETRYABLE
from ocpp_gateway.commands.publisher import CommandBusWriter
from ocpp_gateway.commands.request import Command, CommandInvalid, parse
from ocpp_gateway.commands.states import CommandState, Stage
from ocpp_gateway.commands.tasks import Bell
from ocpp_gateway.errors import BusUnavailable, GatewayError, StoreUnavailable

REQUESTS_TOPIC: Final = "cpms.command.requests"

LONGEST_WAIT_SECONDS: Final = 310.0
"""Of an HTTP client: five minutes and a little, which is what proxies can be told to bear."""

NOTICE_SECONDS: Final = 5.0
"""A gateway that runs has taken a command on by then."""

_SPARE_SECONDS: Final = 5.0
_FOR_KAFKA_SECONDS: Final = 2.0
"""How long a final event that is decided is waited for to be in Kafka, before it is told anyway."""

_HEADERS: Final = (("content-type", b"application/json"),)


class Standing(StrEnum):
    """How far a command is for who waits."""

    FINAL = "final"
    QUEUED = "queued"  # it waits for a charge point that is offline
    PENDING = "pending"  # the wait is over, the command is not


class DuplicateCommand(GatewayError):
    """The commandId was another command's, or one's whose outcome is not known any more. Nothing was requested."""

    reason = "duplicate_command_id"


class DoorFull(GatewayError):
    """Too many are waiting already. Nothing was requested."""

    reason = "too_many_waiting"


class CommandStates(Protocol):
    """How far commands are."""

    async def look(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        """The states, in their order; None: there is no record. Raises StoreUnavailable."""
        ...


@frozen
class Order:
    """A command to be requested, with the record that asks for it."""

    command: Command
    record: bytes = field(repr=False)

    @property
    def longest_wait(self) -> float:
        """Seconds in which it is sent and answered, unless it waits for its charge point."""
        return self.command.timeout_seconds * 2 + _SPARE_SECONDS


@frozen(kw_only=True)
class Reply:
    """What became of a command."""

    command_id: str
    charge_point_id: str
    standing: Standing
    event_type: str | None = None
    """Of the final event; None: there is none yet."""

    payload: Mapping[str, Any] = field(factory=dict, repr=False)
    deliver_until: str | None = None
    """ISO 8601; where it is queued."""

    is_taken: bool = True
    """Whether any gateway has taken it on."""

    is_repeated: bool = False
    """Whether it was requested before, and not again now."""

    @property
    def is_accepted(self) -> bool:
        """Whether the charge point does it."""
        return self.event_type == "CommandAccepted" and self.payload.get("accepted", True) is True

    def members(self) -> dict[str, Any]:
        """As JSON."""
        members: dict[str, Any] = {"commandId": self.command_id, "chargePointId": self.charge_point_id}
        if self.standing is Standing.FINAL:
            members |= {"eventType": self.event_type, "payload": dict(self.payload)}
        else:
            members["status"] = self.standing.value
            members |= {} if self.deliver_until is None else {"deliverUntil": self.deliver_until}
            members |= {} if self.is_taken else {"taken": False}
        return members | ({"repeated": True} if self.is_repeated else {})


@define(eq=False, kw_only=True)
class CommandDoor:
    """See the module's text. ``default_timeout``: seconds, for commands that do not say."""

    states: CommandStates
    bus: CommandBusWriter
    clock: Clock
    default_timeout: float
    topic: str = REQUESTS_TOPIC
    most_waiting: int = 100
    new_id: Callable[[], str] = field(default=lambda: str(uuid.uuid4()))
    _waiting: int = field(default=0, init=False)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    def order(self, members: Mapping[str, Any]) -> Order:
        """The command with these members of the contract; ``commandId`` and ``requestedAt`` are filled in.

        Raises CommandInvalid.
        """
        now = self.clock.now()
        given = {name: value for name, value in members.items() if value is not None}
        filled_in = {"commandId": self.new_id(), "timeoutSec": self.default_timeout}
        try:
            record = orjson.dumps({**filled_in, **given, "requestedAt": iso_millis(now)})
        except orjson.JSONEncodeError:  # what can be read can be nested deeper than what can be written
            raise CommandInvalid("command_invalid", "Invalid command: nested too deep") from None
        now_ms = int(now * 1000)
        command = parse(record, source="", timestamp_ms=now_ms, now_ms=now_ms, default_timeout=self.default_timeout)
        return Order(command, record)

    async def submit(self, order: Order, *, seconds: float, not_taken: Callable[[], None] | None = None) -> Reply:
        """Request it, and wait for its final event, ``seconds`` at most. Who does not wait any more cancels.

        ``not_taken`` is called once if no gateway has taken it on in NOTICE_SECONDS. One that nobody takes on until it
        has expired is not waited for any longer.

        Raises StoreUnavailable, DuplicateCommand or DoorFull, with nothing requested, and BusUnavailable where Kafka
        has not confirmed the request: it may arrive all the same.
        """
        if self._waiting >= self.most_waiting:
            raise DoorFull(f"{self._waiting} are waiting for commands")
        self._waiting += 1
        try:
            command = order.command
            known = (await self.states.look([command.command_id]))[0]
            if known is not None and known.charge_point_id not in ("", command.charge_point_id):
                raise DuplicateCommand("another charge point had a command of this id")
            wait = _Wait(self.states, self.clock, order, self.clock.monotonic() + seconds, not_taken)
            if known is None or _may_be_tried_again(known):
                wait.round_before = None if known is None else known.source
                self._publish(order, wait)
            else:
                wait.was_known = True
            return await wait.reply()
        finally:
            self._waiting -= 1

    def _publish(self, order: Order, wait: _Wait) -> None:
        key = order.command.charge_point_id.encode()
        self.bus.publish(self.topic, key, order.record, list(_HEADERS), wait.delivered)


@define(eq=False)
class _Wait:
    """One who waits. A command is as far as Redis says, whether or not Kafka has confirmed the request."""

    states: CommandStates
    clock: Clock
    order: Order
    end: float
    not_taken: Callable[[], None] | None
    round_before: str | None = None
    """Source of the command's earlier round, which is over; None: there was none."""

    was_known: bool = False
    _is_confirmed: bool = field(default=False, init=False)
    _failure: BusUnavailable | None = field(default=None, init=False)
    _bell: Bell = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._bell = Bell(self.clock)

    def delivered(self, failure: BusUnavailable | None) -> None:
        """What became of the request on its way to Kafka."""
        self._is_confirmed = failure is None
        self._failure = failure
        if failure is not None:
            self._bell.ring()

    async def reply(self) -> Reply:
        """See ``CommandDoor.submit``."""
        began = self.clock.monotonic()
        last_taking = began + max(NOTICE_SECONDS, self.order.command.timeout_seconds)
        decided_at: float | None = None
        state: CommandState | None = None
        while True:
            state = await self._look(state)
            now = self.clock.monotonic()
            if state is None:
                if self._failure is not None:
                    raise self._failure
                if now >= began + NOTICE_SECONDS:
                    self._nobody_yet()
                if now >= last_taking:
                    return self._so_far(None)
            elif state.state is Stage.DONE:
                return self._final(state)
            elif state.state is Stage.FINAL:
                decided_at = now if decided_at is None else decided_at
                if now - decided_at >= _FOR_KAFKA_SECONDS or now >= self.end:
                    return self._final(state)
            elif state.is_parked and state.state is Stage.OPEN:
                return self._so_far(state)
            if now >= self.end:
                return self._so_far(state)
            await self._bell.wait(min(_pace(now - began), self.end - now))

    async def _look(self, before: CommandState | None) -> CommandState | None:
        """How far it is; as far as it was ``before`` while Redis is away."""
        try:
            state = (await self.states.look([self.order.command.command_id]))[0]
        except StoreUnavailable:
            return before
        return None if state is not None and self._is_of_round_before(state) else state

    def _is_of_round_before(self, state: CommandState) -> bool:
        return state.state is Stage.DONE and state.source == self.round_before

    def _nobody_yet(self) -> None:
        if not (self.was_known or self._is_confirmed):
            raise BusUnavailable(f"Kafka did not confirm the request in {NOTICE_SECONDS:g} s")
        if self.not_taken is not None:
            tell, self.not_taken = self.not_taken, None
            tell()

    def _final(self, state: CommandState) -> Reply:
        event_type, payload = _summary(state)
        if event_type is None:
            raise DuplicateCommand("what became of the command of this id is not known any more")
        asked = self.order.command.command_type
        if self.was_known and payload.get("commandType", asked) != asked:
            raise DuplicateCommand("another command had this id")
        return self._told(Standing.FINAL, event_type=event_type, payload=payload)

    def _so_far(self, state: CommandState | None) -> Reply:
        if state is None or not (state.is_parked and state.state is Stage.OPEN):
            return self._told(Standing.PENDING, is_taken=state is not None)
        until = None if self.was_known else iso_millis(self.order.command.send_before_ms / 1000)
        return self._told(Standing.QUEUED, deliver_until=until)

    def _told(self, standing: Standing, **facts: Any) -> Reply:
        command = self.order.command
        return Reply(
            command_id=command.command_id,
            charge_point_id=command.charge_point_id,
            standing=standing,
            is_repeated=self.was_known,
            **facts,
        )


def _pace(waited: float) -> float:
    """Seconds until the next look: most answers come at once, and the others can be told a little later."""
    return 0.05 if waited < 2 else 0.25 if waited < 30 else 1.0


def _may_be_tried_again(state: CommandState) -> bool:
    event_type, payload = _summary(state)
    return state.state is Stage.DONE and event_type == "CommandFailed" and payload.get("reason") in RETRYABLE


def _summary(state: CommandState) -> tuple[str | None, Mapping[str, Any]]:
    """Type and payload of the final event; None and nothing where there is none that could be read."""
    try:
        summary = orjson.loads(state.summary or b"")
        event_type, payload = summary["eventType"], summary["payload"]
    except (ValueError, TypeError, KeyError):
        return None, {}
    return (event_type, payload) if isinstance(event_type, str) and isinstance(payload, dict) else (None, {})
