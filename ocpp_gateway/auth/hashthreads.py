"""Slow hashes, computed in a few threads of their own so that the reactor goes on.

Comparisons, and hashes to be stored, wait in a queue of bounded length, in the reactor's thread: one whose charge point
has gone leaves the queue at once, and one over the bound is refused at once (the charge point comes back, with backing
off) instead of being answered long after it gave up. scrypt releases the interpreter's lock, so the threads really run
beside the reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from ocpp_gateway.auth.hashing import HashDefaults, HashingBusy, StoredHash

_T = TypeVar("_T")


@frozen(eq=False)
class _Job:
    work: Callable[[], Any] = field(repr=False)
    result: Deferred[Any]


@define(eq=False)
class ThreadedHashing:
    """A HashRunner and HashMaker over ``threads`` threads; of further work, ``max_waiting`` pieces wait their turn."""

    reactor: IReactorFromThreads
    threads: int = field(kw_only=True)
    max_waiting: int = field(kw_only=True)
    _pool: ThreadPool = field(init=False)
    _waiting: deque[_Job] = field(init=False, factory=deque)
    _running: int = field(init=False, default=0)
    _started: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._pool = ThreadPool(minthreads=0, maxthreads=self.threads, name="hashing")

    @property
    def waiting(self) -> int:
        """Comparisons that wait for a thread."""
        return len(self._waiting)

    def start(self) -> None:
        """Take comparisons from now on."""
        self._pool.start()
        self._started = True

    def stop(self) -> None:
        """Refuse what waits, and return when the comparisons under way are done: a fraction of a second."""
        self._started = False
        while self._waiting:
            self._waiting.popleft().result.errback(HashingBusy("stopping"))
        self._pool.stop()

    def matches(self, stored: StoredHash, secrets: tuple[bytes, ...]) -> Deferred[bool]:
        """See HashRunner."""
        return self._run(lambda: stored.matches(secrets))

    def make(self, hashes: HashDefaults, secret: bytes, salt: str) -> Deferred[str]:
        """See HashMaker."""
        return self._run(lambda: hashes.make(secret, salt))

    def _run(self, work: Callable[[], _T]) -> Deferred[_T]:
        if not self._started or (self._running >= self.threads and len(self._waiting) >= self.max_waiting):
            return fail(HashingBusy())
        result: Deferred[_T] = Deferred(self._give_up)
        job = _Job(work, result)
        self._waiting.append(job)
        self._run_next()
        return result

    def _give_up(self, result: Deferred[Any]) -> None:
        # Work under way cannot be stopped: it ends unheard, and keeps its place until then.
        self._waiting = deque(job for job in self._waiting if job.result is not result)
        result.errback(CancelledError())

    def _run_next(self) -> None:
        while self._waiting and self._running < self.threads:
            job = self._waiting.popleft()
            self._running += 1

            def done(success: bool, outcome: Any, job: _Job = job) -> None:
                self.reactor.callFromThread(self._finished, job, outcome)

            self._pool.callInThreadWithCallback(done, job.work)

    def _finished(self, job: _Job, outcome: Any) -> None:
        self._running -= 1
        if not job.result.called:
            if isinstance(outcome, Failure):
                job.result.errback(outcome)
            else:
                job.result.callback(outcome)
        self._run_next()
