"""What an operator should know about the settings of a gateway that starts with them all the same."""

from __future__ import annotations

from collections.abc import Mapping

from autobahn.websocket import USES_NVX
from twisted.logger import Logger

from ocpp_gateway.adapters.tokens import IdTokenPolicy
from ocpp_gateway.environment import without_effect
from ocpp_gateway.settings import Settings, client_auths

log = Logger()


def tell(settings: Settings, environ: Mapping[str, str]) -> None:
    """Log a warning for each. ``environ`` is what the settings were read from."""
    if not USES_NVX:
        log.warn(
            "Autobahn runs without its native code, at a third of the speed: install a wheel that has it",
            event="gateway.no_nvx",
        )
    if IdTokenPolicy(settings.ocpp_id_token_policy) is IdTokenPolicy.ACCEPT:
        log.warn(
            "Every id token is accepted: set OCPP_ID_TOKEN_POLICY=registry to look them up",
            event="gateway.accepts_all_id_tokens",
        )
    if settings.ocpp_tls_cert_path and not client_auths(settings):
        log.warn(
            "There are TLS certificates but no port uses them: set OCPP_TLS_ENABLED=true",
            event="gateway.tls_unused",
        )
    unused = without_effect(environ)
    if unused:
        log.warn(
            "Nothing reads {variables}: of another release, or misspelt",
            event="gateway.unused_settings",
            variables=", ".join(unused),
        )
