"""The charge point's serial number, where its certificate names that and not its identity.

OCPP 2.0.1 wants the common name to be the serial number (A00.FR.405), and BootNotification to say the same one
(B01.FR.11, FR.12): a charge point that was let in by a certificate must be the device that it was issued to. Many
authorities put the identity there instead, which the handshake has compared with the URL already.
"""

from __future__ import annotations

from ocpp_gateway.auth.bindings import names
from ocpp_gateway.auth.standing import Standing
from ocpp_gateway.ocppj.frames import Payload

_LONGEST_SERIAL_NUMBER = 25
"""Characters that BootNotification's schema allows."""


def expected_serial_number(standing: Standing, charge_point_id: str) -> str | None:
    """What the BootNotification of a session has to say; None: anything.

    1.6 has no such rule, and in its BootNotification two serial numbers, both of them optional. A certificate that
    names the identity elsewhere, or has a common name too long for a serial number, does not say one.
    """
    certificate = standing.certificate
    if certificate is None or not standing.version.is_2x or names(certificate, charge_point_id):
        return None
    common_name = certificate.common_name
    return None if common_name is None or len(common_name) > _LONGEST_SERIAL_NUMBER else common_name


def names_serial_number(boot: Payload | None, serial_number: str) -> bool:
    """Whether the BootNotification ``boot``, which may be anything, says this serial number."""
    charging_station = (boot or {}).get("chargingStation")
    return isinstance(charging_station, dict) and charging_station.get("serialNumber") == serial_number
