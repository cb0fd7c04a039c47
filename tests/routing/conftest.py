"""What the tests of the routing share."""

from __future__ import annotations

import pytest
from twisted.logger import LogEvent

from ocpp_gateway.routing import holds, presence, uplink, writability


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    """What the routing logs, kept here: for tests in which it logs errors, as it should."""
    seen: list[LogEvent] = []
    for module in (holds, presence, uplink, writability):
        monkeypatch.setattr(module.log, "observer", seen.append)
    return seen
