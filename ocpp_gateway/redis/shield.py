"""Waiting for something that goes on when the one who waits is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_Result = TypeVar("_Result")


def shielded(
    running: Deferred[_Result], unwanted: Callable[[_Result | Failure], object] | None = None
) -> Deferred[_Result]:
    """A Deferred with the result of ``running``; cancelling it does not cancel ``running``.

    Once cancelled, nobody is left to hear how ``running`` ends but ``unwanted``, which must not raise.
    """
    waiting: Deferred[_Result] = Deferred()

    def pass_on(result: _Result | Failure) -> None:
        if not waiting.called:
            waiting.callback(result)
        elif unwanted is not None:
            unwanted(result)

    running.addBoth(pass_on)
    return waiting
