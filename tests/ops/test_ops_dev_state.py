"""The file in which a gateway for development says where its parts are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import pytest

from ocpp_gateway.ops.dev_state import DevState


@pytest.fixture
def ours() -> DevState:
    return DevState(
        redis_url="redis://:x@127.0.0.1:1",
        kafka_brokers="127.0.0.1:2",
        http_port=3,
        ocpp_port=4,
        tls=True,
        pid=os.getpid(),
    )


def test_what_was_written_is_read_by_its_owner_only_and_removed(tmp_path: Path, ours: DevState) -> None:
    path = tmp_path / "folder" / "dev.json"
    ours.write(path)
    assert DevState.read(path) == ours
    assert path.stat().st_mode & 0o777 == 0o600
    ours.remove(path)
    assert not path.exists()
    ours.remove(path)


def test_the_file_of_another_gateway_is_left_alone(tmp_path: Path, ours: DevState) -> None:
    path = tmp_path / "dev.json"
    theirs = attrs.evolve(ours, pid=os.getppid())
    theirs.write(path)
    ours.remove(path)
    assert DevState.read(path) == theirs


def test_a_file_that_does_not_tell_of_tls_is_of_a_gateway_without(tmp_path: Path, ours: DevState) -> None:
    path = tmp_path / "dev.json"
    ours.write(path)
    members = json.loads(path.read_text())
    assert members.pop("tls") is True
    path.write_text(json.dumps(members))
    assert DevState.read(path) == attrs.evolve(ours, tls=False)
