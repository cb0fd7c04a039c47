"""Runs the command as a person would: as a process, because Twisted's reactor runs once in each.

``run_here`` runs it in this process, much sooner: for commands that need no reactor, or end before they start it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

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


@contextmanager
def started(*arguments: str, seconds: float = 60.0, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs, both outputs as pipes; killed after ``seconds``, so that no reader waits for ever."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(PYTHONUNBUFFERED="1", **environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = Timer(seconds, process.kill)
    end.start()
    try:
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        end.cancel()


def run_here(*arguments: str, typed: bytes = b"", **environ: str) -> subprocess.CompletedProcess[str]:
    forgotten = dict.fromkeys(os.environ.keys() - _CLEAN.keys())
    result = CliRunner().invoke(ocpp_gateway, list(arguments), input=typed, env={**forgotten, **environ})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return subprocess.CompletedProcess(list(arguments), result.exit_code, result.stdout, result.stderr)
