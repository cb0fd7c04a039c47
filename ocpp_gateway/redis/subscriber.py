"""One connection that listens to one channel of Redis (RESP2, "Redis Pub/Sub": https://redis.io/docs/pubsub/).

::

    AUTH, SUBSCRIBE ──> subscribed ──> messages, and a PING now and then ──> lost
         └── no answer in time, refused: given up            └── no answer in time: given up

txredisapi's subscriber does not do: an answer to a PING and one to a SUBSCRIBE look alike to it, it leaves both without
a timeout, and an error during AUTH ends its reconnecting for ever. What is left to write is less than its repairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from hiredis import ProtocolError, Reader, ReplyError, pack_command
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from ocpp_gateway.clock import Clock
from ocpp_gateway.redis.endpoint import answer_code


@define(eq=False, kw_only=True, slots=False)
class Subscriber(Protocol):
    """Listens to ``channel``, until it gives up or the connection is lost; ``lost`` is told then, once.

    ``credential``: user and password, or the password alone, or nothing. ``timeout``: seconds for the answer to a
    SUBSCRIBE or PING; a PING goes out after ``ping_interval`` seconds. ``trouble`` hears why a connection ends.
    """

    channel: str
    credential: Sequence[str]
    clock: Clock
    timeout: float
    ping_interval: float
    subscribed: Callable[[], None]
    message: Callable[[bytes], None]
    trouble: Callable[[str], None]
    lost: Callable[[], None]
    transport: ITCPTransport = field(init=False)
    _reader: Reader = field(factory=Reader, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _is_subscribed: bool = field(default=False, init=False)
    _heard: bool = field(default=False, init=False)
    _is_over: bool = field(default=False, init=False)

    def abort(self) -> None:
        """End at once and without a word; a frozen server would never let us leave politely."""
        self._is_over = True
        self.transport.abortConnection()

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Ask for the channel; nobody waits for AUTH's answer, as a SUBSCRIBE without it fails too."""
        if self.credential:
            self._send("AUTH", *self.credential)
        self._send("SUBSCRIBE", self.channel)
        self._wait(self.timeout, self._overdue)

    def dataReceived(self, data: bytes) -> None:
        """Whatever comes shows that the server lives."""
        self._heard = True
        try:
            self._reader.feed(data)
            while not self._is_over and (reply := self._reader.gets()) is not False:
                self._received(reply)
        except ProtocolError:
            self._give_up("the server does not speak the Redis protocol")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, ours or theirs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_over:
            is_plain = isinstance(reason.value, ConnectionDone | ConnectionAborted)
            self.trouble("the connection was lost" if is_plain else reason.getErrorMessage())
        self._is_over = True
        self.lost()

    def _received(self, reply: Any) -> None:
        match reply:
            case ReplyError():
                self._give_up(f"the user, password or channel was not accepted: {answer_code(str(reply))}")
            case [b"message", _, bytes(text)]:
                self.message(text)
            case [b"subscribe", *_] if not self._is_subscribed:
                self._is_subscribed = True
                self._wait(self.ping_interval, self._ping)
                self.subscribed()

    def _ping(self) -> None:
        self._heard = False
        self._send("PING")
        self._wait(self.timeout, self._look_for_answer)

    def _look_for_answer(self) -> None:
        if self._heard:
            self._wait(self.ping_interval, self._ping)
        else:
            self._overdue()

    def _overdue(self) -> None:
        self._timer = None
        self._give_up(f"no answer in {self.timeout:g} s")

    def _give_up(self, why: str) -> None:
        self.trouble(why)
        self.abort()

    def _send(self, *command: str) -> None:
        self.transport.write(pack_command(command))  # type: ignore[arg-type]  # of any length, unlike its type

    def _wait(self, seconds: float, function: Callable[[], None]) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self.clock.call_later(seconds, function)
