"""The one connector of a simulated charge point: cars come, charge and leave, whether or not there is a connection."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from functools import partial

from attrs import define, field

from ocpp_gateway.simulator.errors import SimulatorError
from ocpp_gateway.simulator.frames import Payload
from ocpp_gateway.simulator.messages import (
    ConnectorStatus,
    Message,
    Messages,
    StopReason,
    Transaction,
)
from ocpp_gateway.simulator.meter import Meter, utc_timestamp
from ocpp_gateway.simulator.outbox import Outbox
from ocpp_gateway.simulator.plan import Plan, Settings
from ocpp_gateway.simulator.tally import Tally


@define(eq=False, kw_only=True)
class Connector:
    """States and transactions of the connector.

    ``accepted``: the CSMS has accepted the boot; ``online``: there is a connection to ask on; ``on_idle`` is called
    when a car has left.
    """

    plan: Plan
    settings: Settings
    messages: Messages
    outbox: Outbox
    tally: Tally
    chance: random.Random
    accepted: asyncio.Event
    online: asyncio.Event
    on_idle: Callable[[], None] = lambda: None
    _meter: Meter = field(init=False)
    _status: ConnectorStatus = field(default=ConnectorStatus.AVAILABLE, init=False)
    _reported: Payload | None = field(default=None, init=False)
    _transaction: Transaction | None = field(default=None, init=False)
    _requested: tuple[str, int | None] | None = field(default=None, init=False)
    _in_service: bool = field(default=True, init=False)
    _stopping: bool = field(default=False, init=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._meter = Meter(self.chance, energy_wh=float(self.chance.randrange(1_000, 2_000_000)))

    @property
    def transaction(self) -> Transaction | None:
        """The transaction that is going on."""
        return self._transaction

    @property
    def is_idle(self) -> bool:
        """No car is connected."""
        return self._status in (ConnectorStatus.AVAILABLE, ConnectorStatus.UNAVAILABLE)

    @property
    def is_in_service(self) -> bool:
        """It was not taken out of service."""
        return self._in_service

    async def serve(self) -> None:
        """Charge car after car, as planned. Returns when that is done, or after ``stop``."""
        await self.accepted.wait()
        await self._until(lambda: self._requested is not None, self.chance.uniform(0.0, self.plan.pause))
        cars = 0
        while not self._stopping and (self.plan.sessions is None or cars < max(1, self.plan.sessions)):
            if self.plan.sessions == 0:
                await self._until(lambda: self._requested is not None and self._in_service, None)
            else:
                await self._until(lambda: self._in_service, None)
            await self.accepted.wait()
            if self._stopping:
                return
            id_token, remote_start_id = self._requested or (self.plan.id_token or new_id_token(), None)
            by_remote, self._requested = self._requested is not None, None
            await self._charge_one_car(id_token, remote_start_id, by_remote)
            cars += self.plan.sessions != 0
            if self.plan.sessions is None or cars < self.plan.sessions:
                await self._until(lambda: self._requested is not None, self.plan.pause)

    def report_status(self) -> None:
        """Say the state, even if it was said before: a new connection begins."""
        self._reported = None
        self._report()

    def report_meter(self) -> None:
        """Say what the meter shows, because it was asked for."""
        transaction = None if self.messages.version.is_2x else self._transaction
        self.outbox.put(partial(self.messages.metered, transaction, self._meter.read(), is_asked_for=True))

    def report_transaction(self) -> None:
        """Say how the transaction stands, because it was asked for (2.x); nothing without one."""
        if self._transaction is not None:
            self._put(partial(self.messages.metered, self._transaction, self._meter.read(), is_asked_for=True))

    def remote_start(self, id_token: str, remote_start_id: int | None) -> None:
        """The CSMS wants a transaction."""
        self._requested = (id_token, remote_start_id)
        self._changed.set()

    def end_transaction(self, reason: StopReason) -> None:
        """End the transaction that is going on, if one is."""
        if self._transaction is not None and self._transaction.stopped_by is None:
            self._transaction.stopped_by = reason
        self._changed.set()

    def set_in_service(self, in_service: bool) -> None:
        """Take the connector into service, or out of it as soon as no car is charging."""
        self._in_service = in_service
        if self.is_idle:
            self._rest()
        self._changed.set()

    def stop(self) -> None:
        """End what goes on, start nothing new."""
        self._stopping = True
        self._changed.set()

    async def _charge_one_car(self, id_token: str, remote_start_id: int | None, by_remote: bool) -> None:
        self._meter.plug_in()
        self._become(ConnectorStatus.PREPARING)
        if not by_remote and not await self._is_authorized(id_token):
            self.tally.tokens_refused += 1
            self._rest()
            self.on_idle()
            return
        transaction = self.messages.begin(id_token)
        transaction.remote_start_id = remote_start_id
        self._transaction = transaction
        self.tally.transactions += 1
        self.tally.charging += 1
        try:
            ended = await self._transact(transaction)
        finally:
            self.tally.charging -= 1
            self._transaction = None
        self._become(ConnectorStatus.FINISHING)
        # The next car waits until the CSMS has the whole transaction; an outage must not pile up invented ones.
        try:
            await ended
            self.tally.finished_transactions += 1
        except SimulatorError:
            pass  # given up, and counted as lost where that was decided
        self._rest()
        self.on_idle()

    async def _transact(self, transaction: Transaction) -> asyncio.Future[Payload]:
        first = self._meter.read()
        for message in self.messages.started(transaction, first):
            self._put(partial(_same, message), partial(self._start_answered, transaction))
        self._become(ConnectorStatus.CHARGING)
        for _ in range(self.plan.readings):
            seconds = self.settings.meter_interval
            if await self._until(lambda: transaction.stopped_by is not None, seconds):
                break
            self._meter.charge(seconds)
            self._put(partial(self.messages.metered, transaction, self._meter.read()))
        self._meter.stop()
        last = self._meter.read()
        self.tally.energy_wh += last.energy_wh - first.energy_wh
        reason = transaction.stopped_by or StopReason.LOCAL
        return self._put(partial(self.messages.stopped, transaction, last, reason))

    def _start_answered(self, transaction: Transaction, answer: Payload) -> None:
        transaction_id = answer.get("transactionId")
        if transaction.id is None and isinstance(transaction_id, int):
            transaction.id = transaction_id
        if self.messages.token_status(answer) != "Accepted":
            self.tally.tokens_refused += 1
            self.end_transaction(StopReason.DEAUTHORIZED)

    async def _is_authorized(self, id_token: str) -> bool:
        """Ask; offline the driver gets the benefit of the doubt, as AllowOfflineTxForUnknownId has it."""
        if not self.online.is_set():
            return True
        try:
            answer = await self.outbox.put(partial(self.messages.authorize, id_token))
        except SimulatorError:
            return not self.online.is_set()
        return self.messages.token_status(answer) == "Accepted"

    def _put(
        self, build: Callable[[], Message], on_answer: Callable[[Payload], None] | None = None
    ) -> asyncio.Future[Payload]:
        return self.outbox.put(build, durable=True, on_answer=on_answer)

    def _rest(self) -> None:
        self._become(ConnectorStatus.AVAILABLE if self._in_service else ConnectorStatus.UNAVAILABLE)

    def _become(self, status: ConnectorStatus) -> None:
        if status is not self._status:
            self._status = status
            self._report()

    def _report(self) -> None:
        """Queue a status message, unless this version has said the same already. Offline, the next connection does."""
        message = self.messages.status(self._status, utc_timestamp())
        said = {name: value for name, value in message.payload.items() if name != "timestamp"}
        if self.online.is_set() and said != self._reported:
            self._reported = said
            self.outbox.put(partial(_same, message))

    async def _until(self, condition: Callable[[], bool], seconds: float | None) -> bool:
        """Wait for the condition, for a stop, or for so many seconds; False if only the time has passed."""
        try:
            async with asyncio.timeout(seconds):
                while not (self._stopping or condition()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


def new_id_token() -> str:
    """A card that nobody holds: 14 hex digits, as of an RFID card with seven bytes."""
    return uuid.uuid4().hex[:14].upper()


def _same(message: Message) -> Message:
    return message
