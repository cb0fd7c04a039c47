"""How far a command is, kept where all nodes see it, and the ports to it (docs/adr/0021, 0023).

::

    open ──> sent ──> final ──> done
      └────────────────^

A state changes by comparing what is there, so that of many who try one succeeds. After StoreUnavailable nobody knows
whether it was done, so the same call, with the same arguments, has to be made again until there is an answer: what was
done already gives the same result once more. To think better of it meanwhile could leave a state that nobody ends.

A record that is not there counts as ``open`` for who holds the command in memory: Redis may have lost it. A value that
is no record of ours (an earlier gateway's) counts as ``done``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Protocol

from attrs import field, frozen

from ocpp_gateway.commands.request import Command
from ocpp_gateway.routing.envelope import Headers


class Stage(StrEnum):
    """How far a command is."""

    OPEN = "open"  # taken on, not sent
    SENT = "sent"  # about to be written to the charge point, or written: never to be sent again
    FINAL = "final"  # the final event is decided and stored; Kafka may not have it yet
    DONE = "done"  # Kafka has the final event


class Verdict(StrEnum):
    """What a record with a command is."""

    NEW = "new"
    RESUMED = "resumed"  # the same record again
    DUPLICATE = "duplicate"  # another record had this commandId


class Parking(StrEnum):
    """What became of an attempt to park."""

    PARKED = "parked"  # now, or before
    FULL = "full"
    CONNECTED = "connected"  # a live session has the charge point by now: the command is to be sent
    NOT_OPEN = "not_open"  # somebody has sent or finished it: it goes its way without us


class Taking(StrEnum):
    """What the owner's node says to a command that was handed over."""

    TAKEN = "taken"
    NOT_HERE = "not_here"  # it has no session of the charge point


@frozen
class Process:
    """One life of a node: its name and the ``startedAt`` of its lease. A restarted node is another process."""

    node_id: str
    born: str


@frozen
class Owner:
    """Who has a charge point: a session record whose node's lease is there. What cannot be read is 0 or empty."""

    node_id: str
    born: str
    epoch: int
    ocpp_version: str
    """The label: 1.6J, 2.0.1 or 2.1."""

    @property
    def process(self) -> Process:
        """The owner's process."""
        return Process(self.node_id, self.born)


@frozen
class Final:
    """The final event of a command as it goes to Kafka. It keeps its ``event_id``, whoever publishes it."""

    event_id: str
    key: bytes
    value: bytes = field(repr=False)
    headers: Headers = field(repr=False)


@frozen(kw_only=True)
class CommandState:
    """What is known of a command."""

    state: Stage
    source: str = ""
    """The record that it came with (``Command.source``). One that has waited for another source may take it as done:
    a commandId is begun again only behind that."""

    charge_point_id: str = ""
    sent_by: Process | None = None
    epoch: int = 0
    """Of the session that it was sent to; 0: it was not."""

    message_id: str | None = None
    """Of the CALL; None: it was not sent."""

    final_by: Process | None = None
    """Who has to publish the final event."""

    final: Final | None = None
    """From ``final`` on until ``done``."""

    final_at_ms: int = 0
    """When it became final, milliseconds since the epoch; 0: not yet."""

    summary: bytes | None = field(default=None, repr=False)
    """From ``final`` on, and beyond ``done``: the JSON ``{eventType, payload}`` of the final event."""

    is_parked: bool = False
    """Whether Redis is responsible for it: it waits for the charge point, or is on its way to it from there."""


@frozen
class Begun:
    """What ``CommandStore.begin`` found."""

    verdict: Verdict
    state: CommandState
    """For a duplicate: that of the command that was there before."""

    owner: Owner | None
    """Who has the charge point now; None: it is offline."""


class CommandStore(Protocol):
    """The states of all commands. Everything here raises StoreUnavailable, and is to be repeated then."""

    async def begin(self, command: Command) -> Begun:
        """Take on ``command``. A done one whose final event was retryable is begun anew by another record.

        A record that was told to be a duplicate stays one.
        """
        ...

    async def owner(self, charge_point_id: str) -> Owner | None:
        """Who has the charge point now; None: it is offline."""
        ...

    async def is_alive(self, processes: Iterable[Process]) -> set[Process]:
        """Those of ``processes`` whose lease is there. One whose lease expired while Redis was away may live on."""
        ...

    async def send(self, command: Command, process: Process, epoch: int, message_id: str, audit: bytes) -> bool:
        """open -> sent: ``process`` is about to write the CALL ``message_id`` to the session of ``epoch``.

        False: somebody else has sent or finished it, so it must not be sent. ``message_id`` must be one that was never
        used before. Who has asked for this and then does not write the CALL, for whatever reason, has to ``finish`` it.
        """
        ...

    async def finish(
        self,
        command: Command,
        final: Final,
        process: Process,
        *,
        message_id: str | None,
        is_retryable: bool,
        summary: bytes,
        audit: bytes | None,
    ) -> bool:
        """open or sent -> final: ``process`` is to publish ``final``, and then to say ``published``.

        A command that is ``sent`` is finished only by who names its ``message_id``: the sender, or who found the sender
        dead (``CommandState.message_id``). None: it was not sent, as far as the caller knows. False: somebody else
        has sent or finished it.
        """
        ...

    async def adopt(self, command_id: str, dead: Process, process: Process) -> Final | None:
        """``process`` is to publish the final event in place of ``dead``, which may have done it: see the topic first.

        None: somebody else adopted it, it is done, or ``dead`` has a lease (again).
        """
        ...

    async def published(self, command: Command, event_id: str) -> None:
        """final -> done: Kafka has the event ``event_id``. It is parked no more. Nothing if another is final by now."""
        ...

    async def look(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        """The states, in their order; None: there is no record."""
        ...

    async def park(self, command: Command, expires_at_ms: int, limit: int) -> Parking:
        """Let it wait in Redis until ``expires_at_ms``, unless ``limit`` others of its charge point do.

        Whether the charge point is connected is seen in the same step: a session that is claimed later finds it.
        """
        ...

    async def parked(self, charge_point_id: str) -> list[Command]:
        """What waits for the charge point and was not sent, in order."""
        ...

    async def due(self, now_ms: int, limit: int) -> list[Command]:
        """At most ``limit`` parked commands that somebody has to look after, and nobody else does for some seconds.

        Those whose time is over, and those that are under way (``sent``, ``final``) and not done: their process may
        have died. ``look`` tells which.
        """
        ...


class CommandBus(Protocol):
    """What nodes tell each other of commands: hints, any of them may be lost. All raise StoreUnavailable."""

    async def hand_over(self, node_id: str, command: Command, attempt: int) -> int:
        """Ask ``node_id``, the owner, to carry ``command`` out; how many nodes heard it."""
        ...

    async def taken(self, node_id: str, command_id: str, process: Process, result: Taking) -> int:
        """Tell ``node_id``, which handed it over, what ``process`` does with it; how many nodes heard it."""
        ...

    async def done(self, node_id: str, command_id: str) -> int:
        """Tell ``node_id``, which handed it over, that its final event is in Kafka; how many nodes heard it."""
        ...
