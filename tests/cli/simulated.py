"""``ocpp-gateway simulate`` in this process, against the small CSMS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor

from cli.cli_runner import run_here
from simulator.small_csms import SmallCsms


def simulated(
    csms: SmallCsms, *arguments: str, typed: bytes = b"", tls: ssl.SSLContext | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the command here, with the CSMS in a thread beside it."""

    async def beside() -> None:
        async with csms.running(tls=tls):
            listening.set_result(asyncio.get_running_loop())
            await ended.wait()

    listening: Future[asyncio.AbstractEventLoop] = Future()
    ended = asyncio.Event()
    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(asyncio.run, beside())
        loop = listening.result(10.0)
        try:
            url = (f"--url={csms.url}",) if not any(argument.startswith("--url") for argument in arguments) else ()
            filled = [argument.replace("PORT", str(csms.port)) for argument in arguments]
            return run_here("simulate", *url, *filled, typed=typed, **environ)
        finally:
            loop.call_soon_threadsafe(ended.set)
            serving.result(10.0)
