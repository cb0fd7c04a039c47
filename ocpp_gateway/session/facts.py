"""What is fixed when a session begins: who is connected, and what it may do."""

from __future__ import annotations

from attrs import frozen

from ocpp_gateway.session.pacing import MessageLimits


@frozen(kw_only=True)
class SessionLimits:
    """Bounds of one session."""

    max_nesting: int
    max_bad_frames: int
    max_waiting_calls: int
    messages: MessageLimits
    answer_ttl: float
    """Seconds that an answer is kept for a retransmission."""

    max_waiting_commands: int = 50
    """CALLs of ours that may wait, besides the one under way."""


@frozen(kw_only=True)
class SessionIdentity:
    """Who is connected, and how."""

    charge_point_id: str
    connection_id: str
    epoch: int
    peer: str
    """The peer's address as text."""

    security_profile: int
    connected_at_ms: int
    """Wall clock, milliseconds since the epoch."""

    opened_at: float
    """Monotonic seconds."""
