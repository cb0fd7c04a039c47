"""What can go wrong between a charge point and the gateway.

::

    SimulatorError
    ├─ Refused         the gateway (or a proxy) answered the handshake with an HTTP status
    ├─ Unreachable     there was no HTTP answer at all
    ├─ ConnectionLost  the WebSocket is gone, with its close code
    ├─ CallTimedOut    a CALL got no answer in time
    └─ CallRefused     a CALL was answered with a CALLERROR
"""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

_FINAL_STATUSES = frozenset({400, 401, 403, 404, 426})


class SimulatorError(Exception):
    """Base of all. ``str()`` is a sentence for the person at the terminal; it never holds a credential."""


class Refused(SimulatorError):
    """The opening handshake was answered with ``status`` instead of 101.

    ``said`` is the gateway's own word for it, if it gave one; ``retry_after`` is its wish in seconds.
    """

    def __init__(
        self,
        cp_id: str,
        url: str,
        status: int,
        said: str = "",
        retry_after: float | None = None,
        *,
        shows_certificate: bool = False,
    ) -> None:
        word = f" ({said})" if said else ""
        super().__init__(f"{cp_id} was refused with HTTP {status}{word}")
        self.cp_id = cp_id
        self.url = url
        self.status = status
        self.said = said
        self.retry_after = retry_after
        self.shows_certificate = shows_certificate

    @property
    def final(self) -> bool:
        """Trying again will not help until a person changes something."""
        return self.status in _FINAL_STATUSES or 300 <= self.status < 400

    @property
    def advice(self) -> str:
        """What to do next."""
        cp_id = shlex.quote(self.cp_id)
        if self.status == 400:
            return (
                "The gateway and this charge point have no OCPP version in common, or something altered the request. "
                f"'ocpp-gateway charger show {cp_id}' lists the versions that it may speak."
            )
        if self.status == 401:
            return self._advice_on_credential()
        if self.status == 403:
            return self._advice_on_permission()
        if self.status == 404:
            return (
                f"The gateway does not know it. Add it: ocpp-gateway charger add {cp_id}   If it is there, compare "
                f"the URL ({self.url}) with ws://HOST:PORT/ocpp/VERSION/IDENTITY and the identity with "
                "OCPP_CHARGE_POINT_ID_PATTERN (unless set, identities begin with CP-)."
            )
        if self.status == 429:
            return "Too many attempts from here. It goes on by itself, more slowly."
        if self.status == 503:
            return (
                "The gateway runs but cannot serve now: Redis or Kafka is away, or it is being stopped. Its HTTP port "
                "says which: curl http://HOST:3001/ready   It goes on by itself."
            )
        if 300 <= self.status < 400:
            return f"Something at {self.url} redirects; an OCPP endpoint never does. Give its own URL."
        return f"This is no answer of an OCPP gateway: is {self.url} the right URL?"

    def _advice_on_credential(self) -> str:
        cp_id = shlex.quote(self.cp_id)
        if self.shows_certificate:
            return (
                "The gateway wants a password of it, whatever certificate it shows. To let it in by its certificate: "
                f"ocpp-gateway cert bind {cp_id} FILE   Or give its password as well: --password asks for it."
            )
        return (
            "The password is wrong, missing, or of the wrong kind. Give the one that 'ocpp-gateway charger add' "
            f"showed (--password asks for it), or make a new one: ocpp-gateway charger add {cp_id} --replace"
        )

    def _advice_on_permission(self) -> str:
        # The answer is the same for each of these: the gateway tells its operators, and nobody else.
        cp_id = shlex.quote(self.cp_id)
        look = f"Look: ocpp-gateway charger show {cp_id}"
        if self.shows_certificate:
            return (
                "The gateway knows it and does not let it in with this certificate: not bound to it "
                "(mtls_binding_mismatch, mtls_binding_missing), revoked (mtls_revoked), out of date (mtls_expired) or "
                "of another organisation (mtls_organization_not_allowed); or it is disabled, not from this address, "
                f"or not this version. The gateway's log says which, event handshake.refused. {look}   "
                f"Bind it: ocpp-gateway cert bind {cp_id} FILE   Let it in: ocpp-gateway charger enable {cp_id}"
            )
        return (
            "The gateway knows it and does not let it in: disabled, not from this address, not this version, only "
            "with a client certificate (--cert, --key; mtls_missing_cert), or only over TLS as before "
            f"(profile_downgrade). {look}   Let it in: ocpp-gateway charger enable {cp_id}   "
            f"If less security than before is meant: ocpp-gateway charger set {cp_id} --allow-downgrade"
        )


class Unreachable(SimulatorError):
    """No HTTP answer: nobody listens, the name does not resolve, TLS failed, or it took too long."""

    def __init__(self, cp_id: str, url: str, cause: str, about_cause: str = "") -> None:
        super().__init__(f"{cp_id} cannot reach {url}: {cause}")
        self.cp_id = cp_id
        self.url = url
        self.cause = cause
        self.about_cause = about_cause

    @property
    def advice(self) -> str:
        """What to do next."""
        address = urlsplit(self.url).netloc
        about = self.about_cause or f"Is a gateway running at {address}? 'ocpp-gateway demo' starts one."
        return f"{about} It goes on trying by itself."


class ConnectionLost(SimulatorError):
    """The WebSocket is gone. 1006 is a connection that broke without a close frame (RFC 6455 section 7.1.5)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"connection closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class CallTimedOut(SimulatorError):
    """A CALL got no answer in time."""

    def __init__(self, action: str, seconds: float) -> None:
        super().__init__(f"{action} got no answer in {seconds:g} s")
        self.action = action


class CallRefused(SimulatorError):
    """A CALL was answered with a CALLERROR."""

    def __init__(self, action: str, code: str, description: str = "") -> None:
        super().__init__(f"{action} was refused: {code} {description}".rstrip())
        self.action = action
        self.code = code
        self.description = description
