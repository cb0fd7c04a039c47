"""The node bus: each node listens to ``node-bus:{nodeId}``, and whoever has to tell it something publishes there.

Pub/sub forgets what nobody hears. Messages may be missed whenever the connection was down, which ``resubscribed``
tells: who acts on messages has to look for himself then. What is said over the bus is in ``bus_messages``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from ocpp_gateway.clock import Clock
from ocpp_gateway.redis.bus_messages import BusMessage, SessionKick, parse
from ocpp_gateway.redis.endpoint import Watched
from ocpp_gateway.redis.ownership import node_channel
from ocpp_gateway.redis.subscriber import Subscriber

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

log = Logger()

_FIRST_DELAY = 0.2
_LONGEST_DELAY = 5.0
_PING_TIMEOUTS = 5
"""How many timeouts lie between two PINGs."""


async def kick(
    client: RedisClient, node_id: str, charge_point_id: str, *, epoch: int | None, actor: str, reason: str
) -> int:
    """Ask node ``node_id`` to end a session, of ``epoch`` or (None) of any; how many nodes heard it.

    Raises StoreUnavailable.
    """
    message = SessionKick(charge_point_id=charge_point_id, epoch=epoch, actor=actor, reason=reason)
    return await client.publish(node_channel(node_id), message.encode())


@define(eq=False, kw_only=True)
class NodeBus:
    """What node ``node_id`` is told, over a connection of its own to the server of ``client``; it comes back for ever.

    ``received`` is called for each message that is understood, ``resubscribed`` each time that listening begins,
    at first too. ``random`` gives numbers from 0 to 1: nodes that lost Redis together come back one by one.
    """

    client: RedisClient
    clock: Clock
    random: Callable[[], float]
    node_id: str
    received: Callable[[BusMessage], None]
    resubscribed: Callable[[], None]
    is_subscribed: bool = field(default=False, init=False)
    """Whether messages are heard now, as far as we know."""

    ignored: int = field(default=0, init=False)
    """How many messages were not understood."""

    _said: set[str] = field(factory=set, init=False)
    _unproven: int = field(default=0, init=False)
    _is_running: bool = field(default=False, init=False)
    _connection: Subscriber | None = field(default=None, init=False)
    _delay: Callable[[int], float] = field(init=False)
    _service: ClientService = field(init=False)

    def __attrs_post_init__(self) -> None:
        server = self.client.server
        self._delay = backoffPolicy(_FIRST_DELAY, _LONGEST_DELAY, factor=2.0, jitter=self.random)
        # No prepareConnection: ClientService fails, into the log, when a connection ends while it is prepared.
        self._service = ClientService(
            Watched(server.endpoint, self._trouble),
            _Subscribers(self._subscriber),
            retryPolicy=self._retry_delay,
            clock=server.reactor,
        )

    def start(self) -> None:
        """Begin to listen and go on, whatever happens; returns at once (see ``is_subscribed``)."""
        self._is_running = True
        self._service.startService()

    async def stop(self) -> None:
        """End the connection and stop connecting."""
        if not self._is_running:
            return
        self._is_running = False
        stopped = self._service.stopService()
        if self._connection is not None:
            self._connection.abort()
        await stopped

    def _subscriber(self) -> Subscriber:
        server = self.client.server
        self._unproven += 1
        self._connection = Subscriber(
            channel=self.client.key(node_channel(self.node_id)),
            credential=[part for part in (server.url.username, server.url.password) if part is not None],
            clock=self.clock,
            timeout=server.timeout,
            ping_interval=server.timeout * _PING_TIMEOUTS,
            subscribed=self._subscribed,
            message=self._message,
            trouble=self._trouble,
            lost=self._lost,
        )
        return self._connection

    def _retry_delay(self, attempt: int) -> float:
        """Seconds until the next attempt; a connection that never got its channel counts as failed."""
        return self._delay(max(attempt, self._unproven))

    def _subscribed(self) -> None:
        self._unproven = 0
        self._said.clear()
        self.is_subscribed = True
        log.info("Listening to the node bus at {place}", event="redis.bus_subscribed", place=self.client.server.place)
        try:
            self.resubscribed()
        except Exception:
            log.failure("Who hears the node bus failed", event="redis.bus_listener_failed")

    def _message(self, raw: bytes) -> None:
        message = parse(raw)
        if message is None:
            self.ignored += 1
            log.debug("A message on the node bus was not understood", event="redis.bus_message_ignored", size=len(raw))
            return
        try:
            self.received(message)
        except Exception:
            log.failure("Who hears the node bus failed", event="redis.bus_listener_failed")

    def _trouble(self, problem: str) -> None:
        """Say why nothing is heard: each cause once, until something is again."""
        if not self._is_running or problem in self._said or len(self._said) >= 20:
            return
        self._said.add(problem)
        log.warn(
            "The node bus at {place}: {problem}",
            event="redis.bus_trouble",
            place=self.client.server.place,
            problem=problem,
        )

    def _lost(self) -> None:
        self.is_subscribed = False
        self._connection = None


class _Subscribers(Factory):
    noisy = False

    def __init__(self, subscriber: Callable[[], Subscriber]) -> None:
        self.protocol = subscriber
