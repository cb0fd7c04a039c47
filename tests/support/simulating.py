"""``ocpp-gateway simulate`` as a process: a charge point that answers commands, and does what they say."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from support.gateway import PROJECT, Gateway
from support.stations import PASSWORD

_COMMAND = [sys.executable, "-c", "from ocpp_gateway.cli import main; main()"]
_LONGEST = "--duration=110"


@contextlib.contextmanager
def simulated(
    gateway: Gateway, charge_point_id: str, *options: str, version: str = "1.6"
) -> Iterator[subprocess.Popen[bytes]]:
    """Connected when it begins; by itself it does nothing but boot, unless ``options`` say so."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OCPP_", "REDIS_"))}
    process = subprocess.Popen(
        [
            *_COMMAND,
            "simulate",
            f"--url={gateway.url('')}",
            f"--id={charge_point_id}",
            f"--ocpp={version}",
            _LONGEST,
            *(options or ("--idle",)),
        ],
        env={**clean, "PYTHONPATH": str(PROJECT), "OCPP_SIMULATE_PASSWORD": PASSWORD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        gateway.wait_for("session.opened", charge_point_id=charge_point_id)
        yield process
    finally:
        process.kill()
        process.wait()
