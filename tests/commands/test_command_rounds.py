"""However often a commandId is requested: one end for each record, which may be that it is a duplicate."""

from __future__ import annotations

from collections import Counter

import command_rounds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", command_rounds.SCHEDULES)
def test_every_record_has_one_end(name: str, seed: int) -> None:
    command_rounds.run(name, seed)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(command_rounds.SCHEDULES)), seed=st.integers(0, 2**32), events=st.integers(5, 150))
def test_in_any_other_life_it_has_too(name: str, seed: int, events: int) -> None:
    command_rounds.run(name, seed, events)


def test_the_schedules_are_worth_something() -> None:
    told: Counter[str] = Counter()
    for name in command_rounds.SCHEDULES:
        seen = {"duplicate": 0, "retried": 0, "retried with success": 0}
        for seed in range(20):
            world = command_rounds.run(name, seed)
            told.update(event_id for event_id, event in world.topic.records if event["eventType"] == "CommandDuplicate")
            for command_id in world.requested:
                ends = [event_type for _, event_type, _ in world.ends(command_id)]
                rounds = [event_type for event_type in ends if event_type != "CommandDuplicate"]
                seen["duplicate"] += len(ends) > len(rounds)
                seen["retried"] += len(rounds) > 1
                seen["retried with success"] += len(rounds) > 1 and rounds[-1] == "CommandAccepted"
        assert all(seen.values()), (name, seen)
    assert any(times > 1 for times in told.values()), "no duplicate was delivered again"
