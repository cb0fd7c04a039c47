"""What every answer of the HTTP port has in common, and the token that most of it asks for."""

from __future__ import annotations

from hmac import compare_digest

from attrs import define
from twisted.web.http import FORBIDDEN, UNAUTHORIZED
from twisted.web.server import Request

_JSON = b"application/json"


def begin(request: Request, status: int, content_type: bytes = _JSON) -> None:
    """Set what is sent before the body."""
    request.setResponseCode(status)
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"cache-control", b"no-store")
    request.responseHeaders.removeHeader(b"server")


def answer(request: Request, status: int, body: bytes, content_type: bytes = _JSON) -> bytes:
    """Set what is sent before ``body``, and give it back."""
    begin(request, status, content_type)
    return body


@define(eq=False)
class Guard:
    """HEALTH_METRICS_AUTH_TOKEN; empty: not set."""

    token: bytes

    def refusal(self, request: Request) -> bytes | None:
        """The answer to who may not see what the token guards where it is set; None to who may."""
        if not self.token or self.is_shown(request):
            return None
        request.setHeader(b"www-authenticate", b'Bearer realm="ocpp-gateway"')
        return answer(request, UNAUTHORIZED, b'{"error":"unauthorized"}')

    def strict_refusal(self, request: Request) -> bytes | None:
        """The same for what nobody may see or do while no token is set."""
        if not self.token:
            return answer(request, FORBIDDEN, b'{"error":"token_not_set"}')
        return self.refusal(request)

    def is_shown(self, request: Request) -> bool:
        """Whether a token is set, and ``request`` has it."""
        header = request.getHeader(b"authorization") or b""
        return bool(self.token) and compare_digest(header, b"Bearer " + self.token)
