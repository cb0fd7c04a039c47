"""Connections to Redis that come back by themselves: txredisapi's pool with the repairs it needs.

This module is the only one that imports txredisapi, which imports (and so installs) the global reactor. Import it, and
``client``, inside functions only, never from the twistd plugin.

What txredisapi 1.6 does, and what is done about it:

* An error during AUTH or SELECT, a lost connection included, ends the reconnecting for ever (txredisapi issue 126):
  ``stopTrying`` does nothing until we close.
* While there is no connection, calls wait without end and leave something behind each: calls take a connection from
  ``pick``, which has one or has none, and never join the library's queue.
* A connection counts as ready as soon as TCP is up, although TLS may still fail, the password may be missing or the
  server may be frozen: one joins the pool when it has answered a PING.
* Each command costs it two Deferreds, a timer, an encoder and a look through the reply in Python, and each script a
  hash of its text: one Deferred and hiredis do the same. There are three commands in every handshake.
* A server that is not Redis raises inside ``dataReceived``, for the reactor to log: the connection is ended instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import txredisapi
from attrs import define, field
from hiredis import pack_command
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocpp_gateway.redis.endpoint import Watched, answer_code
from ocpp_gateway.redis.scripts import Script

RedisError = txredisapi.RedisError

log = Logger()


def error_code(error: BaseException | None) -> str:
    """What Redis answered, by its first word (see ``answer_code``); else the name of what went wrong."""
    return answer_code(str(error)) if isinstance(error, txredisapi.ResponseError) else type(error).__name__


_MOVED_AWAY = frozenset({"READONLY", "MASTERDOWN", "LOADING"})
"""Answers of a server that is not, or not yet, the one to talk to: connecting anew may find another."""


class _Connection(txredisapi.RedisProtocol):  # type: ignore[misc]  # the base has no types
    """One connection; its factory hears why it ended."""

    is_over = False
    """Nothing more is to be sent over it, although it may still look connected for this turn of the reactor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: deque[tuple[float, Deferred[Any]]] = deque()
        self._timer: IDelayedCall | None = None

    def execute_command(self, *args: bytes | str | int, **_: object) -> Deferred[Any]:
        """txredisapi's, without transactions and pipelines: send a command; the Deferred has its reply."""
        if not self.connected:
            raise txredisapi.ConnectionError("Not connected")
        self.transport.write(pack_command(args))  # type: ignore[arg-type]  # of any length, unlike its type
        # One who is cancelled stops waiting; the reply still comes, in its turn.
        reply: Deferred[Any] = Deferred()
        self._waiting.append((self.transport.reactor.seconds() + self.replyTimeout, reply))
        if self._timer is None:
            self._timer = self.callLater(self.replyTimeout, self._look_for_overdue)
        return reply

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Deferred[Any]:
        """Run ``script``; a server that does not have it is sent it, once."""
        reply = self.execute_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
        return reply.addErrback(self._send_script, script, keys, arguments)

    def _send_script(
        self, failure: Failure, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]
    ) -> Failure | Deferred[Any]:
        if error_code(failure.value) != "NOSCRIPT":
            return failure
        return self.execute_command("EVAL", script.text, len(keys), *keys, *arguments)

    @property
    def pending(self) -> int:
        """How many commands wait for a reply."""
        return len(self._waiting)

    def replyReceived(self, reply: Any) -> None:
        if not self._waiting:
            return  # to a command that was given up
        _, waiting = self._waiting.popleft()
        if isinstance(reply, Exception):
            # Who hears of it and tries again at once must not get this connection, if this was its end.
            self.factory.call_failed(self, reply)
            waiting.errback(reply)
        else:
            waiting.callback(reply)

    def _look_for_overdue(self) -> None:
        """One timer for all that wait, as they all may wait equally long; it runs on for a while behind the last."""
        self._timer = None
        if not self._waiting:
            return
        left = self._waiting[0][0] - self.transport.reactor.seconds()
        if left > 0:
            self._timer = self.callLater(left, self._look_for_overdue)
        else:
            self._fail_all(txredisapi.TimeoutError(f"Not received Redis response in {self.replyTimeout} seconds"))
            self.transport.abortConnection()

    def _fail_all(self, error: Exception) -> None:
        while self._waiting:
            self.replyReceived(error)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                self.replyReceived(reply)
        except txredisapi.InvalidData:
            self.factory.note_trouble("the server does not speak the Redis protocol")
            self.factory.drop(self)

    def connectionLost(self, why: Failure) -> None:
        if not isinstance(why.value, ConnectionDone | ConnectionAborted):
            self.factory.note_trouble(why.getErrorMessage())
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        super().connectionLost(why)
        self._fail_all(txredisapi.ConnectionError("Lost connection"))


@define(slots=False)
class _ChangeLog:
    """Logs that Redis went and came back, not every attempt in between."""

    place: str
    said: set[str] = field(factory=set)

    def trouble(self, what: str) -> None:
        if what in self.said or len(self.said) >= 20:
            return
        self.said.add(what)
        log.warn("Redis at {place}: {problem}", event="redis.trouble", place=self.place, problem=what)

    def connected(self) -> None:
        self.said.clear()
        log.info("Connected to Redis at {place}", event="redis.connected", place=self.place)


class ConnectionPool(txredisapi.RedisFactory):  # type: ignore[misc]  # the base has no types
    """Keeps ``size`` connections to ``endpoint``, for ever, until ``close``.

    ``timeout`` bounds each reply, AUTH's and SELECT's too: on its end the connection is given up, with all that waits
    on it. ``connected`` is called with True when the first connection is there and with False when the last has gone.
    """

    initialDelay = 0.2
    maxDelay = 5.0
    factor = 2.0
    protocol = _Connection

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        *,
        place: str,
        size: int,
        timeout: float,
        db: int,
        username: str | None,
        password: str | None,
        connected: Callable[[bool], None],
    ) -> None:
        super().__init__(
            place,
            db or None,
            size,
            isLazy=False,
            charset=None,
            password=password,
            replyTimeout=timeout,
            convertNumbers=False,
            username=username,
        )
        self.deferred = None  # it would fail unseen; nobody waits for it
        self._changes = _ChangeLog(place)
        self._connected = connected
        self._up = False
        self._next = 0
        self._unproven = 0
        self._closing = False
        self._endpoint = Watched(endpoint, self.note_trouble)

    def open(self) -> None:
        """Begin to connect."""
        self.startConnecting(self._endpoint)

    @property
    def pending(self) -> int:
        """How many commands wait for a reply."""
        return sum(connection.pending for connection in self.pool)

    def pick(self) -> Any:
        """A connection that is up, each in its turn; None if there is none."""
        for _ in range(len(self.pool)):
            self._next = (self._next + 1) % len(self.pool)
            connection = self.pool[self._next]
            if connection.connected and not connection.is_over:
                return connection
        return None

    def call_failed(self, connection: Any, error: BaseException | None) -> None:
        """A call over ``connection`` ended in ``error``: see whether that is the end of the connection too."""
        if isinstance(error, txredisapi.ConnectionError) or error_code(error) in _MOVED_AWAY:
            self.drop(connection)

    def drop(self, connection: Any) -> None:
        """End ``connection``; another takes its place."""
        connection.is_over = True
        connection.transport.abortConnection()
        self._look()

    def note_trouble(self, what: str) -> None:
        """Say why there is no connection: each cause once, until there is one again."""
        if not self._closing:
            self._changes.trouble(what)

    async def close(self) -> None:
        """End all connections and stop connecting; what waits for a reply fails."""
        self._closing = True
        stopped = self.disconnect()
        for slot in self.slots:
            if slot.protocol is not None:
                slot.protocol.transport.abortConnection()  # a frozen server would never let us leave politely
        await stopped

    # What txredisapi calls.

    def stopTrying(self) -> Deferred[None]:
        """Called by the library after any error during AUTH or SELECT: not a reason to give up for ever."""
        return succeed(None)

    def connectionError(self, why: str) -> None:
        """AUTH or SELECT failed; ``why`` ends in Redis's own words, which may repeat our arguments."""
        said = why.split(": ", 2)[-1].split(" ", 1)[0]
        code = said if said.isalpha() and said.isupper() else "no answer"
        self.note_trouble(f"the user, password or database was not accepted: {code}")

    def retryDelay(self, attempt: int) -> float:
        """Seconds until the next attempt; one that never answered a PING counts as failed."""
        return float(super().retryDelay(max(attempt, self._unproven)))

    def addConnection(self, conn: Any) -> None:
        """The library believes that ``conn`` is ready; it joins the pool when it has answered."""
        if self._closing or not conn.connected:
            conn.transport.abortConnection()
            return
        self._unproven += 1
        conn.ping().addCallbacks(lambda _: self._proven(conn), lambda failure: self._unfit(conn, failure))

    def delConnection(self, conn: Any) -> None:
        """``conn`` is gone."""
        super().delConnection(conn)
        self._look()

    def _proven(self, conn: Any) -> None:
        self._unproven = 0
        super().addConnection(conn)
        self._look()

    def _look(self) -> None:
        """Tell if the first usable connection has come or the last has gone."""
        up = self.pick() is not None
        if up is self._up:
            return
        self._up = up
        if up:
            self._changes.connected()
        else:
            self.note_trouble("the connection was lost")
        self._connected(up)

    def _unfit(self, conn: Any, failure: Failure) -> None:
        self.note_trouble(f"a new connection was not usable: {error_code(failure.value)}")
        conn.transport.abortConnection()
