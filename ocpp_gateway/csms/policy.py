"""Which CALLs the CSMS is asked about, how long it has, and what happens without its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from attrs import field, frozen

from ocpp_gateway.ocppj.actions import send_actions, station_actions, transaction_related
from ocpp_gateway.ocppj.versions import OcppVersion


class Fallback(StrEnum):
    """OCPP_CSMS_FALLBACK_<ACTION>: what counts where the CSMS gives no usable answer in time."""

    GATEWAY = "gateway"  # what the gateway would have said without a CSMS; where it has no answer, that CALLERROR
    ERROR = "error"  # CALLERROR InternalError
    CLOSE = "close"  # the connection is closed with 1013


@frozen
class Rule:
    """What holds for one action. ``timeout``: seconds from the event's hand-over to Kafka."""

    timeout: float
    fallback: Fallback


@frozen
class CsmsPolicy:
    """The rules by action; an action without one is answered by the gateway."""

    rules: Mapping[str, Rule] = field(factory=dict)

    @classmethod
    def of(
        cls,
        actions: Iterable[str],
        timeout: float,
        timeouts: Iterable[tuple[str, float]] = (),
        fallbacks: Iterable[tuple[str, str]] = (),
    ) -> CsmsPolicy:
        """From the settings OCPP_CSMS_..., in which ``problems`` finds nothing.

        ``timeouts`` and ``fallbacks`` name actions in capitals, as environment variables do.
        """
        seconds, instead = dict(timeouts), dict(fallbacks)
        return cls(
            {
                action: Rule(
                    seconds.get(action.upper(), timeout),
                    Fallback(instead.get(action.upper(), _default_fallback(action))),
                )
                for action in actions
            }
        )

    def __bool__(self) -> bool:
        return bool(self.rules)

    def rule(self, action: str) -> Rule:
        """What holds for ``action``. Raises KeyError if the CSMS is not asked about it."""
        return self.rules[action]


def _default_fallback(action: str) -> Fallback:
    # Nobody but the CSMS knows the token, and a charge point has rules of its own for one that cannot be checked.
    return Fallback.ERROR if action == "Authorize" else Fallback.GATEWAY


def problems(
    actions: Sequence[str],
    timeouts: Sequence[tuple[str, float]] = (),
    fallbacks: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """What is wrong with the settings OCPP_CSMS_..., a line for each, beginning with the variable's name."""
    found = [line for action in dict.fromkeys(actions) if (line := _problem_with_action(action)) is not None]
    asked = {action.upper() for action in actions}
    known = {action.upper(): action for action in _answered()}
    found += _problems_with_variables("OCPP_CSMS_TIMEOUT_", [name for name, _ in timeouts], asked, known)
    found += _problems_with_variables("OCPP_CSMS_FALLBACK_", [name for name, _ in fallbacks], asked, known)
    billing = {action.upper() for version in OcppVersion for action in transaction_related(version)}
    found += [
        f"OCPP_CSMS_FALLBACK_{name} must be gateway or close: {known[name]} carries billing data, which a charge point "
        "discards after a CALLERROR"
        for name, fallback in fallbacks
        if name in billing & asked and fallback == Fallback.ERROR
    ]
    return found


def _answered() -> frozenset[str]:
    """The actions of charge points that are answered, of all versions."""
    return frozenset().union(*(station_actions(version) for version in OcppVersion))


def _problem_with_action(action: str) -> str | None:
    answered = _answered()
    if action in answered:
        return None
    if any(action in send_actions(version) for version in OcppVersion):
        return f"OCPP_CSMS_ACTIONS has {action!r}, which is never answered"
    meant = [known for known in answered if known.lower() == action.lower()]
    hint = f": is {meant[0]} meant?" if meant else ""
    return f"OCPP_CSMS_ACTIONS has {action!r}, which no version of OCPP lets a charge point call{hint}"


def _problems_with_variables(
    beginning: str, names: Sequence[str], asked: Collection[str], known: Mapping[str, str]
) -> list[str]:
    found = []
    for name, times in Counter(names).items():
        if name not in known:
            found.append(f"{beginning}{name} names no action of a charge point")
        elif name not in asked:
            found.append(f"{beginning}{name} has no effect: OCPP_CSMS_ACTIONS does not have {known[name]}")
        elif times > 1:
            found.append(f"{beginning}{name} is there twice, with and without underscores")
    return found
