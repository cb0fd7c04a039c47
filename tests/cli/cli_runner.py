"""Runs the command as a person would: as a process, because Twisted's reactor runs once in each.

``run_here`` runs it in this process, for what ends before anything is connected to.
"""

from __future__ import annotations

import os
import subprocess
import sys

from click.testing import CliRunner

from ocpp_gateway.cli.app import ocpp_gateway

COMMAND = [sys.executable, "-c", "from ocpp_gateway.cli import main; main()"]
_CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("REDIS_", "KAFKA_", "OCPP_")) and name not in ("PORT", "WEBSOCKET_OCPP_PORT")
}


def environment(**more: str) -> dict[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {**_CLEAN, "PYTHONPATH": root, **more}


def run(*arguments: str, typed: bytes = b"", timeout: float = 40.0, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        input=typed,
        capture_output=True,
        timeout=timeout,
        env=environment(**environ),
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def run_here(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    forgotten = dict.fromkeys(os.environ.keys() - _CLEAN.keys())
    result = CliRunner().invoke(ocpp_gateway, list(arguments), env={**forgotten, **environ})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return subprocess.CompletedProcess(list(arguments), result.exit_code, result.stdout, result.stderr)
