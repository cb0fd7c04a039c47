"""What becomes of a claim, of a refresh and of a release (``ownership``)."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from ocpp_gateway.redis.sessions import SessionRecord


@frozen
class Claim:
    """A session that is ours now. ``record`` has the epoch."""

    record: SessionRecord
    previous: SessionRecord | None
    """The session that this one replaced, if its record could be read."""

    previous_alive: bool
    """Whether the node of ``previous`` is alive: then this may be a take-over from a live connection."""

    @property
    def epoch(self) -> int:
        """The new session's epoch."""
        return self.record.epoch


@frozen
class Superseded:
    """A session of ours that another connection has taken over."""

    charge_point_id: str
    epoch: int
    by: SessionRecord | None


class Release(StrEnum):
    """What became of a release."""

    DELETED = "deleted"
    NOT_OURS = "not_ours"  # nothing there, or a newer session
    OWED = "owed"  # Redis did not answer; settle() will try again
