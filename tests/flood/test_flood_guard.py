from __future__ import annotations

from collections import Counter

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.guards import NO_GUARD_LIMITS
from support.manual_clock import ManualClock

from ocpp_gateway.flood.addresses import limit_key
from ocpp_gateway.flood.gcra import Rate
from ocpp_gateway.flood.guard import Guard
from ocpp_gateway.handshake.proxies import TrustedProxies
from ocpp_gateway.handshake.reasons import REFUSALS

PROXY = "192.0.2.1"


def guard(clock: ManualClock | None = None, **limits: int | Rate) -> Guard:
    proxies = TrustedProxies.parse([PROXY, "2001:db8::1/128"])
    return Guard(
        limits=attrs.evolve(NO_GUARD_LIMITS, **limits),
        is_proxy=proxies.trusts,
        clock=clock or ManualClock(),
    )


def sizes(gate: Guard) -> tuple[int, int, int]:
    return gate.connections, gate.opening, gate.addresses


def test_without_limits_all_is_taken_and_counted() -> None:
    gate = guard()
    assert [gate.connected(f"10.0.0.{number % 10}") for number in range(1000)] == [None] * 1000
    assert sizes(gate) == (1000, 1000, 10)
    gate.opened("10.0.0.1")
    assert sizes(gate) == (1000, 999, 10)
    gate.gone("10.0.0.1", was_open=True)
    gate.gone("10.0.0.1", was_open=False)
    assert sizes(gate) == (998, 998, 10)
    assert [gate.admit("10.0.0.1", "CP-1") for _ in range(1000)] == [None] * 1000


def test_the_node_has_so_many_connections_and_no_more() -> None:
    gate = guard(connections=3)
    assert [gate.connected(f"10.0.0.{number}") for number in range(5)] == [None] * 3 + ["too_many_connections"] * 2
    assert gate.connected(PROXY) == "too_many_connections"
    assert sizes(gate) == (3, 3, 3)
    gate.opened("10.0.0.0")
    assert gate.connected("10.0.0.9") == "too_many_connections"
    gate.gone("10.0.0.0", was_open=True)
    assert gate.connected("10.0.0.9") is None


def test_an_address_has_so_many_connections_and_no_other_suffers() -> None:
    gate = guard(connections_per_address=2)
    assert [gate.connected("10.0.0.1") for _ in range(3)] == [None, None, "too_many_connections"]
    assert gate.connected("::ffff:10.0.0.1") == "too_many_connections"
    assert gate.connected("10.0.0.2") is None
    gate.opened("10.0.0.1")
    assert gate.connected("10.0.0.1") == "too_many_connections"
    gate.gone("10.0.0.1", was_open=True)
    assert gate.connected("10.0.0.1") is None


def test_an_ipv6_host_has_one_limit_for_its_network() -> None:
    gate = guard(connections_per_address=2)
    assert gate.connected("2001:db8:0:1::1") is None
    assert gate.connected("2001:db8:0:1::2") is None
    assert gate.connected("2001:db8:0:1:ffff::3") == "too_many_connections"
    assert gate.connected("2001:db8:0:2::1") is None


def test_only_unfinished_handshakes_count_as_opening() -> None:
    gate = guard(opening_per_address=2)
    for _ in range(100):
        assert gate.connected("10.0.0.1") is None
        gate.opened("10.0.0.1")
    assert [gate.connected("10.0.0.1") for _ in range(3)] == [None, None, "too_many_connections"]
    assert sizes(gate) == (102, 2, 1)
    gate.gone("10.0.0.1", was_open=True)
    assert gate.connected("10.0.0.1") == "too_many_connections"
    gate.gone("10.0.0.1", was_open=False)
    assert gate.connected("10.0.0.1") is None


def test_an_address_connects_so_often_and_no_other_suffers() -> None:
    clock = ManualClock()
    gate = guard(clock, connects_per_address=Rate(2, 5))
    results = [gate.connected("10.0.0.1") for _ in range(8)]
    assert results == [None] * 5 + ["rate_limited"] * 3
    assert gate.connected("10.0.0.2") is None
    assert sizes(gate) == (6, 6, 2)
    clock.advance(1)
    assert [gate.connected("10.0.0.1") for _ in range(3)] == [None, None, "rate_limited"]


def test_too_many_connections_do_not_count_as_attempts() -> None:
    gate = guard(connections_per_address=1, connects_per_address=Rate(1, 2))
    gate.connected("10.0.0.1")
    assert {gate.connected("10.0.0.1") for _ in range(10)} == {"too_many_connections"}
    gate.gone("10.0.0.1", was_open=False)
    assert gate.connected("10.0.0.1") is None


def test_a_proxy_has_no_limits_of_its_own_but_its_clients_have() -> None:
    gate = guard(connections_per_address=2, opening_per_address=2, connects_per_address=Rate(1, 3))
    assert [gate.connected(PROXY) for _ in range(20)] == [None] * 20
    assert sizes(gate) == (20, 20, 0)
    assert [gate.moved(PROXY, "10.0.0.1") for _ in range(3)] == [None, None, "too_many_connections"]
    assert gate.moved(PROXY, "10.0.0.2") is None
    assert sizes(gate) == (20, 20, 2)
    # What was refused counts for the client, too, until it is gone.
    for _ in range(2):
        gate.gone("10.0.0.1", was_open=False)
    assert gate.moved(PROXY, "10.0.0.1") is None
    for _ in range(2):
        gate.gone("10.0.0.1", was_open=False)
    assert gate.moved(PROXY, "10.0.0.1") == "rate_limited"


def test_what_moved_is_the_clients_to_open_and_end() -> None:
    gate = guard(connections_per_address=1)
    gate.connected(PROXY)
    gate.moved(PROXY, "10.0.0.1")
    gate.opened("10.0.0.1")
    assert gate.connected("10.0.0.1") == "too_many_connections"
    assert sizes(gate) == (1, 0, 1)
    gate.gone("10.0.0.1", was_open=True)
    assert sizes(gate) == (0, 0, 0)


def test_one_address_in_two_spellings_does_not_move() -> None:
    gate = guard(connections_per_address=1)
    gate.connected("10.0.0.1")
    assert gate.moved("10.0.0.1", "::ffff:10.0.0.1") is None
    gate.connected(PROXY)
    assert gate.moved(PROXY, "2001:db8::1") is None
    assert sizes(gate) == (2, 2, 1)


def test_a_neighbour_of_a_proxy_in_its_network_is_no_proxy() -> None:
    gate = guard(connections_per_address=1)
    assert gate.connected("2001:db8::2") is None
    assert [gate.connected("2001:db8::1") for _ in range(3)] == [None] * 3
    gate.gone("2001:db8::1", was_open=False)
    assert gate.connected("2001:db8::3") == "too_many_connections"
    assert sizes(gate) == (3, 3, 1)


def test_so_many_handshakes_are_checked_at_once() -> None:
    gate = guard(checking=2)
    assert [gate.admit("10.0.0.1", "CP-1") for _ in range(3)] == [None, None, ("overloaded", 1.0)]
    assert gate.checking == 2
    gate.checked()
    assert gate.admit("10.0.0.2", "CP-2") is None


def test_the_node_begins_so_many_handshakes_a_second() -> None:
    clock = ManualClock()
    gate = guard(clock, handshakes=Rate(4, 3))
    results = [gate.admit(f"10.0.0.{number}", "CP-1") for number in range(5)]
    assert results == [None] * 3 + [("overloaded", 1.0)] * 2
    assert gate.checking == 3
    clock.advance(0.25)
    assert gate.admit("10.0.0.9", "CP-1") is None


def test_those_who_are_sent_away_are_told_to_come_back_one_after_the_other() -> None:
    clock = ManualClock()
    gate = guard(clock, handshakes=Rate(10, 1))
    assert gate.admit("10.0.0.1", "CP-1") is None
    waits = [
        wait for number in range(400) if (refusal := gate.admit("10.0.0.2", f"CP-{number}")) and (wait := refusal[1])
    ]
    assert waits[0] == 1.0
    assert waits[49] == pytest.approx(5)
    assert waits[99] == pytest.approx(10)
    assert waits[-1] == 30.0, "some of those in front will not come"
    clock.advance(29)
    gate.admit("10.0.0.3", "CP-1")
    refused = gate.admit("10.0.0.3", "CP-2")
    assert refused == ("overloaded", pytest.approx(1.1, abs=0.11)), "the line has moved on"


def test_a_charge_point_at_an_address_tries_so_often_and_only_there() -> None:
    gate = guard(connects_per_charge_point=Rate(0.5, 2))
    results = [gate.admit("10.0.0.1", "CP-1") for _ in range(3)]
    assert results == [None, None, ("rate_limited", pytest.approx(2))]
    # Nobody can keep a charge point out from elsewhere.
    assert gate.admit("10.0.0.2", "CP-1") is None
    assert gate.admit("10.0.0.1", "CP-2") is None


def test_charge_points_behind_a_proxy_that_names_no_client_are_told_apart() -> None:
    gate = guard(connects_per_charge_point=Rate(0.5, 1))
    assert gate.admit(PROXY, "CP-1") is None
    assert gate.admit(PROXY, "CP-1") == ("rate_limited", pytest.approx(2))
    assert gate.admit(PROXY, "CP-2") is None
    assert gate.admit("2001:db8::1", "CP-1") is None


def test_one_who_is_limited_does_not_use_up_the_node() -> None:
    gate = guard(connects_per_charge_point=Rate(0.5, 2), handshakes=Rate(1, 5), checking=10)
    for _ in range(100):
        gate.admit("10.0.0.1", "CP-1")
    assert gate.checking == 2
    assert [gate.admit("10.0.0.2", f"CP-{number}") for number in range(3)] == [None] * 3


def test_one_whom_the_node_cannot_take_is_not_held_to_have_tried() -> None:
    clock = ManualClock()
    gate = guard(clock, connects_per_charge_point=Rate(0.01, 2), handshakes=Rate(1, 1))
    gate.admit("10.0.0.1", "CP-1")
    for _ in range(100):
        refusal = gate.admit("10.0.0.2", "CP-2")
        assert refusal is not None
        assert refusal[0] == "overloaded"
    clock.advance(1)
    assert gate.admit("10.0.0.2", "CP-2") is None


def test_made_up_identities_are_remembered_no_faster_than_handshakes_begin() -> None:
    clock = ManualClock()
    gate = guard(clock, connects_per_charge_point=Rate(0.5, 20), handshakes=Rate(100, 100))
    for number in range(20_000):
        if gate.admit("10.0.0.1", f"CP-{number}") is None:
            gate.checked()
        clock.advance(0.001)
    # 20 seconds: those of the last two, and what came at once at first is long paid off.
    assert len(gate._attempts) <= 2 * 100 + 5


def test_addresses_without_end_leave_nothing_behind() -> None:
    clock = ManualClock()
    gate = guard(clock, connects_per_address=Rate(50, 1000))
    for number in range(20_000):
        address = f"2001:db8:{number >> 12:x}:{number & 0xFFF:x}::1"
        assert gate.connected(address) is None
        gate.gone(address, was_open=False)
        clock.advance(0.001)
    assert sizes(gate) == (0, 0, 0)
    assert len(gate._connects) <= 25


def test_every_reason_is_in_the_table() -> None:
    assert {"too_many_connections", "rate_limited", "overloaded"} <= REFUSALS.keys()


class Traffic(RuleBasedStateMachine):
    """Connections come, are moved, opened and go at random: nothing is ever counted wrongly."""

    places = st.sampled_from(
        [PROXY, "10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "2001:db8::3", "nowhere"]
    )
    proxies = (PROXY, "2001:db8::1")

    def __init__(self) -> None:
        super().__init__()
        self.gate = guard(connections=12, connections_per_address=4, opening_per_address=3)
        self.alive: list[tuple[str, bool]] = []

    def held(self, address: str, *, opening: bool = False) -> int:
        return sum(
            limit_key(other) == limit_key(address) and other not in self.proxies and not (opening and is_open)
            for other, is_open in self.alive
        )

    def is_full(self, address: str) -> bool:
        return address not in self.proxies and (self.held(address) >= 4 or self.held(address, opening=True) >= 3)

    @rule(address=places)
    def connect(self, address: str) -> None:
        is_refused = len(self.alive) >= 12 or self.is_full(address)
        assert (self.gate.connected(address) is not None) == is_refused
        if not is_refused:
            self.alive.append((address, False))

    @rule(client=places, which=st.integers(0, 11))
    def move(self, client: str, which: int) -> None:
        if which >= len(self.alive) or self.alive[which][1] or self.alive[which][0] not in self.proxies:
            return
        address, _ = self.alive[which]
        assert (self.gate.moved(address, client) is not None) == self.is_full(client)
        self.alive[which] = client, False

    @rule(which=st.integers(0, 11))
    def open(self, which: int) -> None:
        if which < len(self.alive) and not self.alive[which][1]:
            self.gate.opened(self.alive[which][0])
            self.alive[which] = self.alive[which][0], True

    @rule(which=st.integers(0, 11))
    def end(self, which: int) -> None:
        if which < len(self.alive):
            address, is_open = self.alive.pop(which)
            self.gate.gone(address, was_open=is_open)

    @invariant()
    def the_sizes_are_right(self) -> None:
        keys = Counter(limit_key(address) for address, _ in self.alive if address not in self.proxies)
        opening = sum(not is_open for _, is_open in self.alive)
        assert sizes(self.gate) == (len(self.alive), opening, len(keys))


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_long_storm_is_not_held_against_those_who_come_after_it() -> None:
    clock = ManualClock()
    gate = guard(clock, handshakes=Rate(10, 1))
    for number in range(5_000):  # as many as eight minutes would not do
        gate.admit("10.0.0.2", f"CP-{number}")
    assert gate.admit("10.0.0.2", "CP-1") == ("overloaded", pytest.approx(30.0))
    for waited in (10, 20):
        clock.advance(10)
        gate.admit("10.0.0.3", f"CP-{waited}")
        assert gate.admit("10.0.0.3", "CP-2") == ("overloaded", pytest.approx(30 - waited, abs=0.5))
