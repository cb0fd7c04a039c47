"""SIGTERM and SIGINT: a clean stop with exit status 0; once more: the same in a hurry. SIGHUP: read again what can be.

Twisted's own handlers stop the reactor too, but twistd then kills itself with the same signal, so that a supervisor
sees a death by signal where everything ended in order.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning


def stop_on_signals(reactor: Any, hurry: Callable[[], None]) -> None:
    """From now on both signals stop ``reactor``, and call ``hurry`` in it while it is stopping.

    To be called while it runs, or it installs its own again.
    """

    def stop(_number: int, _frame: object) -> None:
        reactor.callFromThread(_stop, reactor, hurry)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def ignore_hangup() -> None:
    """SIGHUP does nothing: before there is anything to reload, and when it is all over."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def reload_on_hangup(reactor: Any, reload: Callable[[], None]) -> None:
    """From now on SIGHUP, which would end the process, calls ``reload`` in ``reactor``."""
    signal.signal(signal.SIGHUP, lambda _number, _frame: reactor.callFromThread(reload))


def _stop(reactor: Any, hurry: Callable[[], None]) -> None:
    try:
        reactor.stop()
    except ReactorNotRunning:  # it is stopping already
        hurry()
