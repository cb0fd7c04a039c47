"""One real Apache Kafka broker on loopback, for tests.

    python tests/support/kafka_broker.py -- CMD ...

starts a broker, runs CMD with KAFKA_BROKERS naming it, stops the broker and exits as CMD did. In tests::

    with KafkaBroker() as broker:
        broker.brokers            # "127.0.0.1:41234"
        broker.freeze(), broker.thaw()
        broker.kill(), broker.restart()     # same port, same data

The first use fetches Kafka through Maven (support/kafka/pom.xml says which) into ``.kafka/`` in the project; Java 17 or
newer and ``mvn`` must be there. The broker is its own controller (KRaft), keeps its data in a temporary folder, creates
topics by itself unless told otherwise, and dies with us even when we are killed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
POM = HERE / "kafka" / "pom.xml"
LOG4J = HERE / "kafka" / "log4j2.properties"
DEFAULT_CACHE = PROJECT / ".kafka"

START_SECONDS = 90.0
STOP_SECONDS = 20.0

# Small and quick to start: a test broker handles little, and stops soon.
JVM = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")
PR_SET_PDEATHSIG = 1
EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


class KafkaBrokerFailed(Exception):
    """Kafka could not be fetched or did not start; the text says why."""


def kafka_version() -> str:
    """The version that the pom names."""
    found = ElementTree.parse(POM).getroot().find(".//{*}kafka.version")
    if found is None or not found.text:
        raise KafkaBrokerFailed(f"{POM} names no kafka.version")
    return found.text


def fetch(cache: Path = DEFAULT_CACHE) -> Path:
    """The folder with Kafka's jars, fetched through Maven if it is not in ``cache`` yet."""
    version = kafka_version()
    jars = cache / f"kafka-{version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may want it at once
        if not jars.is_dir():
            for program in ("java", "mvn"):
                if shutil.which(program) is None:
                    raise KafkaBrokerFailed(f"a real Kafka needs `{program}` on the PATH")
            arriving = cache / f"arriving-{os.getpid()}"
            try:
                _maven(version, arriving)
                arriving.rename(jars)  # all of it or nothing
            finally:
                shutil.rmtree(arriving, ignore_errors=True)
    return jars


def _maven(version: str, folder: Path) -> None:
    _say(f"fetching Apache Kafka {version} through Maven ...")
    command = ["mvn", "--batch-mode", "--file", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as maven:
        assert maven.stdout is not None
        for line in maven.stdout:
            said.append(line)
            if "Copying " in line:
                _say("  " + line.split("Copying ", 1)[1].split(" ")[0].strip())
    if maven.returncode or not any(folder.glob("kafka_*.jar")):
        raise KafkaBrokerFailed("Maven could not fetch Kafka:\n" + "".join(said[-20:]))


class KafkaBroker:
    """One broker. ``brokers`` is its address, the same after a ``restart``."""

    def __init__(self, *, cache: Path = DEFAULT_CACHE, auto_create_topics: bool = True, partitions: int = 4) -> None:
        self._cache = cache
        self._auto_create_topics = auto_create_topics
        self._partitions = partitions
        self._folder: Path | None = None
        self._jars: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = self._controller_port = 0

    @property
    def brokers(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    def __enter__(self) -> KafkaBroker:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it with an empty log on free ports, and wait until it answers."""
        self._jars = fetch(self._cache)
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-broker-"))
        self._port, self._controller_port = steady_ports(2)
        self._write_properties()
        formatted = subprocess.run(
            self._java(
                "kafka.tools.StorageTool", "format", f"--cluster-id={_cluster_id()}", "-c", str(self._properties)
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            raise KafkaBrokerFailed(f"formatting the storage failed:\n{formatted.stdout}{formatted.stderr}")
        self._launch()

    def restart(self) -> None:
        """Start it again after ``kill`` or ``stop_keeping_data``: same port, same data."""
        self._launch()

    def stop_keeping_data(self) -> None:
        """Stop it cleanly, so that ``restart`` goes on with its data."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a frozen one does not hear SIGTERM
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def stop(self) -> None:
        """Stop it and remove its data."""
        self.stop_keeping_data()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """As if the machine lost it: SIGKILL."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop it where it stands (SIGSTOP): its sockets stay open, and nobody answers."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # the signal alone leaves busy threads running for a moment

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._running().send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def log(self) -> str:
        """What the broker has printed."""
        path = self._data_folder / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def _data_folder(self) -> Path:
        if self._folder is None:
            raise KafkaBrokerFailed("the broker was not started")
        return self._folder

    @property
    def _properties(self) -> Path:
        return self._data_folder / "server.properties"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise KafkaBrokerFailed("the broker does not run")
        return self._process

    def _write_properties(self) -> None:
        listener, controller = f"127.0.0.1:{self._port}", f"127.0.0.1:{self._controller_port}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{listener},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{listener}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._data_folder / "data"),
            "num.partitions": str(self._partitions),
            "auto.create.topics.enable": str(self._auto_create_topics).lower(),
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.enable": "false",
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _java(self, *arguments: str) -> list[str]:
        return ["java", *JVM, f"-Dlog4j2.configurationFile={LOG4J}", "-cp", f"{self._jars}/*", *arguments]

    def _launch(self) -> None:
        with (self._data_folder / "broker.log").open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for us, and we stop the broker when all is done.
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data_folder,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no lock to hang on
            )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self._port):
            if self._process.poll() is not None:
                raise KafkaBrokerFailed(f"the broker ended with {self._process.returncode}:\n{self.log()[-4000:]}")
            if time.monotonic() > deadline:
                raise KafkaBrokerFailed(f"the broker did not answer in {START_SECONDS:.0f} s:\n{self.log()[-4000:]}")
            time.sleep(0.05)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(port: int) -> bool:
    """Whether a broker there answers a version request (ApiVersions v0): an open port alone comes too early."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.settimeout(2.0)
            request = struct.pack(">hhih4s", 18, 0, 7, 4, b"test")
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(8)) == 8
    except OSError:
        return False


def steady_ports(count: int = 1) -> list[int]:
    """Free loopback ports that the system gives to nobody else while their server is down.

    Those it would give for port 0 it also gives to the clients that try to connect again meanwhile, and then the
    server cannot come back.
    """
    first = int(EPHEMERAL_PORTS.read_text().split()[0]) if EPHEMERAL_PORTS.exists() else 32768
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(range(min(10_000, first - 500), first), k=500):
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError("no free port")


def _cluster_id() -> str:
    import base64

    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def run_with_broker(command: Sequence[str], *, cache: Path = DEFAULT_CACHE) -> int:
    """Run ``command`` with KAFKA_BROKERS set to a broker of its own; its exit status, 128 + n for signal n."""
    with KafkaBroker(cache=cache) as broker:
        _say(f"Apache Kafka {kafka_version()} at {broker.brokers}")
        child = subprocess.Popen(command, env={**os.environ, "KAFKA_BROKERS": broker.brokers})
        try:
            status = child.wait()
        except BaseException:
            # Interrupted: the command had Ctrl-C too, or is told now, and gets some time to end.
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            raise
    return status if status >= 0 else 128 - status


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="kafka_broker.py", description="Run a command with a Kafka broker.")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where Kafka's jars are kept (%(default)s)")
    parser.add_argument("--fetch-only", action="store_true", help="fetch Kafka, run nothing")
    parser.add_argument("command", nargs="*", metavar="CMD", help="the command, after --")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    try:
        if chosen.fetch_only:
            fetch(chosen.cache)
            return 0
        if not chosen.command:
            parser.error("no command given")
        return run_with_broker(chosen.command, cache=chosen.cache)
    except KafkaBrokerFailed as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
