"""What a simulated charge point keeps because the CSMS told it to. It outlives reboots, and nothing comes of it."""

from __future__ import annotations

import hashlib
from typing import Any

from attrs import define, field, frozen

from ocpp_gateway.simulator.frames import Payload

MOST = 100
"""Things of each kind: a CSMS that goes on sending fills no memory."""


@frozen
class Profile:
    """A charging profile, and the connector (1.6) or EVSE (2.x) that it is for; 0: all of them."""

    place: int
    purpose: str
    stack_level: int
    payload: Payload


@frozen
class Monitor:
    """A variable that is watched (2.x)."""

    component: Payload
    variable: Payload
    setting: Payload


@define
class Memory:
    """See the module's text. Whatever is put in has been looked at by who does it."""

    list_version: int = 0
    """Of the local authorization list; 0: there is none."""

    list_tokens: set[str] = field(factory=set)
    reservations: set[int] = field(factory=set)
    profiles: dict[int, Profile] = field(factory=dict)
    certificates: list[tuple[str, Payload]] = field(factory=list)
    """Their type, and the certificateHashData that names each."""

    display_messages: dict[int, Payload] = field(factory=dict)
    monitors: dict[int, Monitor] = field(factory=dict)
    published: set[str] = field(factory=set)
    """Checksums of firmware for others in the local network (2.x)."""

    tariffs: set[str] = field(factory=set)
    last_monitor_id: int = 0

    def has_room(self, kept: Any) -> bool:
        """Whether another one of the kind fits in."""
        return len(kept) < MOST

    def profiles_like(self, profile_id: object, place: object, purpose: object, stack_level: object) -> list[int]:
        """The ids of the profiles that are meant by this; what is None does not matter."""
        return [
            number
            for number, profile in self.profiles.items()
            if profile_id in (None, number)
            and place in (None, profile.place)
            and purpose in (None, profile.purpose)
            and stack_level in (None, profile.stack_level)
        ]

    def new_monitor_id(self) -> int:
        """One that no monitor had."""
        self.last_monitor_id += 1
        return self.last_monitor_id


def certificate_hash(pem: str) -> Payload | None:
    """The certificateHashData of a root certificate (2.0.1 part 2, CertificateHashDataType); None if it is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        issuer, key = certificate.issuer.public_bytes(), certificate.public_key()
    except (ValueError, TypeError, UnicodeEncodeError):
        return None
    # A root is its own issuer. What is hashed of the key is more than its bit string; here it only tells keys apart.
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "hashAlgorithm": "SHA256",
        "issuerNameHash": hashlib.sha256(issuer).hexdigest(),
        "issuerKeyHash": hashlib.sha256(spki).hexdigest(),
        "serialNumber": f"{certificate.serial_number:x}"[:40],
    }
