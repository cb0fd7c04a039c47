"""Where Redis is: the one setting ``REDIS_URL``, taken apart.

========================================== ==========================================================
``redis://[[user]:password@]host[:port][/db]``   plain TCP
``rediss://…``                                   TLS; the server's certificate is always checked
``unix://[[user]:password@]/path/of.sock[?db=n]`` a socket on this machine
``embedded://``                                  a redis-server of our own, for development
========================================== ==========================================================

``rediss://`` takes ``ssl_ca_certs`` (PEM file of the authorities to trust instead of the system's), ``ssl_certfile``
and ``ssl_keyfile`` (our own certificate) as query parameters. User and password are percent-decoded.

What is wrong with a URL is said without repeating any piece of it: a password with an unescaped ``/`` or ``@`` ends
up in whatever piece one would quote.
"""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import field, frozen

_SCHEMES = ("redis", "rediss", "unix", "embedded")
_TLS_FILES = {"ssl_ca_certs": "ca_file", "ssl_certfile": "certificate_file", "ssl_keyfile": "key_file"}
_DEFAULT_PORT = 6379
_UNESCAPED = "a '/', '?', '#' or '@' in the password must be percent-encoded"


@frozen(kw_only=True)
class RedisUrl:
    """A parsed ``REDIS_URL``. ``str()`` of it names the place without the credential, fit for logs."""

    scheme: str
    host: str = ""
    port: int = _DEFAULT_PORT
    socket_path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether we start the server ourselves."""
        return self.scheme == "embedded"

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "rediss"

    def __str__(self) -> str:
        if self.is_embedded:
            return "embedded://"
        if self.scheme == "unix":
            return f"unix://{self.socket_path}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.db}"

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Take ``text`` apart; ValueError says what is wrong with it, without a piece of it."""
        try:
            url = urlsplit(text.strip())
            port = url.port
        except ValueError:
            _refuse(f"the host or port is not valid ({_UNESCAPED})")
        if url.scheme not in _SCHEMES:
            _refuse("it must begin with redis://, rediss://, unix:// or be embedded://")
        if url.fragment or "#" in text:
            _refuse(f"it has a '#' part ({_UNESCAPED})")
        if url.scheme == "embedded":
            if url.netloc or url.path or url.query:
                _refuse("embedded:// takes nothing behind it")
            return cls(scheme="embedded")
        username, password = _credential(url)
        query = _query(url)
        files = {_TLS_FILES[name]: query[name] for name in _TLS_FILES if name in query}
        if url.scheme == "unix":
            if url.hostname or not url.path.startswith("/"):
                _refuse("unix:// needs an absolute path: unix:///path/of.sock")
            return cls(
                scheme="unix",
                socket_path=unquote(url.path),
                db=_database(query.get("db", "0")),
                username=username,
                password=password,
            )
        if not url.hostname:
            _refuse(f"the host is missing ({_UNESCAPED})")
        in_path = url.path.strip("/")
        if in_path and "db" in query:
            _refuse("the database is given twice")
        return cls(
            scheme=url.scheme,
            host=url.hostname,
            port=_DEFAULT_PORT if port is None else port,
            db=_database(in_path or query.get("db", "0")),
            username=username,
            password=password,
            **files,
        )


def _refuse(problem: str) -> NoReturn:
    raise ValueError(problem) from None


def _credential(url: SplitResult) -> tuple[str | None, str | None]:
    username = unquote(url.username) if url.username else None
    password = unquote(url.password) if url.password else None
    if username is not None and password is None:
        _refuse("it has a user name but no password; a password alone is written redis://:password@host")
    return username, password


def _query(url: SplitResult) -> dict[str, str]:
    known = {"db", *(_TLS_FILES if url.scheme == "rediss" else ())}
    query: dict[str, str] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in known or name in query:
            _refuse(f"of query parameters it may have each of these once: {', '.join(sorted(known))} ({_UNESCAPED})")
        if not value:
            _refuse(f"the query parameter {name} is empty")
        query[name] = value
    if ("ssl_certfile" in query) != ("ssl_keyfile" in query):
        _refuse("ssl_certfile and ssl_keyfile go together")
    return query


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        _refuse(f"the database must be a small number ({_UNESCAPED})")
    return int(text)
