from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.manual_clock import ManualClock

from ocpp_gateway.flood.cooldown import LogCooldown


def cooldown(clock: ManualClock, seconds: float = 300, max_entries: int = 100) -> LogCooldown:
    return LogCooldown(clock, seconds=seconds, max_entries=max_entries)


def test_one_line_per_address_and_cooldown_with_the_count_of_the_others() -> None:
    clock = ManualClock()
    log = cooldown(clock)
    assert log.should_log("10.0.0.1", "suspicious") == 0
    assert [log.should_log("10.0.0.1", "suspicious") for _ in range(3)] == [None] * 3
    clock.advance(299)
    assert log.should_log("10.0.0.1", "suspicious") is None
    clock.advance(1)
    assert log.should_log("10.0.0.1", "suspicious") == 4
    assert log.should_log("10.0.0.1", "suspicious") is None
    clock.advance(300)
    assert log.should_log("10.0.0.1", "suspicious") == 1


def test_addresses_and_kinds_do_not_silence_each_other() -> None:
    log = cooldown(ManualClock())
    assert log.should_log("10.0.0.1", "suspicious") == 0
    assert log.should_log("10.0.0.2", "suspicious") == 0
    assert log.should_log("10.0.0.1", "unauthorized") == 0


def test_an_ipv6_host_is_its_network() -> None:
    log = cooldown(ManualClock())
    assert log.should_log("2001:db8:0:1::1", "suspicious") == 0
    assert log.should_log("2001:db8:0:1:ffff::2", "suspicious") is None
    assert log.should_log("2001:db8:0:2::1", "suspicious") == 0
    assert log.should_log("fe80::1%eth0", "suspicious") == 0


def test_an_ipv4_address_is_the_same_in_its_mapped_form() -> None:
    log = cooldown(ManualClock())
    assert log.should_log("::ffff:10.0.0.1", "suspicious") == 0
    assert log.should_log("10.0.0.1", "suspicious") is None
    assert log.should_log("::ffff:10.0.0.2", "suspicious") == 0


def test_a_flood_of_addresses_fills_neither_memory_nor_log() -> None:
    clock = ManualClock()
    log = cooldown(clock, max_entries=10)
    lines = [log.should_log(f"10.0.{number // 256}.{number % 256}", "suspicious") for number in range(1000)]
    assert lines == [0] * 10 + [None] * 990
    assert len(log) == 10
    assert log.overflowed == 990
    clock.advance(300)
    assert log.should_log("10.9.9.9", "suspicious") == 0
    assert len(log) == 10


def test_no_cooldown_logs_everything() -> None:
    log = cooldown(ManualClock(), seconds=0)
    assert [log.should_log("10.0.0.1", "suspicious") for _ in range(3)] == [0, 0, 0]
    assert len(log) == 0


def test_no_room_logs_nothing() -> None:
    log = cooldown(ManualClock(), max_entries=0)
    assert log.should_log("10.0.0.1", "suspicious") is None


def test_a_line_that_could_not_tell_of_those_before_it_is_accounted_for() -> None:
    clock = ManualClock()
    log = cooldown(clock, max_entries=1)
    assert log.should_log("10.0.0.1", "suspicious") == 0
    assert [log.should_log("10.0.0.1", "suspicious") for _ in range(3)] == [None] * 3
    clock.advance(300)
    assert log.should_log("10.0.0.2", "suspicious") == 0
    assert log.overflowed == 3


@given(
    st.lists(st.tuples(st.text(max_size=3) | st.ip_addresses().map(str), st.floats(0, 400))),
    st.sampled_from([0, 1, 3, 1000]),
)
def test_every_event_is_either_logged_or_counted(events: list[tuple[str, float]], max_entries: int) -> None:
    clock = ManualClock()
    log = cooldown(clock, max_entries=max_entries)
    logged = counted = 0
    for address, pause in events:
        suppressed = log.should_log(address, "suspicious")
        if suppressed is not None:
            logged += 1
            counted += suppressed
        clock.advance(pause)
    still_held = sum(cooling.suppressed for cooling in log._cooling.values())
    assert logged + counted + still_held + log.overflowed == len(events)
