"""Identity records that are wrong in some way: one log line for each charge point once in a while."""

from __future__ import annotations

from attrs import frozen
from twisted.logger import Logger

from ocpp_gateway.flood.cooldown import LogCooldown

log = Logger()


@frozen
class RecordLog:
    """Tells whoever provisions charge points; a record is read at every attempt and every change."""

    cooldown: LogCooldown

    def warn(self, charge_point_id: str, problem: str) -> None:
        """Log ``problem``, words of ours, unless there was a line about this charge point's record just now."""
        if self.cooldown.should_log(charge_point_id, "identity_record") is not None:
            log.warn(
                "The identity record of {charge_point_id} needs mending: {problem}",
                event="identity.invalid",
                charge_point_id=charge_point_id,
                problem=problem,
            )
