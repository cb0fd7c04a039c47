"""Redis as the rest of the gateway sees it: a few typed calls, each of which ends soon.

Every call ends in its result or in StoreUnavailable, whatever the network does: at once while there is no connection,
else after at most ``timeout`` seconds (twice that for a script that the server has to be sent again). Values are
bytes as stored; txredisapi's habit of making numbers of them is off.

Calls may go over different connections: one that must see another's effect has to await it. Cancelling a caller does
not take back what was sent; it only stops waiting.

Importing this module installs the reactor (see ``pool``): import it inside functions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.redis.endpoint import RedisServer
from ocpp_gateway.redis.pool import ConnectionPool, RedisError, error_code
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.url import RedisUrl

log = Logger()

_SCAN_COUNT = 500
_GLOB = str.maketrans({character: f"\\{character}" for character in "\\*?[]^-"})


@define(eq=False)
class RedisClient:
    """A Redis server. Keys and channels are given without ``prefix``; it is put before them with a colon.

    At most ``max_pending`` calls wait for a reply; one more fails at once. ``server`` is for connections beside these.
    """

    prefix: str
    max_pending: int = field(kw_only=True)
    server: RedisServer = field(kw_only=True)
    _observers: list[Callable[[bool], None]] = field(factory=list, init=False)
    _waiters: list[Deferred[None]] = field(factory=list, init=False)
    _pool: ConnectionPool = field(init=False)

    @classmethod
    def connect(
        cls,
        url: RedisUrl,
        *,
        reactor: Any,
        prefix: str = "",
        timeout: float = 2.0,
        pool_size: int = 4,
        max_pending: int = 10_000,
    ) -> Self:
        """Begin to connect to ``url`` and go on for ever; returns at once (see ``when_connected``).

        ``timeout`` is in seconds, for each reply and for each attempt to connect. Raises ValueError if a TLS file of
        ``url`` cannot be used, OSError if it cannot be read.
        """
        server = RedisServer.at(url, reactor=reactor, timeout=timeout)
        client = cls(prefix, max_pending=max_pending, server=server)
        client._pool = ConnectionPool(
            server.endpoint,
            place=server.place,
            size=pool_size,
            timeout=timeout,
            db=url.db,
            username=url.username,
            password=url.password,
            connected=client._connection_changed,
        )
        client._pool.open()
        return client

    # The connection.

    @property
    def is_connected(self) -> bool:
        """Whether a call would be sent now."""
        return self._pool.pick() is not None

    @property
    def pending(self) -> int:
        """How many calls wait for a reply."""
        return self._pool.pending

    def observe(self, changed: Callable[[bool], None]) -> None:
        """Call ``changed`` with True when the first connection is up and with False when the last has gone."""
        self._observers.append(changed)

    async def when_connected(self, timeout: float) -> None:
        """Wait for a connection; StoreUnavailable if there is none after ``timeout`` seconds."""
        if self.is_connected:
            return
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        waiter.addTimeout(timeout, self.server.reactor)
        try:
            await waiter
        except TimeoutError:  # Twisted's, not the builtin one
            raise StoreUnavailable(f"no connection to Redis at {self.server.place}") from None

    async def close(self) -> None:
        """End the connections. Calls that wait fail, later ones too."""
        await self._pool.close()

    # The calls. Each may raise StoreUnavailable.

    async def ping(self) -> None:
        """See that the server answers."""
        await self._call("PING")

    async def get(self, key: str) -> bytes | None:
        """The value of ``key``, None if there is none."""
        value: bytes | None = await self._call("GET", self.key(key))
        return value

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of ``keys``, which are not empty, in their order."""
        values: list[bytes | None] = await self._call("MGET", *map(self.key, keys))
        return values

    async def set(self, key: str, value: bytes, *, expire: int | None = None, only_if_absent: bool = False) -> bool:
        """Store ``value``, for ``expire`` seconds if given. False if ``only_if_absent`` and it was there."""
        options: list[str | int] = [] if expire is None else ["EX", expire]
        if only_if_absent:
            options.append("NX")
        return await self._call("SET", self.key(key), value, *options) is not None

    async def delete(self, *keys: str) -> int:
        """Remove ``keys``, which are not empty; how many of them were there."""
        return int(await self._call("DEL", *map(self.key, keys)))

    async def publish(self, channel: str, message: bytes) -> int:
        """Publish to ``channel``; how many listened."""
        return int(await self._call("PUBLISH", self.key(channel), message))

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """Run ``script``. Its keys get the prefix, its arguments do not. Bulk replies are bytes."""
        names = [self.key(key) for key in keys]
        return await self._answer(f"script {script.name}", lambda connection: connection.run(script, names, arguments))

    async def scan(self, match: str, *, beginning: str = "") -> AsyncIterator[list[str]]:
        """The keys that are ``beginning`` and then match the glob ``match``, page by page, without the prefix.

        A key may come twice, one that is written or deleted meanwhile may come or not (Redis: SCAN).
        """
        pattern = self.key(beginning).translate(_GLOB) + match
        cut = len(self.key(""))
        cursor = b"0"
        while True:
            cursor, page = await self._call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
            yield [key.decode("utf-8", "replace")[cut:] for key in page]
            if cursor == b"0":
                return

    async def members(self, key: str) -> AsyncIterator[list[bytes]]:
        """The members of the set ``key``, page by page, as ``scan`` does: removing those that came is fine."""
        name, cursor = self.key(key), b"0"
        while True:
            cursor, page = await self._call("SSCAN", name, cursor, "COUNT", _SCAN_COUNT)
            yield page
            if cursor == b"0":
                return

    def key(self, name: str) -> str:
        """``name`` as it is stored, with the prefix."""
        return f"{self.prefix}:{name}" if self.prefix else name

    async def _call(self, command: str, *arguments: bytes | str | int) -> Any:
        return await self._answer(command, lambda connection: connection.execute_command(command, *arguments))

    async def _answer(self, what: str, ask: Callable[[Any], Deferred[Any]]) -> Any:
        connection = self._pool.pick()
        if connection is None:
            raise StoreUnavailable(f"no connection to Redis for {what}")
        pending = self._pool.pending
        if pending >= self.max_pending:
            raise StoreUnavailable(f"{pending} calls wait for Redis, too many for another {what}")
        try:
            return await ask(connection)
        except RedisError as error:
            raise StoreUnavailable(f"Redis failed {what}: {error_code(error)}") from None

    def _connection_changed(self, connected: bool) -> None:
        waiters, self._waiters = (self._waiters, []) if connected else ([], self._waiters)
        for waiter in waiters:
            waiter.callback(None)
        for changed in self._observers:
            try:
                changed(connected)
            except Exception:
                log.failure("An observer of the Redis connection failed", event="redis.observer_failed")
