"""A thousand charge points over TLS in one process: no more of each than its connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import ssl
from collections.abc import Iterator, Sequence

from attrs import define, field
from support.raw_socket import CLOSE, TEXT, frame, handshake

_AT_ONCE = 50
_SECONDS = 60


@contextlib.contextmanager
def room_for(connections: int) -> Iterator[None]:
    """Raises the limit on open files, here and for the processes that are started inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 500
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@define(eq=False)
class _Link:
    charge_point_id: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    said: int = 0

    async def heartbeat(self) -> bool:
        self.said += 1
        self.writer.write(frame(json.dumps([2, str(self.said), "Heartbeat", {}]).encode()))
        opcode, payload = await self.hear()
        return opcode == TEXT and json.loads(payload)[:2] == [3, str(self.said)]

    async def hear(self) -> tuple[int, bytes]:
        """The next frame; the gateway's short ones are all there is."""
        first, length = await self.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        return first & 0x0F, await self.reader.readexactly(length)


@define(eq=False)
class Fleet:
    """``with Fleet(port) as fleet``; everybody who was connected is so until the end, or ``served`` tells otherwise."""

    port: int
    _links: list[_Link] = field(factory=list)
    _runner: asyncio.Runner = field(factory=asyncio.Runner)

    def connect(self, members: Sequence[tuple[str, ssl.SSLContext, dict[str, str]]]) -> None:
        """Of each: identity, its side of TLS, header fields."""
        self._runner.run(asyncio.wait_for(self._connect_all(members), _SECONDS))

    def served(self) -> int:
        """How many get an answer to a Heartbeat, each on the connection that it has had all the time."""
        return self._runner.run(asyncio.wait_for(self._all_heartbeats(), _SECONDS))

    def close_codes(self, charge_point_ids: set[str], *, seconds: float) -> list[int]:
        """The codes with which those are closed; they leave the fleet."""
        leaving = [link for link in self._links if link.charge_point_id in charge_point_ids]
        self._links = [link for link in self._links if link not in leaving]
        return self._runner.run(asyncio.wait_for(self._closes(leaving), seconds))

    def __len__(self) -> int:
        return len(self._links)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._leave())
        self._runner.close()

    async def _connect_all(self, members: Sequence[tuple[str, ssl.SSLContext, dict[str, str]]]) -> None:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def connect(charge_point_id: str, context: ssl.SSLContext, headers: dict[str, str]) -> None:
            async with turns:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
                writer.write(handshake(f"/ocpp/{charge_point_id}", headers=headers.items()))
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 101 "), answer
                self._links.append(_Link(charge_point_id, reader, writer))

        await asyncio.gather(*(connect(*member) for member in members))

    async def _all_heartbeats(self) -> int:
        answers = await asyncio.gather(*(link.heartbeat() for link in self._links), return_exceptions=True)
        return answers.count(True)

    async def _closes(self, links: list[_Link]) -> list[int]:
        codes = []
        for link in links:
            opcode, payload = await link.hear()
            assert opcode == CLOSE, payload
            codes.append(int.from_bytes(payload[:2], "big"))
            link.writer.transport.abort()
        return codes

    async def _leave(self) -> None:
        for link in self._links:
            link.writer.transport.abort()
        await asyncio.sleep(0)  # the loop closes them in its next turn
