"""Twisted work from a command: a reactor for as long as one coroutine runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import click

_Result = TypeVar("_Result")


def run_in_reactor(work: Callable[[Any], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run ``work(reactor)`` and return or raise what it does. Once per process: Twisted's reactor runs only once.

    Ctrl-C ends the command as click ends commands.
    """
    from twisted.internet import task
    from twisted.internet.defer import Deferred

    results: list[_Result] = []
    failures: list[Exception] = []

    async def noted(reactor: Any) -> None:
        # Nothing fails inside of the reactor: it would log a traceback, with whatever its frames hold.
        try:
            results.append(await work(reactor))
        except Exception as error:
            failures.append(error)

    with suppress(SystemExit):  # how react always ends
        task.react(lambda reactor: Deferred.fromCoroutine(noted(reactor)))
    if failures:
        raise failures[0]
    if not results:
        raise click.Abort
    return results[0]
