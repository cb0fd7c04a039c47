"""What the checks of a charge point's right to connect can end with."""

from __future__ import annotations

from ocpp_gateway.errors import GatewayError

_BASIC = 'Basic realm="ocpp"'
_BEARER = 'Bearer realm="ocpp"'


class AuthenticationFailed(GatewayError):
    """A charge point may not connect, or not like this. ``reason`` is one of the contract's stable labels."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The challenge that a 401 must carry (RFC 9110 section 11.6.1); the same for whatever was wrong."""
        if self.reason.startswith("basic_"):
            return (("WWW-Authenticate", _BASIC),)
        if self.reason.startswith("token_"):
            return (("WWW-Authenticate", _BEARER),)
        return ()


class IdentityRecordInvalid(GatewayError):
    """An identity record cannot be used. ``problem`` tells the operator the field, never its value."""

    reason = "identity_invalid"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
