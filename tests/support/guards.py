"""A guard that lets everybody in, for tests of what is behind it."""

from __future__ import annotations

from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.flood.guard import GuardLimits

NO_GUARD_LIMITS = GuardLimits(
    connections=0,
    connections_per_address=0,
    opening_per_address=0,
    connects_per_address=Rate.off(),
    connects_per_charge_point=Rate.off(),
    handshakes=Rate.off(),
    checking=1000,
)
