"""The life of a simulated charge point: connect, boot, say what there is to say, come back when that is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial

from attrs import define, evolve, field, frozen

from ocpp_gateway.simulator.answers import Answers
from ocpp_gateway.simulator.connection import Answer, Connection, Target
from ocpp_gateway.simulator.connector import Connector
from ocpp_gateway.simulator.errors import (
    CallRefused,
    CallTimedOut,
    ConnectionLost,
    Refused,
    Unreachable,
)
from ocpp_gateway.simulator.frames import Call, Payload
from ocpp_gateway.simulator.messages import BootReason, Message, Messages, StopReason, messages_of
from ocpp_gateway.simulator.outbox import Outbox
from ocpp_gateway.simulator.plan import Backoff, Plan, Settings
from ocpp_gateway.simulator.tally import Tally

_BOOT_AGAIN_SECONDS = 10.0
"""Between two BootNotifications when the CSMS left it to us (1.6 edition 2 section 4.2: interval 0)."""


@frozen
class Trouble:
    """Something the person at the terminal should know. ``advice`` says what to do."""

    cp_id: str
    text: str
    advice: str = ""


@define(eq=False, kw_only=True)
class ChargePoint:
    """One charge point. ``run`` ends when its plan is done, after ``stop``, or when the gateway refuses it for good."""

    target: Target
    plan: Plan
    tally: Tally
    chance: random.Random
    on_trouble: Callable[[Trouble], None]
    _messages: Messages = field(init=False)
    _settings: Settings = field(init=False)
    _answers: Answers = field(init=False)
    _connector: Connector = field(init=False)
    _backoff: Backoff = field(init=False)
    _outbox: Outbox = field(factory=Outbox, init=False)
    _accepted: asyncio.Event = field(factory=asyncio.Event, init=False)
    _online: asyncio.Event = field(factory=asyncio.Event, init=False)
    _stopped: asyncio.Event = field(factory=asyncio.Event, init=False)
    _resetting: asyncio.Event = field(factory=asyncio.Event, init=False)
    _was_connected: bool = field(default=False, init=False)
    _reset_is_due: bool = field(default=False, init=False)
    """As soon as no car is connected."""

    _boot_reason: BootReason = field(default=BootReason.POWER_UP, init=False)

    def __attrs_post_init__(self) -> None:
        version = self.target.version
        self._messages = messages_of(version)
        self._settings = Settings(version, meter_interval=self.plan.meter_interval)
        self._backoff = Backoff(self.chance)
        self._connector = Connector(
            plan=self.plan,
            settings=self._settings,
            messages=self._messages,
            outbox=self._outbox,
            tally=self.tally,
            chance=self.chance,
            accepted=self._accepted,
            online=self._online,
            on_idle=self._idle,
        )
        self._answers = Answers(version, self)

    async def run(self) -> None:
        """Live. Raises Refused when the gateway will not have it until a person changes something."""
        serving = asyncio.create_task(self._connector.serve())
        try:
            while not self._stopped.is_set():
                wait = await self._one_connection(serving)
                if wait is None:
                    return
                await _within(self._stopped, wait)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    def stop(self) -> None:
        """End the transaction, say what is left to say, and hang up. Without a connection: at once."""
        self._stopped.set()
        self._accepted.set()  # nothing may wait for the boot any more
        self._connector.stop()

    # What the CSMS can make it do: controls.Controls.

    def reset(self, *, when_idle: bool) -> None:
        """See Controls."""
        if when_idle and not self._connector.is_idle:
            self._reset_is_due = True
            return
        self._reset_is_due = False
        self._boot_reason = BootReason.REMOTE_RESET
        self._connector.end_transaction(StopReason.RESET)
        self._accepted.clear()
        self._resetting.set()

    def trigger(self, action: str) -> None:
        """See Controls."""
        if action == "BootNotification":
            self._outbox.put(partial(self._messages.boot, self.target.serial, BootReason.TRIGGERED))
        elif action == "Heartbeat":
            self._outbox.put(self._messages.heartbeat)
        elif action == "MeterValues":
            self._connector.report_meter()
        elif action == "TransactionEvent":
            self._connector.report_transaction()
        else:
            self._connector.report_status()

    def say(self, action: str, payload: Payload) -> None:
        """See Controls."""
        self._outbox.put(partial(Message, action, payload))

    def remote_start(self, id_token: str, remote_start_id: int | None) -> None:
        """See Controls."""
        self._connector.remote_start(id_token, remote_start_id)

    def remote_stop(self) -> None:
        """See Controls."""
        self._connector.end_transaction(StopReason.REMOTE)

    def set_available(self, available: bool) -> None:
        """See Controls."""
        self._connector.set_in_service(available)

    def is_idle(self) -> bool:
        """See Controls."""
        return self._connector.is_idle

    def is_in_service(self) -> bool:
        """See Controls."""
        return self._connector.is_in_service

    def transaction_id(self) -> int | str | None:
        """See Controls."""
        transaction = self._connector.transaction
        return None if transaction is None else transaction.id

    def has_unsent(self) -> bool:
        """See Controls."""
        return len(self._outbox) > 0

    def get(self, name: str) -> str | None:
        """See Controls."""
        return self._settings.get(name)

    def names(self) -> tuple[str, ...]:
        """See Controls."""
        return self._settings.names()

    def component(self, name: str) -> str:
        """See Controls."""
        return self._settings.component(name)

    def is_read_only(self, name: str) -> bool:
        """See Controls."""
        return self._settings.is_read_only(name)

    def set(self, name: str, value: str) -> bool:
        """See Controls."""
        return self._settings.set(name, value)

    def set_password(self, secret: bytes) -> None:
        """See Controls."""
        self.target = evolve(self.target, secret=secret)

    def _idle(self) -> None:
        if self._reset_is_due:
            self.reset(when_idle=False)

    async def _one_connection(self, serving: asyncio.Task[None]) -> float | None:
        """One connection from beginning to end; how long to wait before the next, None if there shall be none."""
        try:
            connection = await Connection.open(self.target, self._answer)
        except Refused as refused:
            self.tally.refusals[str(refused.status)] += 1
            if refused.final:
                raise
            self.on_trouble(Trouble(self.target.cp_id, str(refused), refused.advice))
            return self._backoff.following(refused.retry_after)
        except Unreachable as unreachable:
            self.tally.refusals["unreachable"] += 1
            self.on_trouble(Trouble(self.target.cp_id, str(unreachable), unreachable.advice))
            return self._backoff.following()
        self.tally.connections += 1
        self.tally.reconnects += self._was_connected
        self._was_connected = True
        self.tally.online += 1
        self._online.set()
        try:
            return await self._use(connection, serving)
        finally:
            self._online.clear()
            self.tally.online -= 1

    async def _use(self, connection: Connection, serving: asyncio.Task[None]) -> float | None:
        reading = asyncio.create_task(connection.run())
        speaking = asyncio.create_task(self._speak(connection))
        leaving = asyncio.create_task(self._reason_to_leave(serving))
        tasks = (reading, speaking, leaving, asyncio.create_task(self._beat()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                return leaving.result()
            await (reading if reading.done() else speaking)  # either ends only by raising
            return None
        except (ConnectionLost, CallTimedOut) as error:
            lost = error if isinstance(error, ConnectionLost) else ConnectionLost(1006, str(error))
            self._outbox.connection_lost(lost)
            self.tally.disconnects += 1
            self.on_trouble(Trouble(self.target.cp_id, f"{self.target.cp_id}: {error}; it comes back by itself"))
            return self._backoff.following()
        finally:
            for task in tasks:
                task.cancel()
            await connection.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _reason_to_leave(self, serving: asyncio.Task[None]) -> float | None:
        """Wait until the plan is done, or a reset is due, and everything has been said."""
        resetting = asyncio.create_task(self._resetting.wait())
        try:
            await asyncio.wait((serving, resetting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            resetting.cancel()
        if serving.done():
            serving.result()
            await self._outbox.empty()
            return None
        self._resetting.clear()
        await self._outbox.empty()
        return 0.0

    async def _speak(self, connection: Connection) -> None:
        """Send what is to be sent, until the connection fails. A boot comes first, but only once (2.0.1 B01)."""
        await self._boot(connection)
        self._backoff.reset()
        self._connector.report_status()
        while True:
            entry = await self._outbox.first()
            message = entry.message()
            try:
                answer = await self._call(connection, message.action, message.payload)
            except CallRefused as refused:
                entry.attempts += 1
                if entry.durable and entry.attempts < self.plan.attempts:
                    await asyncio.sleep(self.plan.retry_interval * entry.attempts)
                    continue
                self._outbox.given_up(entry, refused)
                self.tally.lost_messages += entry.durable
                self.on_trouble(Trouble(self.target.cp_id, f"{self.target.cp_id}: {refused}"))
            else:
                self._outbox.answered(entry, answer)

    async def _boot(self, connection: Connection) -> None:
        while not self._accepted.is_set():
            message = self._messages.boot(self.target.serial, self._boot_reason)
            try:
                answer = await self._call(connection, message.action, message.payload)
            except CallRefused as refused:
                self.on_trouble(Trouble(self.target.cp_id, f"{self.target.cp_id}: {refused}"))
                answer = {}
            given = answer.get("interval")
            interval = float(given) if isinstance(given, int) and given > 0 else 0.0
            if answer.get("status") == "Accepted":
                self.tally.booted += 1
                self._settings.heartbeat_interval = interval or self._settings.heartbeat_interval
                self._accepted.set()
            else:
                await asyncio.sleep(interval or _BOOT_AGAIN_SECONDS)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_interval)
            if not self._outbox:
                self._outbox.put(self._messages.heartbeat)

    async def _call(self, connection: Connection, action: str, payload: Payload) -> Payload:
        self.tally.actions[action] += 1
        began = time.monotonic()
        try:
            answer = await connection.call(action, payload, self.plan.call_timeout)
        except CallRefused:
            self.tally.call_errors += 1
            raise
        except CallTimedOut:
            self.tally.timeouts += 1
            raise
        self.tally.took(time.monotonic() - began)
        self.tally.answered += 1
        return answer

    def _answer(self, call: Call) -> Answer:
        self.tally.commands += 1
        return self._answers.answer(call)


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
