"""The rules by which a charge point is let in, in the contract's order.

Identity, status, allowed protocols, address lists, mode, credential; the first that fails gives the reason. The caller
looks the record up and negotiates the subprotocol, which is why the steps can be taken one by one; ``authenticate``
takes them all.

Basic: the user name has to be ``auth.username``, or the identity from the URL where the record has none (A00.FR.204 of
"Improved security for OCPP 1.6-J", A00.FR.207 of OCPP 2.0.1), compared as bytes in constant time. Where the record
names a user, a wrong user name costs the same time as a wrong password, so it cannot be searched for by itself. Where
it does not, the user name is in the URL, there is nothing to find out, and a wrong one is refused without hashing.

Mode ``mtls``: the client certificate whose chain TLS has verified has to be in its validity, not revoked, and the
charge point's own (``bindings``). What is told first is what says most: revoked, then expired, then not bound. Without
a certificate (on a connection without TLS there never is one) the charge point is refused. Another mode is never taken
instead: a stolen password must not open what the operator has closed to passwords. The other way round is safe: where
``auth.allowedTypes`` names ``mtls`` beside another mode, a certificate counts if it comes without a secret, so that the
charge points of a fleet can move to certificates one at a time.

A password may be one of several while the charge point has not said which it took (``next_secrets``). The present one
is tried first; a wrong password costs a comparison with each, and is one failure.

Security profiles (same white paper, section 2.1): 1 a secret over a plain connection, 2 a secret over TLS, 3 a client
certificate. A token counts as a password does.
"""

from __future__ import annotations

import hmac
from enum import StrEnum

from attrs import field, frozen

from ocpp_gateway.auth.addresses import AddressList
from ocpp_gateway.auth.bindings import CertificateRules, check_ownership, check_revocation
from ocpp_gateway.auth.certificates import ClientCertificate
from ocpp_gateway.auth.credentials import Credentials, spellings
from ocpp_gateway.auth.errors import AuthenticationFailed
from ocpp_gateway.auth.hashing import HashDefaults, HashRunner, StoredHash
from ocpp_gateway.auth.record import AuthRules, IdentityRecord
from ocpp_gateway.auth.verified import VerifiedCredentials
from ocpp_gateway.clock import Clock
from ocpp_gateway.ocppj.versions import OcppVersion

ACTIVE_STATUS = "active"


class AuthMode(StrEnum):
    """The ways to authenticate: values of ``auth.type`` and OCPP_AUTH_MODE."""

    BASIC = "basic"
    TOKEN = "token"  # noqa: S105 - the name of a mode
    MTLS = "mtls"

    @classmethod
    def from_name(cls, name: str) -> AuthMode | None:
        """The mode called ``name`` (lower case), if there is one."""
        return next((mode for mode in cls if mode.value == name), None)


@frozen
class AuthOutcome:
    """How a charge point was let in. ``security_profile`` is OCPP's number, 1 to 3.

    ``certificate_expired``: by a certificate that ran out, as its record allows. ``next_secret``: the hash, as stored,
    of the password to come that it was; None where it was the present one.
    """

    mode: AuthMode
    security_profile: int
    certificate_expired: bool = False
    next_secret: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Authenticator:
    """Judges identity records and credentials. ``allowed_addresses`` holds for all charge points."""

    default_mode: AuthMode
    allowed_addresses: AddressList
    hashes: HashDefaults
    hashing: HashRunner = field(repr=False)
    verified: VerifiedCredentials = field(repr=False)
    certificate_rules: CertificateRules
    clock: Clock = field(repr=False)

    def check_status(self, record: IdentityRecord) -> None:
        """Raise AuthenticationFailed ``status_inactive`` unless the status is absent or ``active``."""
        if record.status not in (None, ACTIVE_STATUS):
            raise AuthenticationFailed("status_inactive")

    def check_version(self, record: IdentityRecord, version: OcppVersion) -> None:
        """Raise AuthenticationFailed ``protocol_not_allowed`` unless the charge point may speak ``version``."""
        if version not in record.allowed_versions:
            raise AuthenticationFailed("protocol_not_allowed")

    def check_address(self, record: IdentityRecord, address: str) -> None:
        """Raise AuthenticationFailed ``ip_not_allowed`` unless ``address`` is on each list that is not empty."""
        if not (self.allowed_addresses.allows(address) and record.allowed_addresses.allows(address)):
            raise AuthenticationFailed("ip_not_allowed")

    def mode(
        self, record: IdentityRecord, *, credentials: Credentials, certificate: ClientCertificate | None
    ) -> AuthMode:
        """The record's mode, else the default; or MTLS where that is allowed by name and nothing else is shown.

        Raises AuthenticationFailed ``auth_mode_not_allowed`` if it may not be used.
        """
        mode = self._own_mode(record)
        if certificate is not None and not credentials.are_given and AuthMode.MTLS in record.auth.allowed_modes:
            mode = AuthMode.MTLS
        self.check_mode(record, mode)
        return mode

    def check_mode(self, record: IdentityRecord, mode: AuthMode) -> None:
        """Raise AuthenticationFailed ``auth_mode_not_allowed`` unless the charge point may come by ``mode``."""
        own = self._own_mode(record)
        allowed = record.auth.allowed_modes
        if not ((mode in allowed and mode in (own, AuthMode.MTLS)) if allowed else mode is own):
            raise AuthenticationFailed("auth_mode_not_allowed")

    def check_profile(self, record: IdentityRecord, security_profile: int) -> None:
        """Raise AuthenticationFailed ``profile_downgrade`` if the record asks for a higher security profile."""
        if security_profile < (record.min_security_profile or 1):
            raise AuthenticationFailed("profile_downgrade")

    async def check_credential(
        self,
        record: IdentityRecord,
        credentials: Credentials,
        *,
        version: OcppVersion,
        is_secure: bool,
        certificate: ClientCertificate | None,
        is_revoked: bool,
    ) -> AuthOutcome:
        """Mode and credential. Raises AuthenticationFailed or HashingBusy.

        ``is_secure``: over TLS, ours or that of a listed proxy. ``certificate``: of our own TLS connection, its chain
        verified; ``is_revoked``: its fingerprint is among the revoked ones in Redis.
        """
        if certificate is not None and is_revoked:
            raise AuthenticationFailed("mtls_revoked")  # also beside a password: somebody has it who should not
        mode = self.mode(record, credentials=credentials, certificate=certificate)
        if mode is AuthMode.MTLS:
            is_expired = self._check_certificate(record, certificate)
            return AuthOutcome(mode, security_profile=3, certificate_expired=is_expired)
        next_secret = None
        if mode is AuthMode.BASIC:
            next_secret = await self._check_basic(record, credentials, version)
        else:
            await self._check_token(record, credentials)
        return AuthOutcome(mode, security_profile=2 if is_secure else 1, next_secret=next_secret)

    def _own_mode(self, record: IdentityRecord) -> AuthMode:
        mode = self.default_mode if record.auth.mode is None else AuthMode.from_name(record.auth.mode)
        if mode is None:
            raise AuthenticationFailed("auth_mode_not_allowed")
        return mode

    def _check_certificate(self, record: IdentityRecord, certificate: ClientCertificate | None) -> bool:
        """Whether the certificate is past its end, which the record may allow. Raises AuthenticationFailed."""
        if certificate is None:
            raise AuthenticationFailed("mtls_missing_cert")
        check_revocation(record, certificate)
        now = self.clock.now()
        is_expired = now > certificate.not_after
        if now < certificate.not_before or (is_expired and not record.allow_expired_certificate):
            raise AuthenticationFailed("mtls_expired")
        check_ownership(record, certificate, self.certificate_rules, now=now)
        return is_expired

    async def _check_basic(self, record: IdentityRecord, credentials: Credentials, version: OcppVersion) -> str | None:
        """The password to come that it was, as stored; None: the present one. Raises AuthenticationFailed."""
        basic = credentials.basic()
        auth = record.auth
        expected = (auth.username or record.charge_point_id).encode("utf-8")
        is_user = hmac.compare_digest(basic.username, expected)
        if not is_user and auth.username is None:
            raise AuthenticationFailed("basic_user_mismatch")
        stored = self.hashes.read(auth.secret_hash, auth.secret_salt, auth.hash_algorithm)
        to_come = self._next_hashes(auth) if auth.next_secrets.hashes else {}
        is_password, next_secret = False, None
        if basic.password != b"":
            secrets = spellings(basic.password, version)
            is_password = stored is not None and await self._matches(record, stored, secrets)
            if not is_password and to_come:
                next_secret = await self._first_match(record, to_come, secrets)
        if not is_user:
            raise AuthenticationFailed("basic_user_mismatch")
        if stored is None and not to_come:
            raise AuthenticationFailed("basic_hash_missing")
        if not is_password and next_secret is None:
            raise AuthenticationFailed("basic_invalid")
        return next_secret

    def _next_hashes(self, auth: AuthRules) -> dict[str, StoredHash]:
        following = auth.next_secrets
        read = {text: self.hashes.read(text, following.salt, auth.hash_algorithm) for text in following.hashes}
        return {text: stored for text, stored in read.items() if stored is not None}

    async def _first_match(
        self, record: IdentityRecord, hashes: dict[str, StoredHash], secrets: tuple[bytes, ...]
    ) -> str | None:
        for text, stored in hashes.items():
            if await self._matches(record, stored, secrets):
                return text
        return None

    async def _check_token(self, record: IdentityRecord, credentials: Credentials) -> None:
        token = credentials.token()
        auth = record.auth
        stored = self.hashes.read(auth.token_hash or auth.secret_hash, auth.secret_salt, auth.hash_algorithm)
        if stored is None:
            raise AuthenticationFailed("token_hash_missing")
        if not await self._matches(record, stored, (token,)):
            raise AuthenticationFailed("token_invalid")

    async def _matches(self, record: IdentityRecord, stored: StoredHash, secrets: tuple[bytes, ...]) -> bool:
        if not stored.is_slow:
            return stored.matches(secrets)
        if self.verified.knows(record.charge_point_id, stored, secrets):
            return True
        if not await self.hashing.matches(stored, secrets):
            return False
        self.verified.remember(record.charge_point_id, stored, secrets)
        return True
