"""What a running gateway needs and keeps: memory, open files, its gauges, and the keys in its Redis by prefix."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hiredis
from attrs import define, field, frozen
from procfs import cpu_seconds, open_files, queued_bytes, resident_bytes
from prometheus_client.parser import text_string_to_metric_families
from servers import Server

_TIMEOUT = 20.0
_KEYS_AT_ONCE = 1000
_TWO_WORDS = ("rate",)
"""Prefixes of which the second word counts too: rate:connects:..., rate:reconnects:..."""

_NOT_OURS = ("python_", "process_", "ocpp_tls_")

"""Metrics that have nothing to do with how many charge points there are."""


class ProbeFailed(Exception):
    """The gateway or its Redis did not tell."""


@frozen(kw_only=True)
class Sample:
    """One look. MB are 1,000,000 bytes."""

    at: float
    """time.monotonic()."""
    rss_mb: float
    cpu_seconds: float
    """Since the gateway started."""
    open_files: int
    redis_queue_bytes: int
    """Commands and replies that wait in the kernel."""
    gauges: dict[str, float]
    """Of the gateway's own metrics, summed over their labels."""
    counters: dict[str, float]
    keys: dict[str, int] | None = None
    """By prefix; None: not counted this time."""


@define
class Probe:
    """Looks at one gateway, from the same machine."""

    server: Server
    _redis: RedisView = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._redis = RedisView(self.server.redis_port)

    async def take(self, *, with_keys: bool = True) -> Sample:
        """Look now. Raises ProbeFailed."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                gauges, counters = _metrics(await self._scrape())
                keys = await self._redis.keys_by_prefix() if with_keys else None
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            raise ProbeFailed(f"{type(error).__name__} while looking at the gateway: {error}") from None
        pid = self.server.pid
        return Sample(
            at=time.monotonic(),
            rss_mb=resident_bytes(pid) / 1e6,
            cpu_seconds=cpu_seconds(pid),
            open_files=open_files(pid),
            redis_queue_bytes=queued_bytes(self.server.redis_port),
            gauges=gauges,
            counters=counters,
            keys=keys,
        )

    async def _scrape(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.http_port)
        try:
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = await reader.read(-1)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise ValueError(f"/metrics answered {head[:100]!r}")
        return body.decode()

    def close(self) -> None:
        self._redis.close()


@define
class RedisView:
    """A connection to look into Redis with, opened when it is first needed."""

    port: int
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    _parser: hiredis.Reader = field(factory=hiredis.Reader)

    async def keys_by_prefix(self) -> dict[str, int]:
        """How many keys there are of each kind."""
        found: Counter[str] = Counter()
        cursor = b"0"
        while True:
            cursor, keys = await self.command("SCAN", cursor, "COUNT", _KEYS_AT_ONCE)
            # SCAN may give a key twice while keys come and go: by a few, these numbers may be high.
            found.update(map(_prefix, keys))
            if cursor == b"0":
                return dict(found)

    async def command(self, *words: str | bytes | int) -> Any:
        """The reply to one command."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # of any length, unlike its type
        while (reply := self._parser.gets()) is False:
            data = await reader.read(65536)
            if not data:
                raise ValueError("Redis closed the connection")
            self._parser.feed(data)
        if isinstance(reply, Exception):
            raise ValueError(str(reply))
        return reply

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def _prefix(key: bytes) -> str:
    first, *rest = key.decode(errors="replace").split(":")
    return f"{first}:{rest[0]}" if first in _TWO_WORDS and len(rest) > 1 else first


def _metrics(text: str) -> tuple[dict[str, float], dict[str, float]]:
    """Gauges by name, and counters by name and labels."""
    gauges: dict[str, float] = {}
    counters: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith(_NOT_OURS):
            continue
        if family.type == "gauge":
            gauges[family.name] = sum(sample.value for sample in family.samples)
        elif family.type == "counter":
            for sample in family.samples:
                # The others are the times when a series began.
                if sample.name.endswith("_total") and sample.value:
                    labels = ",".join(sample.labels.values())
                    counters[f"{family.name}{{{labels}}}" if labels else family.name] = sample.value
    return gauges, counters


def log_lines(log: Path) -> tuple[Counter[str], Counter[str]]:
    """How many lines of each event the gateway logged: as warnings, and as errors."""
    warnings: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        try:
            members = json.loads(line)
        except ValueError:
            errors["not_json"] += 1  # nothing of the gateway's writes such a line: a traceback, say
            continue
        counted = errors if members.get("level") in ("error", "critical") else warnings
        counted[str(members.get("event"))] += 1
    return warnings, errors


def slope_per_minute(points: list[tuple[float, float]]) -> float:
    """Of the straight line through ``points`` (seconds, value) with the least squares; 0.0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 60 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
