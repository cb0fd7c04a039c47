from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from attrs import field, frozen
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults, HashingBusy, ScryptParameters, StoredHash
from ocpp_gateway.auth.hashthreads import ThreadedHashing
from ocpp_gateway.handshake.reasons import refused

DEFAULTS = HashDefaults(HashAlgorithm.SCRYPT, ScryptParameters(n=2, r=1, p=1))


def stored(secret: bytes = b"secret") -> StoredHash:
    read = DEFAULTS.read(DEFAULTS.make(secret, "salt"), "salt", None)
    assert read is not None
    return read


@frozen
class HeldSecrets:
    """Secrets that are not to be had before ``release``: holds a comparison as a slow hash would."""

    gate: threading.Event = field(factory=threading.Event)
    thread: list[str] = field(factory=list)

    def __iter__(self) -> Iterator[bytes]:
        self.thread.append(threading.current_thread().name)
        self.gate.wait(10)
        yield b"secret"

    def release(self) -> None:
        self.gate.set()


@pytest.fixture
def hashing() -> Iterator[ThreadedHashing]:
    runner = ThreadedHashing(reactor, threads=1, max_waiting=2)
    runner.start()
    yield runner
    runner.stop()


async def test_right_and_wrong_secrets(hashing: ThreadedHashing) -> None:
    assert await hashing.matches(stored(), (b"no", b"secret")) is True
    assert await hashing.matches(stored(), (b"no",)) is False


async def test_the_reactor_s_thread_does_not_hash(hashing: ThreadedHashing) -> None:
    held = HeldSecrets()
    result = hashing.matches(stored(), held)  # type: ignore[arg-type]
    assert not result.called
    held.release()
    assert await result is True
    assert held.thread != [threading.current_thread().name]


async def test_over_the_bound_is_refused_at_once(hashing: ThreadedHashing) -> None:
    held = HeldSecrets()
    taken: list[Deferred[bool]] = [hashing.matches(stored(), held)]  # type: ignore[arg-type]
    taken += [hashing.matches(stored(), (b"secret",)) for _ in range(2)]
    assert hashing.waiting == 2
    with pytest.raises(HashingBusy) as caught:
        await hashing.matches(stored(), (b"secret",))
    assert refused(caught.value.reason).status == 503
    held.release()
    assert [await result for result in taken] == [True, True, True]
    assert await hashing.matches(stored(), (b"secret",)) is True


async def test_a_charge_point_that_left_gives_its_place_up(hashing: ThreadedHashing) -> None:
    held = HeldSecrets()
    running = hashing.matches(stored(), held)  # type: ignore[arg-type]
    first, second = (hashing.matches(stored(), (b"secret",)) for _ in range(2))
    first.cancel()
    with pytest.raises(CancelledError):
        await first
    assert hashing.waiting == 1
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    # The thread is still busy with the cancelled comparison: its place is not free before that is over.
    assert hashing.waiting == 1
    held.release()
    assert await second is True


async def test_an_error_in_the_thread_reaches_the_caller_and_frees_the_place(hashing: ThreadedHashing) -> None:
    with pytest.raises(TypeError):
        await hashing.matches(stored(), (None,))  # type: ignore[arg-type]
    assert await hashing.matches(stored(), (b"secret",)) is True


async def test_stopping_refuses_what_waits_and_all_that_follows() -> None:
    hashing = ThreadedHashing(reactor, threads=1, max_waiting=2)
    hashing.start()
    held = HeldSecrets()
    running = hashing.matches(stored(), held)  # type: ignore[arg-type]
    waiting = hashing.matches(stored(), (b"secret",))
    held.release()
    hashing.stop()
    with pytest.raises(HashingBusy):
        await waiting
    assert await running is True
    with pytest.raises(HashingBusy):
        await hashing.matches(stored(), (b"secret",))


async def test_hashes_to_be_stored_are_made_beside_the_reactor(hashing: ThreadedHashing) -> None:
    held = HeldSecrets()
    before = hashing.matches(stored(), held)  # type: ignore[arg-type]
    made = hashing.make(DEFAULTS, b"secret", "salt")
    last = hashing.make(DEFAULTS, b"another", "salt")
    with pytest.raises(HashingBusy):
        await hashing.make(DEFAULTS, b"one too many", "salt")
    held.release()
    assert await before is True
    assert await made == DEFAULTS.make(b"secret", "salt")
    assert await last == DEFAULTS.make(b"another", "salt")
