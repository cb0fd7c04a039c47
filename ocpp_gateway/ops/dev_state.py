"""Where an embedded Redis or Kafka of a running gateway is: a small file that the command-line tool reads.

Embedded servers listen on free ports and Redis wants a random password, so both have to be told. Only the user who
runs the gateway can read the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import orjson
from attrs import frozen

APP_NAME = "ocpp-gateway"


@frozen(kw_only=True)
class DevState:
    """What the file says."""

    redis_url: str
    kafka_brokers: str
    http_port: int
    ocpp_port: int
    tls: bool
    """The OCPP port speaks TLS."""

    pid: int

    def write(self, path: Path) -> None:
        """Write the file; only its owner may read it. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        members = {
            "redisUrl": self.redis_url,
            "kafkaBrokers": self.kafka_brokers,
            "httpPort": self.http_port,
            "ocppPort": self.ocpp_port,
            "tls": self.tls,
            "pid": self.pid,
        }
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(orjson.dumps(members, option=orjson.OPT_INDENT_2))

    def remove(self, path: Path) -> None:
        """Remove the file, unless it is another gateway's by now. Raises OSError."""
        current = self.read(path)
        if current is not None and current.pid == self.pid:
            path.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> DevState | None:
        """What is there, or None if no gateway of this machine left anything, or has ended."""
        try:
            members: dict[str, Any] = orjson.loads(path.read_bytes())
            state = cls(
                redis_url=members["redisUrl"],
                kafka_brokers=members["kafkaBrokers"],
                http_port=members["httpPort"],
                ocpp_port=members["ocppPort"],
                tls=members.get("tls") is True,  # files of earlier releases have none
                pid=members["pid"],
            )
            os.kill(state.pid, 0)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state


def default_path() -> Path:
    """Where it is unless OCPP_DEV_STATE_FILE says otherwise."""
    return Path(click.get_app_dir(APP_NAME)) / "dev.json"
