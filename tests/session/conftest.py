"""What the tests of the sessions share."""

from __future__ import annotations

import pytest
from twisted.logger import LogEvent

from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.session import record_log, revoking, watch


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return Schemas.load()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    """What is logged about sessions that are revoked, and about records that need mending."""
    seen: list[LogEvent] = []
    for module in (record_log, revoking, watch):
        monkeypatch.setattr(module.log, "observer", seen.append)
    return seen
