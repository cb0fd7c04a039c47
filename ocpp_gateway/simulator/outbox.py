"""What a charge point still has to say.

Messages leave in the order in which they were put in. Transaction messages outlive a lost connection, as OCPP demands
(1.6 edition 2 section 3.7.1, 2.0.1 part 2 E12): the same words are said again on the next one, under a new message id.
The others are only worth saying now.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from attrs import define, field

from ocpp_gateway.simulator.errors import ConnectionLost, SimulatorError
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.messages import Message


@define(eq=False)
class Entry:
    """A message to be sent. ``build`` is asked once, when its turn has come: only then is 1.6's transactionId known."""

    build: Callable[[], Message]
    durable: bool
    on_answer: Callable[[Payload], None] | None
    answered: asyncio.Future[Payload]
    attempts: int = 0
    _message: Message | None = None

    def message(self) -> Message:
        """The message, the same at every attempt."""
        if self._message is None:
            self._message = self.build()
        return self._message


@define(eq=False)
class Outbox:
    """The queue. Answers come through the futures that ``put`` returns."""

    _entries: deque[Entry] = field(factory=deque, init=False)
    _filled: asyncio.Event = field(factory=asyncio.Event, init=False)
    _emptied: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._entries)

    def put(
        self,
        build: Callable[[], Message],
        *,
        durable: bool = False,
        on_answer: Callable[[Payload], None] | None = None,
    ) -> asyncio.Future[Payload]:
        """Add a message; the future gets the answer's payload, or why there is none.

        ``on_answer`` is called with it before the next message is built: what that one says may depend on it.
        """
        answered: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        answered.add_done_callback(_seen)
        self._entries.append(Entry(build, durable, on_answer, answered))
        self._filled.set()
        self._emptied.clear()
        return answered

    async def first(self) -> Entry:
        """The entry whose turn it is; waits for one. It stays in the queue until ``answered`` or ``given_up``."""
        while not self._entries:
            self._filled.clear()
            await self._filled.wait()
        return self._entries[0]

    async def empty(self) -> None:
        """Wait until everything has been said."""
        await self._emptied.wait()

    def answered(self, entry: Entry, payload: Payload) -> None:
        """The first entry got its answer."""
        self._remove(entry)
        if entry.on_answer is not None:
            entry.on_answer(payload)
        if not entry.answered.done():
            entry.answered.set_result(payload)

    def given_up(self, entry: Entry, why: SimulatorError) -> None:
        """The first entry will not be said (again)."""
        self._remove(entry)
        if not entry.answered.done():
            entry.answered.set_exception(why)

    def connection_lost(self, why: ConnectionLost) -> None:
        """Forget what is only worth saying now."""
        for entry in [entry for entry in self._entries if not entry.durable]:
            self.given_up(entry, why)

    def _remove(self, entry: Entry) -> None:
        self._entries.remove(entry)
        if not self._entries:
            self._emptied.set()


def _seen(answered: asyncio.Future[Payload]) -> None:
    """Whoever put the message in need not care how it ended: the tally counts it."""
    if not answered.cancelled():
        answered.exception()
