"""Which connection has a charge point: the newest authenticated one, in the whole cluster.

::

    claim ──> epoch n ──> connected, refreshed now and then ──> release of epoch n
      └── the record before it is handed back, and its node told over the channel node-bus:{nodeId}

The epoch fences: a release names the epoch it means and does nothing to a newer session. A record counts while its
node's lease lives (``nodes``), so that the sessions of a dead node are free at once. The counter
``session-epochs:{id}`` outlives the record by 30 days; together with the record's own epoch it never runs backwards,
unless Redis loses its data.

A claim with a lower security profile than the charge point was last connected with is refused (``profiles``), and so is
one that comes too soon after many others: two charge points with one identity would throw each other out without end.

``node-sessions:{nodeId}`` is the set of the charge points that a node has, for whoever cleans up behind a dead one. A
release that Redis misses is owed (``owed``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.flood.addresses import limit_key
from ocpp_gateway.flood.errors import ReconnectsLimited
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.redis.flooding import KNOWN_PAIR_SECONDS, gcra_arguments, known_pair_key, reconnects_key
from ocpp_gateway.redis.identities import profile_key
from ocpp_gateway.redis.nodes import KNOWN_NODES, lease_key
from ocpp_gateway.redis.owed import Owed, OwedReleases
from ocpp_gateway.redis.ownership_results import Claim, Release, Superseded
from ocpp_gateway.redis.profiles import SessionProfiles
from ocpp_gateway.redis.scripts import Script
from ocpp_gateway.redis.sessions import (
    EPOCH_SECONDS,
    SessionRecord,
    epoch_key,
    node_sessions_key,
    node_taken_key,
    record_key,
)
from ocpp_gateway.redis.shield import shielded

if TYPE_CHECKING:
    from ocpp_gateway.redis.client import RedisClient

_BATCH = 100

_Result = TypeVar("_Result")


@define(eq=False, kw_only=True)
class Ownership:
    """The session records of this node.

    ``session_ttl``: seconds a record outlives its last refresh; refresh at least three times in it. ``max_owed``
    releases are remembered; of more, the oldest are left to expire. ``reconnects``: how often a charge point may claim
    a session, in the whole cluster; None: at any rate. ``orphaned`` is called when a release took the record away from
    an older session that lives on: the next refresh writes it again, and should come soon. ``restored`` is told which
    records a refresh has written that Redis did not have, or may not have had: nobody found these charge points.
    """

    client: RedisClient
    node_id: str
    session_ttl: int
    max_owed: int = 100_000
    reconnects: Rate | None = None
    orphaned: Callable[[], None] = lambda: None
    restored: Callable[[Sequence[SessionRecord]], None] = lambda records: None
    _held: dict[str, tuple[int, ...]] = field(factory=dict, init=False)
    _owed: OwedReleases = field(init=False)
    _running: set[Deferred[Any]] = field(factory=set, init=False)
    _claiming: Counter[str] = field(factory=Counter, init=False)
    """How many claims of a charge point are on their way."""

    _claimed_meanwhile: set[str] = field(factory=set, init=False)
    """Charge points with a claim on its way at some moment since the refresh in flight was sent."""

    _unsure: set[str] = field(factory=set, init=False)
    """Charge points whose records a refresh without an answer may have restored, until a round has ended well."""

    _in_flight: frozenset[tuple[str, int]] = field(default=frozenset(), init=False)
    _landing: list[Deferred[None]] = field(factory=list, init=False)
    _profiles: SessionProfiles = field(init=False)
    _places: tuple[str, ...] = field(init=False)
    _other_places: tuple[str, ...] = field(init=False)
    _claim_script: Script = field(factory=lambda: Script.load("claim_session"), init=False)
    _release_script: Script = field(factory=lambda: Script.load("release_session"), init=False)
    _refresh_script: Script = field(factory=lambda: Script.load("refresh_sessions"), init=False)

    def __attrs_post_init__(self) -> None:
        self._profiles = SessionProfiles(client=self.client, node_id=self.node_id)
        self._owed = OwedReleases(self._made_up_for, self.max_owed)
        # What the script of a claim completes to names of keys, for nodes that it finds.
        self._places = tuple(self.client.key(of("")) for of in (lease_key, node_channel, node_sessions_key))
        self._other_places = (self.client.key(node_taken_key("")), self.client.key(KNOWN_NODES))

    @property
    def owed(self) -> int:
        """How many releases are still to be made up for."""
        return len(self._owed)

    async def claim(self, record: SessionRecord, *, may_downgrade: bool = False, address: str | None = None) -> Claim:
        """Make ``record``, which has no epoch yet, the session of its charge point. Raises StoreUnavailable.

        Raises AuthenticationFailed ``profile_downgrade``, with nothing changed, if the last session that was open had
        a higher security profile, unless this one ``may_downgrade``. Raises ReconnectsLimited, with nothing changed, if
        the charge point claims more often than ``reconnects``. ``address`` is remembered as one of the charge point's.

        Cancelled or failed, it leaves nothing behind for long: a claim that was carried out is given back.
        """
        return await shielded(Deferred.fromCoroutine(self._claim(record, may_downgrade, address)), self._give_back)

    def opened_later(self, charge_point_id: str, epoch: int) -> None:
        """The session that was claimed is open: its security profile counts from now on. Never fails (``finish``)."""
        if self._profiles.is_new(charge_point_id, epoch):
            self._run(self._profiles.opened(charge_point_id, epoch))

    async def release(self, charge_point_id: str, epoch: int) -> Release:
        """Give back the session of ``epoch``, if it is still there. Never raises."""
        held = tuple(other for other in self._held.pop(charge_point_id, ()) if other != epoch)
        if held:
            self._held[charge_point_id] = held
        profile = self._profiles.ended(charge_point_id, epoch)
        if (charge_point_id, epoch) in self._in_flight:
            # A refresh on its way could write the record again after the deletion, over another connection.
            landed: Deferred[None] = Deferred()
            self._landing.append(landed)
            await landed
        release = Owed(charge_point_id, epoch, security_profile=profile)
        result = await self._release(release)
        if result is Release.OWED:
            self._owed.add(release)
        return result

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        """``release`` for who cannot wait: returns at once (see ``finish``)."""
        self._run(self.release(charge_point_id, epoch))

    async def finish(self) -> None:
        """Wait for all that was to come later, then settle: before the end. Raises StoreUnavailable."""
        await shielded(DeferredList(tuple(self._running)))
        await self.settle()

    async def refresh(self, sessions: Iterable[SessionRecord]) -> list[Superseded]:
        """Write ``sessions`` again, with their lastSeenAt and a new lifetime; those that others have taken over.

        ``sessions`` is read in batches, with pauses in between; sessions that were released meanwhile are left out.
        Owed releases come first and last. Not to be called again before it has ended. Raises StoreUnavailable.
        """
        await self.settle()
        superseded: list[Superseded] = []
        remaining = iter(sessions)
        while batch := tuple(islice(remaining, _BATCH)):
            held = [record for record in batch if record.epoch == self._newest(record.charge_point_id)]
            if held:
                superseded += await self._refresh(held)
        self._unsure.clear()
        await self.settle()
        return superseded

    async def settle(self) -> None:
        """Try the owed releases again. Raises StoreUnavailable as soon as some fail again."""
        await self._owed.settle()

    async def current(self, charge_point_id: str) -> SessionRecord | None:
        """Who has this charge point now: None too if the node of the record is dead. Raises StoreUnavailable."""
        raw = await self.client.get(record_key(charge_point_id))
        record = None if raw is None else SessionRecord.parse(raw)
        if record is None or await self.client.get(lease_key(record.node_id)) is None:
            return None
        return record

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        running = Deferred.fromCoroutine(work)
        if not running.called:
            self._running.add(running)
            running.addCallback(lambda _: self._running.discard(running))

    async def _claim(self, record: SessionRecord, may_downgrade: bool, address: str | None) -> Claim:
        charge_point_id = record.charge_point_id
        self._claiming[charge_point_id] += 1
        if self._in_flight:
            self._claimed_meanwhile.add(charge_point_id)
        try:
            return await self._ask_for(record, may_downgrade, address)
        finally:
            self._claiming[charge_point_id] -= 1
            if not self._claiming[charge_point_id]:
                del self._claiming[charge_point_id]

    async def _ask_for(self, record: SessionRecord, may_downgrade: bool, address: str | None) -> Claim:
        charge_point_id = record.charge_point_id
        keys = [*_keys(charge_point_id), node_sessions_key(self.node_id), reconnects_key(charge_point_id)]
        if address is not None:
            keys.append(known_pair_key(limit_key(address), charge_point_id))
        try:
            claimed = await self.client.run(
                self._claim_script,
                keys,
                [
                    record.encode(),
                    self.session_ttl,
                    EPOCH_SECONDS,
                    *self._places,
                    self.node_id,
                    charge_point_id,
                    orjson.dumps(charge_point_id),
                    orjson.dumps(self.node_id),
                    self._newest(charge_point_id),
                    record.security_profile,
                    int(may_downgrade),
                    *gcra_arguments(self.reconnects),
                    KNOWN_PAIR_SECONDS,
                    *self._other_places,
                ],
            )
        except StoreUnavailable:
            self._owed.add(Owed(charge_point_id, 0, record.connected_at_ms))
            raise
        if claimed is None:
            raise AuthenticationFailed("profile_downgrade")
        if not claimed[0]:
            _, wait, alive = claimed
            raise ReconnectsLimited(int(wait) / 1000, bool(alive))
        epoch_text, raw, alive, kept = claimed
        ours = record.of_epoch(int(epoch_text))
        self._held[charge_point_id] = (*self._held.get(charge_point_id, ()), ours.epoch)
        self._profiles.claimed(ours, kept)
        return Claim(ours, None if raw is None else SessionRecord.parse(raw), bool(alive))

    def _newest(self, charge_point_id: str) -> int:
        # Of all that are held: two claims may come back in another order than Redis saw them, and the newer one may
        # be given back while the older session lives.
        return max(self._held.get(charge_point_id, (0,)))

    def _give_back(self, result: Claim | Failure) -> None:
        if isinstance(result, Claim):
            self.release_later(result.record.charge_point_id, result.epoch)

    async def _release(self, release: Owed) -> Release:
        charge_point_id = release.charge_point_id
        try:
            deleted = await self.client.run(
                self._release_script,
                [*_keys(charge_point_id), node_sessions_key(self.node_id), node_taken_key(self.node_id)],
                [
                    self.node_id,
                    release.epoch or "",
                    release.connected_at_ms,
                    EPOCH_SECONDS,
                    release.security_profile,
                    charge_point_id,
                ],
            )
        except StoreUnavailable:
            return Release.OWED
        if not deleted:
            return Release.NOT_OURS
        if charge_point_id in self._held:
            self.orphaned()
        return Release.DELETED

    def _landed(self, result: _Result) -> _Result:
        self._in_flight = frozenset()
        waiting, self._landing = self._landing, []
        for landed in waiting:
            landed.callback(None)
        return result

    async def _made_up_for(self, release: Owed) -> bool:
        return await self._release(release) is not Release.OWED

    async def _refresh(self, records: Sequence[SessionRecord]) -> list[Superseded]:
        keys: list[str] = []
        arguments: list[bytes | str | int] = [self.session_ttl, EPOCH_SECONDS, self.node_id]
        for record in records:
            profile, charge_point_id = record.security_profile, record.charge_point_id
            keys += _keys(charge_point_id)
            arguments += (record.encode(), record.epoch, record.connected_at_ms, profile, charge_point_id)
        keys += [node_sessions_key(self.node_id), node_taken_key(self.node_id)]
        self._in_flight = frozenset((record.charge_point_id, record.epoch) for record in records)
        self._claimed_meanwhile = set(self._claiming)
        flight = Deferred.fromCoroutine(self.client.run(self._refresh_script, keys, arguments))
        try:
            answer: tuple[list[Any], list[int]] = await shielded(flight.addBoth(self._landed))
        except StoreUnavailable:
            self._unsure.update(record.charge_point_id for record in records)
            raise
        found, were_missing = answer
        for record in records:
            self._profiles.refreshed(record)
        places = [records[place - 1] for place in found[::2]]
        superseded = [
            Superseded(record.charge_point_id, record.epoch, SessionRecord.parse(raw))
            for record, raw in zip(places, found[1::2], strict=True)
        ]
        missing = {records[place - 1].charge_point_id for place in were_missing} | self._unsure
        missing -= {lost.charge_point_id for lost in superseded}
        if missing and (restored := [record for record in records if record.charge_point_id in missing]):
            self.restored(restored)
        return [lost for lost in superseded if not self._is_claimed_here(lost)]

    def _is_claimed_here(self, lost: Superseded) -> bool:
        """By a newcomer to this node: it replaces the session once it is let in; if it leaves before, that lives on."""
        by = lost.by
        return by is not None and by.node_id == self.node_id and lost.charge_point_id in self._claimed_meanwhile


def node_channel(node_id: str) -> str:
    """The pub/sub channel on which a node is told that a session of its was taken over."""
    return f"node-bus:{node_id}"


def _keys(charge_point_id: str) -> list[str]:
    # As the scripts have them: record, epoch counter, security profile.
    return [record_key(charge_point_id), epoch_key(charge_point_id), profile_key(charge_point_id)]
