"""A charge point's password changes over OCPP, and its identity record with it.

::

    prepare ── the new password's hash is written beside the old one: both let the charge point in
      └─ the CALL ── Accepted        the new one takes the old one's place (A01.FR.03, J16 6.2.2)
                 ├─ RebootRequired   both stay until the charge point comes with the new one
                 ├─ anything else    the new one goes again (A01.FR.04)
                 └─ no answer        both stay until one of them is used (``auth.rewriting.SecretSettling``)

If a node dies in between, or Redis is away when the answer comes, that is as if the answer had been lost.

The session that carried the command stays: its standing knows the new hash before it is written (``auth.standing``).
An operator who gives the charge point another password meanwhile wins: nothing of this counts then, and the session
ends as with any other change.

The record of a charge point that comes by a token or a certificate gets the new hash just the same: moving it to
passwords, or to another security profile, begins with that (A05 of OCPP 2.0.1). Its token stays what it was. Coming by
one says nothing of the password, so after a lost answer both stay until it comes with a password.

The password itself is hashed and forgotten here. Which commands hold a secret says ``secrecy.secrets_of``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import attrs
from attrs import field, frozen
from twisted.logger import Logger

from ocpp_gateway.adapters.answers import Caller
from ocpp_gateway.auth.authenticator import AuthMode
from ocpp_gateway.auth.hashing import HashAlgorithm, HashDefaults, HashingBusy, HashMaker, new_salt
from ocpp_gateway.auth.next_secrets import (
    Auth,
    next_secrets_of,
    trace_of,
    with_next_secret,
    with_reboot_awaited,
    with_secret,
    without_next_secret,
)
from ocpp_gateway.auth.record import IdentityRecord
from ocpp_gateway.auth.rewriting import ATTEMPTS, Change, ReadRecord, RecordRewriter, contended
from ocpp_gateway.auth.standing import Standing, credential_to_come
from ocpp_gateway.commands.new_password import Answer, NewPassword, answer_of, new_password
from ocpp_gateway.commands.request import CommandInvalid
from ocpp_gateway.commands.secrets import ChangeUnclear
from ocpp_gateway.errors import StoreUnavailable
from ocpp_gateway.ocppj.frames import Payload

log = Logger()

_NO_RECORD: Final = "No identity record to keep the new password in"


class Connected(Protocol):
    """A session, as far as its right to be connected goes."""

    standing: Standing


@frozen(kw_only=True)
class PasswordChange:
    """A new password that is written beside the old one."""

    charge_point_id: str
    action: str
    stored: str = field(repr=False)
    salt: str = field(repr=False)
    replaces: str = field(repr=False)
    """What hash it was written beside (``next_secrets.trace_of``)."""

    was_known: bool
    """It was told to the charge point before, and that answer was lost: a refusal now does not say that it has not got
    it."""

    credential: bytes = field(repr=False)
    """What a session by this password rests on (``Standing.told``)."""


@frozen(kw_only=True)
class CredentialChanges:
    """See the module's text. ``find`` gives the live session of a charge point on this node, if it is here."""

    rewriter: RecordRewriter
    hashes: HashDefaults
    hashing: HashMaker = field(repr=False)
    default_mode: AuthMode
    find: Callable[[str], Connected | None]

    async def prepare(
        self, caller: Caller, action: str, payload: Payload, unclear: PasswordChange | None = None
    ) -> PasswordChange | None:
        """Write the hash of the password that a CALL is going to give; None if it gives none.

        Raises CommandInvalid, with nothing written: ``payload_invalid`` for what cannot be a password,
        ``identity_missing`` where there is no identity record for it. Raises StoreUnavailable, also where too many
        hashes wait, and ChangeUnclear where it may have been written; its change is ``unclear`` in the next try.
        """
        password = new_password(action, payload)
        if password is None:
            return None
        for _ in range(ATTEMPTS):
            read = await self.rewriter.read(caller.charge_point_id)
            if read is None:
                raise CommandInvalid("identity_missing", _NO_RECORD)
            change = await self._change(read, action, password, unclear)
            self._expect(change)
            try:
                written = await self.rewriter.write(read, with_next_secret(read.auth, change.stored, change.salt))
            except StoreUnavailable:
                raise ChangeUnclear(change) from None
            if written:
                return change
            self._expect_no_more(change)
        raise contended()

    async def answered(self, change: PasswordChange, response: Payload) -> None:
        """The CALLRESULT with the payload ``response`` has come: confirm, withdraw, or leave both, as it says.

        Raises StoreUnavailable; then it may be called again, or left as if the answer had been lost.
        """
        answer = answer_of(change.action, response)
        if answer is Answer.TAKEN:
            await self.confirm(change)
        elif answer is Answer.TAKEN_AT_REBOOT:
            await self._await_reboot(change)
        elif answer is Answer.REFUSED:
            await self.withdraw(change)

    async def confirm(self, change: PasswordChange) -> None:
        """The charge point has the new password: the old one does not let it in any more. Errors as of ``answered``."""

        def promoted(read: ReadRecord) -> dict[str, Any] | None:
            if not _holds(change, read.auth):
                return None
            keeps_token = self._mode(read.record) is AuthMode.TOKEN
            return with_secret(read.auth, change.stored, change.salt or None, keeps_token=keeps_token)

        if await self._settle(change, promoted):
            self._renew(change)
            log.info(
                "{charge_point_id} has another password: the one before lets it in no more",
                event="credential.changed",
                charge_point_id=change.charge_point_id,
            )

    async def withdraw(self, change: PasswordChange) -> None:
        """The charge point has kept the old password, or was never told the new one. Errors as of ``answered``.

        Nothing is done where it may have the new one all the same, from another time.
        """
        if change.was_known:
            return
        await self.rewriter.rewrite(change.charge_point_id, lambda read: without_next_secret(read.auth, change.stored))
        self._expect_no_more(change)

    async def _await_reboot(self, change: PasswordChange) -> None:
        def awaited(read: ReadRecord) -> dict[str, Any] | None:
            if not _holds(change, read.auth):
                return None
            return with_reboot_awaited(with_next_secret(read.auth, change.stored, change.salt), change.stored)

        await self._settle(change, awaited)

    async def _settle(self, change: PasswordChange, rewritten: Change) -> bool:
        """Whether the record has the password now, whoever wrote it."""
        now: list[ReadRecord] = []

        def noted(read: ReadRecord) -> dict[str, Any] | None:
            now[:] = [read]
            return rewritten(read)

        if await self.rewriter.rewrite(change.charge_point_id, noted):
            return True
        if now and now[0].auth.get("secretHash") == change.stored:
            return True  # it has come with the new one already
        log.warn(
            "{charge_point_id} has a new password, but its identity record was given another one meanwhile",
            event="credential.overtaken",
            charge_point_id=change.charge_point_id,
        )
        return False

    async def _change(
        self, read: ReadRecord, action: str, password: NewPassword, unclear: PasswordChange | None
    ) -> PasswordChange:
        auth = read.record.auth
        known = auth.next_secrets
        if known.hashes:
            salt = known.salt or ""
        elif auth.token_hash or self._mode(read.record) is AuthMode.TOKEN:
            salt = auth.secret_salt or ""  # it is the token's, too
        else:
            salt = new_salt()
        stored = await self._hash(self.hashes.like(auth.secret_hash, auth.hash_algorithm), password, salt)
        return PasswordChange(
            charge_point_id=read.record.charge_point_id,
            action=action,
            stored=stored,
            salt=salt,
            replaces=trace_of(read.auth),
            was_known=stored in known.hashes and (unclear is None or unclear.stored != stored or unclear.was_known),
            credential=credential_to_come(read.record, stored, salt),
        )

    async def _hash(self, hashes: HashDefaults, password: NewPassword, salt: str) -> str:
        if hashes.algorithm is not HashAlgorithm.SCRYPT:
            return hashes.make(password.secret, salt)
        try:
            return await self.hashing.make(hashes, password.secret, salt)
        except HashingBusy:
            raise StoreUnavailable("too many hashes wait") from None

    def _mode(self, record: IdentityRecord) -> AuthMode | None:
        return self.default_mode if record.auth.mode is None else AuthMode.from_name(record.auth.mode)

    # What the live session rests on. It may have ended meanwhile, or be another one.

    def _expect(self, change: PasswordChange) -> None:
        session = self.find(change.charge_point_id)
        if session is not None and session.standing.mode is AuthMode.BASIC:
            told = session.standing.told | {change.credential}
            session.standing = attrs.evolve(session.standing, told=told)

    def _expect_no_more(self, change: PasswordChange) -> None:
        session = self.find(change.charge_point_id)
        if session is not None and change.credential in session.standing.told and not change.was_known:
            session.standing = attrs.evolve(session.standing, told=session.standing.told - {change.credential})

    def _renew(self, change: PasswordChange) -> None:
        session = self.find(change.charge_point_id)
        if session is not None and change.credential in session.standing.told:
            told = session.standing.told - {change.credential}
            session.standing = attrs.evolve(session.standing, credential=change.credential, told=told)


def _holds(change: PasswordChange, auth: Auth) -> bool:
    """Whether nobody else has given the charge point another password since ``change`` was written.

    Where the password is not to come any more, but the one that it replaces is still there, somebody has come with
    that one at the last moment. What the charge point itself says of the new one counts more.
    """
    known = next_secrets_of(auth)
    if change.stored in known.hashes:
        return True
    return trace_of(auth) == change.replaces and (not known.hashes or known.salt == (change.salt or None))
