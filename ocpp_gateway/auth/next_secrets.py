"""The password to come: hashes that an identity record holds beside ``secretHash`` while nobody knows which one counts.

Before a charge point is told another password, its hash is written beside the old one, so that both let it in. They do
until the charge point says which it has (its answer, or its next connection): that one stays (A01.FR.03-05 of "Improved
security for OCPP 1.6-J" and of OCPP 2.0.1). Members of ``auth``:

* ``nextSecretHash``, ``nextSecretSalt``: the newest one
* ``nextSecretContext``, absent in records made by hand: ``replaces``, a trace of the hash that it was written beside;
  ``earlierHashes``, of passwords whose answers were lost as well, newest first, with the same salt; ``needsReboot``,
  the charge point comes with the old password until it reboots, so coming with it says nothing

Where ``replaces`` is not of the hash that is there, an operator has given the charge point another password meanwhile:
nothing of the above counts then.

The functions take ``auth`` as decoded JSON and give a new one; members that are not theirs stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from ocpp_gateway.auth.fields import RecordFields

Auth = Mapping[str, Any]

_HASH: Final = "nextSecretHash"
_SALT: Final = "nextSecretSalt"
_CONTEXT: Final = "nextSecretContext"

MAX_NEXT_SECRETS: Final = 4
"""Passwords to come at once. More would have to be lost one after the other, on one connection."""

_TRACE_BYTES: Final = 8


@frozen
class NextSecrets:
    """The passwords to come that a record has: stored hashes, newest first, and their salt."""

    hashes: tuple[str, ...] = field(default=(), repr=False)
    salt: str | None = field(default=None, repr=False)
    needs_reboot: bool = False

    @classmethod
    def read(cls, auth: RecordFields) -> NextSecrets:
        """Those of a record's ``auth`` that count. Raises IdentityRecordInvalid for a member of the wrong type."""
        if _HASH not in auth.values:
            return NO_NEXT_SECRETS
        newest = auth.given(_HASH)
        salt = auth.given(_SALT)
        context = auth.nested(_CONTEXT)
        replaces = context.given("replaces")
        earlier = context.texts("earlierHashes")
        needs_reboot = context.flag("needsReboot")
        if newest is None or replaces not in (None, _trace(auth.given("secretHash"), auth.given("secretSalt"))):
            return NO_NEXT_SECRETS
        return cls((newest, *(text for text in earlier if text))[:MAX_NEXT_SECRETS], salt, needs_reboot)


NO_NEXT_SECRETS: Final = NextSecrets()
"""As nearly all records have it."""


def next_secrets_of(auth: Auth) -> NextSecrets:
    """Those of ``auth`` that count; of a record that has been read before. Raises IdentityRecordInvalid."""
    return NextSecrets.read(RecordFields(dict(auth), "auth.", []))


def trace_of(auth: Auth) -> str:
    """What tells the secret's hash in ``auth`` from another one, and cannot be used for anything else."""
    return _trace(auth.get("secretHash") or None, auth.get("secretSalt") or None)


def with_next_secret(auth: Auth, stored: str, salt: str) -> dict[str, Any]:
    """``stored`` is one more to come, the newest; those before stay. If there are any, they have the same ``salt``."""
    now = next_secrets_of(auth)
    hashes = (stored, *(other for other in now.hashes if other != stored))
    return _with(auth, NextSecrets(hashes[:MAX_NEXT_SECRETS], salt or None, now.needs_reboot))


def without_next_secret(auth: Auth, stored: str) -> dict[str, Any] | None:
    """``stored`` is not to come any more; None if it was not to."""
    now = next_secrets_of(auth)
    if stored not in now.hashes:
        return None
    return _with(auth, NextSecrets(tuple(other for other in now.hashes if other != stored), now.salt, now.needs_reboot))


def with_reboot_awaited(auth: Auth, stored: str) -> dict[str, Any] | None:
    """``stored`` will be the password when the charge point has rebooted; None if it is not to come."""
    now = next_secrets_of(auth)
    return None if stored not in now.hashes else _with(auth, NextSecrets(now.hashes, now.salt, needs_reboot=True))


def with_secret(auth: Auth, stored: str, salt: str | None, *, keeps_token: bool = False) -> dict[str, Any] | None:
    """``stored`` is the password now; what was told to the charge point after it is still to come, the rest is not.

    ``keeps_token``: the charge point comes by a token, so a ``secretHash`` without a ``tokenHash`` is that token's, and
    stays as such. A token has the password's salt. None, for nothing to do, where it has another one.
    """
    token = auth.get("tokenHash") or (auth.get("secretHash") if keeps_token else None)
    if token and (auth.get("secretSalt") or None) != salt:
        return None
    now = next_secrets_of(auth)
    newer = now.hashes[: now.hashes.index(stored)] if stored in now.hashes else ()
    changed = {name: value for name, value in auth.items() if name not in ("secretHash", "secretSalt")}
    changed["secretHash"] = stored
    if salt:
        changed["secretSalt"] = salt
    if token:
        changed["tokenHash"] = token
    return _with(changed, NextSecrets(newer, now.salt, now.needs_reboot))


def settled(auth: Auth, used: str | None) -> dict[str, Any] | None:
    """The charge point has come with the password to come that is stored as ``used``, or (None) with its present one.

    That one stays. None, for nothing to do, where the present one is right until a reboot, or the record is another.
    """
    now = next_secrets_of(auth)
    if used is not None:
        changed = with_secret(auth, used, now.salt) if used in now.hashes else None
        # Whatever was told to it after that one, it did not take; unless it takes it when it reboots.
        return changed if changed is None or now.needs_reboot else _without_members(changed)
    return None if now.needs_reboot or not now.hashes else _without_members(auth)


def _with(auth: Auth, wanted: NextSecrets) -> dict[str, Any]:
    changed = _without_members(auth)
    if not wanted.hashes:
        return changed
    newest, *earlier = wanted.hashes
    changed[_HASH] = newest
    if wanted.salt is not None:
        changed[_SALT] = wanted.salt
    context: dict[str, Any] = {"replaces": trace_of(auth)}
    if earlier:
        context["earlierHashes"] = earlier
    if wanted.needs_reboot:
        context["needsReboot"] = True
    changed[_CONTEXT] = context
    return changed


def _without_members(auth: Auth) -> dict[str, Any]:
    return {name: value for name, value in auth.items() if name not in (_HASH, _SALT, _CONTEXT)}


def _trace(stored: str | None, salt: str | None) -> str:
    parts = repr((stored, salt)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(parts, digest_size=_TRACE_BYTES).hexdigest()
