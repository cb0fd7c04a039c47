"""Which settings make sense, and what they mean for an action."""

from __future__ import annotations

import pytest

from ocpp_gateway.csms.policy import CsmsPolicy, Fallback, Rule, problems


def test_without_actions_nobody_is_asked() -> None:
    assert not CsmsPolicy()
    assert not CsmsPolicy.of((), 10.0)
    assert problems(()) == []


def test_defaults() -> None:
    policy = CsmsPolicy.of(("Authorize", "StartTransaction", "BootNotification"), 10.0)
    assert policy
    assert policy.rule("Authorize") == Rule(10.0, Fallback.ERROR)
    assert policy.rule("StartTransaction") == policy.rule("BootNotification") == Rule(10.0, Fallback.GATEWAY)
    with pytest.raises(KeyError):
        policy.rule("Heartbeat")


def test_an_action_may_have_its_own() -> None:
    timeouts, fallbacks = [("AUTHORIZE", 1.5)], [("AUTHORIZE", "gateway"), ("STARTTRANSACTION", "close")]
    actions = ("Authorize", "StartTransaction")
    assert problems(actions, timeouts, fallbacks) == []
    policy = CsmsPolicy.of(actions, 10.0, timeouts, fallbacks)
    assert policy.rule("Authorize") == Rule(1.5, Fallback.GATEWAY)
    assert policy.rule("StartTransaction") == Rule(10.0, Fallback.CLOSE)


@pytest.mark.parametrize("action", ["Authorize", "TransactionEvent", "VatNumberValidation", "StartTransaction"])
def test_an_action_of_any_version_will_do(action: str) -> None:
    assert problems((action,)) == []


@pytest.mark.parametrize(
    ("actions", "timeouts", "fallbacks", "line"),
    [
        (("Reset",), (), (), "OCPP_CSMS_ACTIONS has 'Reset', which no version of OCPP lets a charge point call"),
        (("authorize",), (), (), "call: is Authorize meant?"),
        (("NotifyPeriodicEventStream",), (), (), "is never answered"),
        (
            (),
            (("AUTHORIZE", 1.0),),
            (),
            "OCPP_CSMS_TIMEOUT_AUTHORIZE has no effect: OCPP_CSMS_ACTIONS does not have Auth",
        ),
        (("Heartbeat",), (), (("AUTHORIZE", "error"),), "OCPP_CSMS_FALLBACK_AUTHORIZE has no effect"),
        (("Heartbeat",), (("HARTBEAT", 1.0),), (), "OCPP_CSMS_TIMEOUT_HARTBEAT names no action of a charge point"),
        (("Heartbeat",), (), (("RESET", "error"),), "OCPP_CSMS_FALLBACK_RESET names no action of a charge point"),
        (("Heartbeat",), (("HEARTBEAT", 1.0),) * 2, (), "OCPP_CSMS_TIMEOUT_HEARTBEAT is there twice"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    actions: tuple[str, ...], timeouts: tuple[tuple[str, float], ...], fallbacks: tuple[tuple[str, str], ...], line: str
) -> None:
    (found,) = problems(actions, timeouts, fallbacks)
    assert line in found


@pytest.mark.parametrize("action", ["StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"])
def test_billing_data_gets_no_callerror(action: str) -> None:
    (found,) = problems((action,), (), ((action.upper(), "error"),))
    assert found.startswith(f"OCPP_CSMS_FALLBACK_{action.upper()} must be gateway or close")
    assert problems((action,), (), ((action.upper(), "close"),)) == []


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(("Reset", "Reset", "Clear"), (("X", 1.0),), (("Y", "error"),))) == 4
