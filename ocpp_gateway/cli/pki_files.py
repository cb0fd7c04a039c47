"""The directory of a throw-away authority: which files are in it, and how they are written and read."""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from attrs import frozen

from ocpp_gateway.cli.failure import Failure

if TYPE_CHECKING:
    from cryptography import x509

    from ocpp_gateway.cli.authority import Authority

_SECRET_MODE = 0o600
_OPEN_MODE = 0o644
_LONGEST_STEM = 120
_LARGEST_BYTES = 1 << 20
_SERVER_STEMS = ("server-rsa", "server-ec")
_TAKEN_STEMS = ("ca", "crl", "gateway", *_SERVER_STEMS)


def safe_name(charge_point_id: str) -> str:
    """A file name's beginning for any identity: itself where that is harmless, else percent-encoded."""
    name = quote(charge_point_id, safe="")
    if name[:1] in (".", "-", "~") or name.casefold() in _TAKEN_STEMS:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > _LONGEST_STEM:
        digest = hashlib.sha256(charge_point_id.encode()).hexdigest()[:16]
        name = f"{name[: _LONGEST_STEM - 18]}%-{digest}"  # no encoded name has a %-
    return name


@frozen
class PkiDirectory:
    """The directory at ``path``."""

    path: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate: what gateway and charge points trust."""
        return self.path / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """The authority's key."""
        return self.path / "ca.key"

    @property
    def crl(self) -> Path:
        """What the authority has revoked."""
        return self.path / "crl.pem"

    @property
    def settings(self) -> Path:
        """The gateway's settings for all this, for ``--env-file``."""
        return self.path / "gateway.env"

    def servers(self) -> list[tuple[Path, Path]]:
        """The server certificates, RSA and ECDSA, and their keys."""
        return [(self.path / f"{stem}.pem", self.path / f"{stem}.key") for stem in _SERVER_STEMS]

    def charge_point(self, charge_point_id: str) -> tuple[Path, Path]:
        """The certificate of a charge point, and its key."""
        stem = safe_name(charge_point_id)
        return self.path / f"{stem}.pem", self.path / f"{stem}.key"

    def own_files(self) -> list[Path]:
        """All that ``pki init`` writes."""
        servers = [path for pair in self.servers() for path in pair]
        return [self.ca, self.ca_key, *servers, self.crl, self.settings]

    def environment(self) -> dict[str, str]:
        """The gateway's settings that make it use what is here. Raises Failure for a path that they cannot say."""
        text = str(self.path.resolve())
        if "," in text or not text.isprintable() or text != text.strip():
            raise Failure(f"Settings cannot name the directory {text}.", "Choose another --directory, without commas.")
        pairs = [(str(cert.resolve()), str(key.resolve())) for cert, key in self.servers()]
        return {
            "OCPP_TLS_ENABLED": "true",
            "OCPP_TLS_CERT_PATH": ",".join(cert for cert, _ in pairs),
            "OCPP_TLS_KEY_PATH": ",".join(key for _, key in pairs),
            "OCPP_TLS_CA_PATH": str(self.ca.resolve()),
            "OCPP_TLS_CRL_PATH": str(self.crl.resolve()),
            "OCPP_TLS_CLIENT_AUTH": "optional",
        }

    def write(self, files: Mapping[Path, bytes]) -> None:
        """Write ``files``, keys so that only their owner reads them; each is there as a whole or not at all."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path, content in files.items():
                _write(path, content, _SECRET_MODE if path.suffix == ".key" else _OPEN_MODE)
        except OSError as error:
            raise Failure(f"Cannot write {error.filename or self.path}: {error.strerror}") from None

    def authority(self) -> Authority:
        """The authority that is here. Raises Failure."""
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        from ocpp_gateway.cli.authority import Authority

        if not self.ca.exists() or not self.ca_key.exists():
            command = f"ocpp-gateway pki init --directory {shlex.quote(str(self.path))}"
            raise Failure(f"There is no authority in {self.path}.", f"Make one with: {command}")
        try:
            certificate = x509.load_pem_x509_certificate(read(self.ca))
            key = serialization.load_pem_private_key(read(self.ca_key), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # not chained: it may quote the key
            raise Failure(f"{self.ca} or {self.ca_key} is no longer what 'pki init' wrote.") from None
        if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
            raise Failure(f"{self.ca_key} is not the key of {self.ca}.")
        return Authority(certificate, key)

    def revocation_list(self) -> x509.CertificateRevocationList | None:
        """The list that is here, None if there is none. Raises Failure if it cannot be read."""
        from cryptography import x509

        if not self.crl.exists():
            return None
        try:
            return x509.load_pem_x509_crl(read(self.crl))
        except ValueError:
            raise Failure(f"{self.crl} is no revocation list any more.", "Remove it, and revoke again.") from None


def read(path: Path) -> bytes:
    """The content of a file of certificates or keys. Raises Failure."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise Failure(f"Cannot read {path}: {error.strerror}") from None
    if len(content) > _LARGEST_BYTES:
        raise Failure(f"{path} is too large for a file of certificates.")
    return content


def _write(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
