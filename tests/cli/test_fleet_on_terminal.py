"""What a fleet looks like on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.fleets import Troubles, counters, summary
from ocpp_gateway.simulator.charge_point import Trouble
from ocpp_gateway.simulator.tally import Tally


def test_counters_fit_a_terminal_of_80_columns() -> None:
    tally = Tally(
        online=100, charging=82, transactions=1820, finished_transactions=1738, answered=123_456, reconnects=7
    )
    tally.energy_wh = 1_234_567
    for milliseconds in range(1, 101):
        tally.took(milliseconds / 1000)
    out = io.StringIO()
    Console(file=out, width=80).print(counters(tally, 3725.0))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["62:05", "100", "82", "1738/1820", "1234.57", "123456", "51/100", "0", "7"]


def test_the_summary_tells_what_went_wrong() -> None:
    text = summary(Tally(lost_messages=2, tokens_refused=3, call_errors=4, timeouts=5, disconnects=6))
    for said in (
        "2 transaction messages given up",
        "3 id tokens refused",
        "4 CALLERRORs",
        "5 without",
        "6 connections",
    ):
        assert said in text
    assert "given up" not in summary(Tally())


def test_a_trouble_of_many_is_told_once() -> None:
    told: list[tuple[str, str]] = []
    troubles = Troubles(lambda text, advice: told.append((text, advice)))
    for number in range(100):
        troubles(Trouble(f"CP-{number}", f"CP-{number} cannot reach it", "look there"))
    troubles(Trouble("CP-1", "CP-1 lost \x1b[2J"))
    assert told == [
        ("CP-0 cannot reach it", "look there"),
        ("CP-1 lost \N{REPLACEMENT CHARACTER}[2J (99 more like those before)", ""),
    ]


def test_advice_names_the_command_as_it_has_to_be_typed() -> None:
    assert Places(dev=True).advice("Add it: ocpp-gateway charger add X") == "Add it: ocpp-gateway --dev charger add X"
    assert Places(dev=False).advice("ocpp-gateway charger add X") == "ocpp-gateway charger add X"
