"""Whatever dies when, and in whatever order things come: one final event per command, and no CALL twice."""

from __future__ import annotations

import command_world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("seed", range(60))
def test_any_life_of_a_cluster_ends_well(seed: int) -> None:
    command_world.run(seed)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), events=st.integers(5, 120))
def test_any_other_does_too(seed: int, events: int) -> None:
    command_world.run(seed, events)


@pytest.mark.parametrize("seed", range(25))
def test_each_charge_point_gets_its_commands_in_order(seed: int) -> None:
    world = command_world.run_in_order(seed)
    for point in world.points.values():
        asked_for = [wanted.command_id for wanted in world.commands if wanted.charge_point_id == point.name]
        assert point.received == asked_for
    assert len(world.topic.types()) == 2 * len(world.commands)


def test_the_lives_are_worth_something() -> None:
    seen = {"CommandAccepted": 0, "CommandRejected": 0, "CommandTimeout": 0, "CommandFailed": 0, "CommandQueued": 0}
    reasons: set[str] = set()
    for seed in range(20):
        for _, event in command_world.run(seed).topic.records:
            seen[event["eventType"]] = seen.get(event["eventType"], 0) + 1
            reasons.add(event["payload"].get("reason", ""))
    assert all(seen.values()), seen
    assert {"node_lost", "connection_lost", "charge_point_offline", "command_expired"} <= reasons
