"""Claiming sessions for charge points that were let in (``session.opening``), and the records of those connected."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define
from twisted.logger import Logger

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.flood.cooldown import LogCooldown
from ocpp_gateway.flood.errors import ReconnectsLimited
from ocpp_gateway.ocppj.versions import OcppVersion
from ocpp_gateway.redis.ownership import Ownership
from ocpp_gateway.redis.ownership_results import Claim
from ocpp_gateway.redis.sessions import SessionRecord
from ocpp_gateway.routing.security import SecurityEvents
from ocpp_gateway.session.session import Session

log = Logger()


@define(eq=False)
class Claims:
    """Sessions of this node in Redis; implements the ports of ``session``."""

    ownership: Ownership
    node_id: str
    security: SecurityEvents
    cooldown: LogCooldown
    lost: Callable[[SessionRecord], None]
    """Told of a session that ended with its node, and was still to be swept up."""

    born_ms: int
    """When this node began; a session of its name from before is lost, too."""

    async def claim_session(
        self,
        caller: Caller,
        version: OcppVersion,
        connected_at_ms: int,
        *,
        connection_id: str,
        peer: str,
        security_profile: int,
        may_downgrade: bool,
    ) -> int:
        """See session.opening.SessionClaims."""
        record = SessionRecord(
            charge_point_id=caller.charge_point_id,
            ocpp_version=version.label,
            node_id=self.node_id,
            station_id=caller.station_id,
            tenant_id=caller.tenant_id,
            connected_at_ms=connected_at_ms,
            last_seen_at_ms=connected_at_ms,
            security_profile=security_profile,
            connection_id=connection_id,
            peer=peer,
        )
        try:
            claim = await self.ownership.claim(record, may_downgrade=may_downgrade, address=peer)
        except ReconnectsLimited as limited:
            if limited.contended:
                self._contended(caller, peer)
            raise
        previous = claim.previous
        if previous is not None:
            is_past = previous.node_id == self.node_id and previous.connected_at_ms < self.born_ms
            if is_past or not claim.previous_alive:
                self.lost(previous)
            else:
                self._taken_over(caller, peer, claim, previous)
        return claim.epoch

    def opened_later(self, charge_point_id: str, epoch: int) -> None:
        """See session.registry.ClaimedSessions."""
        self.ownership.opened_later(charge_point_id, epoch)

    def release_later(self, charge_point_id: str, epoch: int) -> None:
        """See session.opening.SessionClaims."""
        self.ownership.release_later(charge_point_id, epoch)

    def records(self, sessions: Iterator[Session]) -> Iterator[SessionRecord]:
        """The records of ``sessions``, each made when it is asked for."""
        for session in sessions:
            caller, who = session.station.caller, session.identity
            yield SessionRecord(
                charge_point_id=caller.charge_point_id,
                ocpp_version=session.version.label,
                node_id=self.node_id,
                station_id=caller.station_id,
                tenant_id=caller.tenant_id,
                connected_at_ms=who.connected_at_ms,
                last_seen_at_ms=int(session.last_seen * 1000),
                security_profile=who.security_profile,
                epoch=who.epoch,
                connection_id=who.connection_id,
                peer=who.peer,
                calls=session.calls,
                bytes_in=session.bytes_in,
                bytes_out=session.bytes_out,
            )

    def _contended(self, caller: Caller, peer: str) -> None:
        """Two charge points, it seems, have one identity, and throw each other out."""
        suppressed = self.cooldown.should_log(caller.charge_point_id, "session_contended")
        if suppressed is None:
            return
        log.warn(
            "{charge_point_id} comes again and again while it is connected: two with one identity?",
            event="session.contended",
            charge_point_id=caller.charge_point_id,
            peer=peer,
            suppressed=suppressed,
        )
        self.security.publish(
            "SessionContended",
            {"peer": peer, "suppressed": suppressed},
            charge_point_id=caller.charge_point_id,
            station_id=caller.station_id,
            tenant_id=caller.tenant_id,
        )

    def _taken_over(self, caller: Caller, peer: str, claim: Claim, previous: SessionRecord) -> None:
        """Mostly a charge point that came back before its old connection was missed; or somebody with its secret."""
        log.info(
            "{charge_point_id} was connected to {previous_node_id} until now",
            event="session.taken_over",
            charge_point_id=caller.charge_point_id,
            previous_node_id=previous.node_id,
            peer=peer,
            epoch=claim.epoch,
        )
        self.security.publish(
            "SessionTakenOver",
            {
                "peer": peer,
                "epoch": claim.epoch,
                "previousNodeId": previous.node_id,
                "previousConnectedAt": previous.connected_at,
                "previousLastSeenAt": previous.last_seen_at,
            },
            charge_point_id=caller.charge_point_id,
            station_id=caller.station_id,
            tenant_id=caller.tenant_id,
        )
