"""TLS as simulated charge points speak it: whom they trust, and the certificates that they show."""

from __future__ import annotations

import shlex
import ssl
from pathlib import Path

from attrs import define, field, frozen

from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.pki_files import safe_name

_PLACE = "{id}"
"""In a path: the identity, spelt as ``pki issue`` spells it in file names."""


@frozen
class ChargePointTls:
    """What one charge point connects with. ``common_name`` is that of its certificate."""

    context: ssl.SSLContext
    shows_certificate: bool = False
    common_name: str | None = None


@define(eq=False)
class ClientTls:
    """The files that ``simulate`` was given. Contexts are shared where the files are the same."""

    cert: str | None = None
    key: str | None = None
    ca: str | None = None
    _known: dict[tuple[str, str | None], ChargePointTls] = field(factory=dict, init=False)

    def of(self, charge_point_id: str) -> ChargePointTls:
        """For one charge point. Raises Failure if a file is missing, or is not what it should be."""
        cert = (self.cert or "").replace(_PLACE, safe_name(charge_point_id))
        key = None if self.key is None else self.key.replace(_PLACE, safe_name(charge_point_id))
        known = self._known.get((cert, key))
        if known is None:
            known = self._known[cert, key] = self._read(charge_point_id, cert, key)
        return known

    def _read(self, charge_point_id: str, cert: str, key: str | None) -> ChargePointTls:
        context = self._trusting()
        if not cert:
            return ChargePointTls(context)
        for path in filter(None, (cert, key)):
            if not Path(path).is_file():
                raise Failure(
                    f"There is no file {path}.",
                    f"To try, make one: ocpp-gateway pki issue {shlex.quote(charge_point_id)}",
                )
        from ocpp_gateway.cli.certificate_files import certificate_in, facts_of

        facts = facts_of(certificate_in(Path(cert)), Path(cert))
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except ssl.SSLError as error:
            raise _unusable(cert, key, error.reason or "") from None
        except OSError as error:
            raise Failure(f"Cannot read {cert} or {key}: {error.strerror}") from None
        return ChargePointTls(context, shows_certificate=True, common_name=facts.common_name)

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError:
            raise Failure(f"--ca {self.ca} has no certificate in PEM.") from None
        except OSError as error:
            raise Failure(f"Cannot read --ca {self.ca}: {error.strerror}") from None


def _unusable(cert: str, key: str | None, reason: str) -> Failure:
    if reason == "KEY_VALUES_MISMATCH":
        return Failure(f"The private key in {key or cert} is not that of the certificate in {cert}.")
    if key is None:
        return Failure(f"{cert} has no private key, or is not PEM.", "Say where the key is: --key FILE")
    return Failure(f"{cert} and {key} must be a certificate and its private key, in PEM.")


def _no_password() -> str:
    """Instead of OpenSSL asking for it on the terminal, once for each charge point."""
    raise Failure("The private key is encrypted.", "A simulation needs it as it is: openssl pkey -in KEY -out PLAIN")
