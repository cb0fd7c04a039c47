"""Twisted work from a command: a reactor for as long as one coroutine runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import click

_Result = TypeVar("_Result")


def run_in_reactor(work: Callable[[Any], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run ``work(reactor)`` and return or raise what it does. Once per process: Twisted's reactor runs only once.

    Ctrl-C and SIGTERM stop the reactor and end in click's Abort; their handlers are as before afterwards.
    """
    import signal

    from twisted.internet import task
    from twisted.internet.defer import Deferred

    results: list[_Result] = []
    failures: list[BaseException] = []

    async def noted(reactor: Any) -> None:
        # Nothing fails inside of the reactor: it would log a traceback, with whatever its frames hold.
        try:
            results.append(await work(reactor))
        except (Exception, KeyboardInterrupt) as error:
            failures.append(error)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the only one that Twisted replaces with its own
    try:
        with suppress(SystemExit):  # how react always ends
            task.react(lambda reactor: Deferred.fromCoroutine(noted(reactor)))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if failures:
        raise failures[0]
    if not results:
        raise click.Abort
    return results[0]
