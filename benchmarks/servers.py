"""The processes that a benchmark needs: started on free loopback ports, stopped with the benchmark.

Everything is a child of the benchmark; the kernel ends it if the benchmark is killed (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen
from charge_points import Target
from procfs import cpu_seconds
from records import basic_auth, mtls_auth, provision
from security import Security

REPOSITORY = Path(__file__).resolve().parent.parent
_START_TIMEOUT = 40.0
_PR_SET_PDEATHSIG = 1
_EXPECTED_WARNING = "gateway.accepts_all_id_tokens"

FLOOD_LIMITS = (
    "OCPP_CONNECTIONS_PER_ADDRESS",
    "OCPP_OPENING_PER_ADDRESS",
    "OCPP_CONNECT_RATE_PER_ADDRESS",
    "OCPP_CONNECT_RATE_PER_CHARGE_POINT",
    "OCPP_RECONNECTS_PER_MINUTE",
    "OCPP_HANDSHAKE_RATE",
    "OCPP_RATE_LIMIT_PER_CP",
)
"""The gateway's limits that a benchmark with one address and full speed would run into. 0 switches each of them off."""

_libc = ctypes.CDLL(None)


class ServerFailed(Exception):
    """A server did not start, or ended by itself: the text has its last words."""


@frozen(kw_only=True)
class Server:
    """A running server and how to reach it."""

    name: str
    pid: int
    target: Target
    http_port: int = 0
    """Of the gateway: where its metrics are."""
    redis_port: int = 0
    """Of the gateway's Redis."""
    brokers: str = ""
    """Of the gateway's Kafka."""
    log: Path = Path(os.devnull)
    """What it logs, one JSON object a line."""

    def settle(self, longest: float = 5.0) -> None:
        """Wait until it has finished what the last run left behind: less than 5 % of a core for a fifth of a second."""
        end = time.monotonic() + longest
        before = cpu_seconds(self.pid)
        while time.monotonic() < end:
            time.sleep(0.2)
            now = cpu_seconds(self.pid)
            if now - before <= 0.01:
                return
            before = now


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _log_tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


@contextmanager
def _child(
    name: str, command: Sequence[str], directory: Path, *, env: Mapping[str, str] | None = None, announces: bool = False
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A child process that is stopped in the end; what it says goes to a log file."""
    log = directory / f"{name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if announces else errors,
            stderr=errors,
            env=env,
            cwd=directory,
            text=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - the benchmark has no threads
        )
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def _announcing(name: str, script: str, directory: Path, *options: str) -> Iterator[tuple[int, str]]:
    """One of our scripts that prints a single line when it is ready: its pid and that line."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *options]
    with _child(name, command, directory, announces=True) as (process, log):
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise ServerFailed(f"{name} did not start:\n{_log_tail(log)}")
        yield process.pid, line


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def echo(directory: Path, security: Security | None = None) -> Iterator[Server]:
    """The baseline."""
    tls = security.client() if security is not None else None
    with _announcing("echo", "echo_server.py", directory, *_tls_options(security)) as (pid, port):
        yield Server(name="echo", pid=pid, target=Target(port=int(port), tls=tls, echoes=True))


@contextmanager
def accept_loop(directory: Path, security: Security) -> Iterator[Server]:
    """The limit: our OpenSSL in a plain loop. TLS and nothing else, one connection at a time."""
    with _announcing("loop", "accept_loop.py", directory, *_tls_options(security)) as (pid, port):
        yield Server(name="loop", pid=pid, target=Target(port=int(port), tls=security.client(), reverses_lines=True))


def _tls_options(security: Security | None) -> list[str]:
    if security is None:
        return []
    authority = security.authority
    # Session tickets as the gateway has them: they are work in every handshake, not only where a session is resumed.
    options = [
        "--certificate",
        str(authority.server_certificate_path),
        "--key",
        str(authority.server_key_path),
        "--tickets",
    ]
    if security.charge_points:
        options += ["--authority", str(authority.certificate_path)]
    return options


@contextmanager
def openssl(directory: Path, security: Security) -> Iterator[Server]:
    """The host's OpenSSL as a server (s_server). TLS and nothing else, one connection at a time."""
    binary = shutil.which("openssl")
    if binary is None:
        raise ServerFailed("there is no openssl command: install it, or leave that server out with --servers")
    port, authority = free_port(), security.authority
    command = [binary, "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_3", "-rev"]
    command += ["-cert", str(authority.server_certificate_path), "-key", str(authority.server_key_path)]
    if security.charge_points:
        command += ["-Verify", "1", "-verify_return_error", "-verify_quiet", "-CAfile", str(authority.certificate_path)]
    with _child("openssl", command, directory) as (process, log):
        _wait_listening("openssl s_server", process, log, port)
        target = Target(port=port, tls=security.client(), reverses_lines=True)
        yield Server(name="openssl", pid=process.pid, target=target)


@contextmanager
def redis(directory: Path) -> Iterator[int]:
    """A redis-server that keeps nothing; its port. The binary is the host's or the one next to this Python."""
    path = os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))
    binary = shutil.which("redis-server", path=path)
    if binary is None:
        raise ServerFailed("there is no redis-server: install one, or the embedded extra of this project")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with _child("redis", command, directory) as (process, log):
        _wait_listening("redis-server", process, log, port)
        yield port


def _wait_listening(name: str, process: subprocess.Popen[str], log: Path, port: int) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise ServerFailed(f"{name} did not start:\n{_log_tail(log)}")


@contextmanager
def gateway(
    directory: Path,
    charge_points: int,
    *,
    security: Security | None = None,
    settings: Mapping[str, str] | None = None,
    twistd_options: Sequence[str] = (),
    keeps_flood_limits: bool = False,
    beside: Server | None = None,
) -> Iterator[Server]:
    """The gateway as its users run it, with a Redis and a Kafka of its own, and identities in place.

    They have passwords or, where ``security`` has client certificates, those. Its ``FLOOD_LIMITS`` are off unless
    ``keeps_flood_limits``. With ``beside`` it is a second node, with the Redis, the Kafka and the identities of that.
    """
    name = "gateway" if beside is None else f"{beside.name}-2"
    with ExitStack() as stack:
        if beside is not None:
            redis_port, brokers, password = beside.redis_port, beside.brokers, beside.target.password
        else:
            redis_port = stack.enter_context(redis(directory))
            _, brokers = stack.enter_context(_announcing("kafka", "mock_kafka.py", directory))
            password = _provision(redis_port, charge_points, security)
        http_port, ocpp_port = free_port(), free_port()
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(REPOSITORY),
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}",
            "KAFKA_BROKERS": brokers,
            "PORT": str(http_port),
            "WEBSOCKET_OCPP_PORT": str(ocpp_port),
            "WEBSOCKET_OCPP_HOST": "127.0.0.1",
            "NODE_ID": f"benchmark-{name}",
            "LOG_LEVEL": "warn",
            **({} if keeps_flood_limits else dict.fromkeys(FLOOD_LIMITS, "0")),
            **_tls_settings(security),
            **(settings or {}),
        }
        twistd = str(Path(sys.executable).with_name("twistd"))
        command = [twistd, "-n", "--pidfile=", *twistd_options, "ocpp-gateway"]
        process, log = stack.enter_context(_child(name, command, directory, env=environment))
        _wait_ready(process, log, f"http://127.0.0.1:{http_port}/ready")
        try:
            tls = security.client() if security is not None else None
            yield Server(
                name=name,
                pid=process.pid,
                target=Target(port=ocpp_port, tls=tls, password=password),
                http_port=http_port,
                redis_port=redis_port,
                brokers=environment["KAFKA_BROKERS"],
                log=log,
            )
        finally:
            complaints = [line for line in _log_tail(log).splitlines() if _EXPECTED_WARNING not in line]
            # Where the limits are meant to be met, warnings are what there is to see: the benchmark counts them itself.
            if complaints and not (keeps_flood_limits and process.poll() is None):
                print(f"the {name}'s last log lines:", *complaints, sep="\n", file=sys.stderr)
        if process.poll() is not None:
            raise ServerFailed(f"the {name} ended by itself")


def _provision(redis_port: int, charge_points: int, security: Security | None) -> str | None:
    """Identities for all; the password that they share, if they have one."""
    if security is not None and security.charge_points:
        provision(redis_port, [mtls_auth(certificate) for certificate in security.charge_points])
        return None
    password = secrets.token_urlsafe(16)
    provision(redis_port, [basic_auth(password) for _ in range(charge_points)])
    return password


def _tls_settings(security: Security | None) -> dict[str, str]:
    if security is None:
        return {}
    authority = security.authority
    settings = {
        "OCPP_TLS_ENABLED": "true",
        "OCPP_TLS_CERT_PATH": str(authority.server_certificate_path),
        "OCPP_TLS_KEY_PATH": str(authority.server_key_path),
        "OCPP_TLS_CLIENT_AUTH": "off",
    }
    if security.charge_points:
        settings |= {"OCPP_TLS_CLIENT_AUTH": "required", "OCPP_TLS_CA_PATH": str(authority.certificate_path)}
    return settings


def _wait_ready(process: subprocess.Popen[str], log: Path, url: str) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise ServerFailed(f"the gateway did not become ready:\n{_log_tail(log)}")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A directory for logs that goes away with the benchmark; SIGTERM unwinds like Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="ocpp-gateway-bench-") as directory:
        yield Path(directory)
