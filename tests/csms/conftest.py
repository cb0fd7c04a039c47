from __future__ import annotations

import pytest
from csms.csms_world import World
from twisted.logger import LogEvent

from ocpp_gateway.csms import asking, replies
from ocpp_gateway.ocppj.schemas import Schemas
from ocpp_gateway.routing import uplink, writability


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    return Schemas.load()


@pytest.fixture
def world(schemas: Schemas) -> World:
    return World(schemas)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    """What is logged, kept here: for tests in which that is part of it."""
    seen: list[LogEvent] = []
    for module in (asking, replies, uplink, writability):
        monkeypatch.setattr(module.log, "observer", seen.append)
    return seen
