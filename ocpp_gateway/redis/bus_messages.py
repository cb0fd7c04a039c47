"""What nodes tell each other over ``node-bus:{nodeId}``: JSON objects that name their ``type``.

====================== ================================================ =============================================
``session_superseded``   ``chargePointId, nodeId, epoch``                 another node has this charge point now, by a
                                                                          session of this epoch
``session_kick``         ``chargePointId, epoch, actor, reason``          an operator ends this session; epoch ``null``:
                                                                          whichever there is
====================== ================================================ =============================================

The first is published by the script ``claim_session``. Pub/sub forgets what nobody listens to, so nothing may rest on
a message alone: the refresh of the session records finds a session that was taken over, too.
"""

from __future__ import annotations

from typing import Any

import orjson
from attrs import frozen


@frozen(kw_only=True)
class SessionSuperseded:
    """Node ``node_id`` has this charge point now, by a session of ``epoch``: older ones are over."""

    charge_point_id: str
    node_id: str
    epoch: int


@frozen(kw_only=True)
class SessionKick:
    """The operator ``actor`` ends the session of this charge point, if it is of ``epoch``; None: of any."""

    charge_point_id: str
    epoch: int | None
    actor: str
    reason: str

    def encode(self) -> bytes:
        """The JSON that ``parse`` reads."""
        return orjson.dumps(
            {
                "type": "session_kick",
                "chargePointId": self.charge_point_id,
                "epoch": self.epoch,
                "actor": self.actor,
                "reason": self.reason,
            }
        )


BusMessage = SessionSuperseded | SessionKick


def parse(raw: bytes) -> BusMessage | None:
    """Read a message; None if it is of a type that we do not know (a newer gateway's), or cannot be understood."""
    try:
        members = orjson.loads(raw)
        match members["type"]:
            case "session_superseded":
                return SessionSuperseded(
                    charge_point_id=_text(members["chargePointId"]),
                    node_id=_text(members["nodeId"]),
                    epoch=_whole(members["epoch"]),
                )
            case "session_kick":
                epoch = members["epoch"]
                return SessionKick(
                    charge_point_id=_text(members["chargePointId"]),
                    epoch=None if epoch is None else _whole(epoch),
                    actor=_text(members["actor"]),
                    reason=_text(members["reason"]),
                )
    except (ValueError, TypeError, KeyError):
        pass
    return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
