"""What a limit says to who has reached it."""

from __future__ import annotations

from ocpp_gateway.errors import GatewayError


class ReconnectsLimited(GatewayError):
    """A charge point was let in too often: it may come again in ``wait_seconds``.

    ``contended``: the session that it has is alive, so there are two of it, perhaps.
    """

    reason = "reconnect_limited"

    def __init__(self, wait_seconds: float, contended: bool) -> None:
        super().__init__(f"{self.reason}: {wait_seconds:.1f} s to wait")
        self.wait_seconds = wait_seconds
        self.contended = contended
