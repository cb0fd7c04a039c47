"""The TLS files of a gateway, in several sets that can be put in force; nothing of the product is used."""

from __future__ import annotations

import ssl
from pathlib import Path

from attrs import define, field
from support.certificates import Authority, Issued

CERTIFICATES = 5
"""That each authority's charge points share: to make a thousand takes longer than to check them."""


@define(eq=False)
class Files:
    """What a gateway reads: ``current`` is a link to one of several sets, as Kubernetes has it."""

    directory: Path
    server_root: Authority = field(factory=lambda: Authority("Example Server Root"))
    old: Authority = field(factory=lambda: Authority("Example Old CA"))
    kept: Authority = field(factory=lambda: Authority("Example Kept CA"))
    new: Authority = field(factory=lambda: Authority("Example New CA"))
    servers: dict[str, Issued] = field(factory=dict)
    clients: dict[str, list[Issued]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        (self.directory / "root.pem").write_bytes(self.server_root.certificate_pem)
        self.make("first", self.old, self.kept)
        self.make("second", self.kept, self.new)
        self.turn_to("first")
        self.clients = {
            name: [authority.issue(f"{name}-{number}") for number in range(CERTIFICATES)]
            for name, authority in (("old", self.old), ("kept", self.kept), ("new", self.new))
        }

    def make(self, name: str, *authorities: Authority) -> None:
        directory = self.directory / name
        directory.mkdir()
        self.servers[name] = self.server_root.issue(name, sans=["IP:127.0.0.1"], client=False)
        self.servers[name].write(directory, "server")
        (directory / "ca.pem").write_bytes(b"".join(each.certificate_pem for each in authorities))

    def turn_to(self, name: str) -> None:
        link = self.directory / "next"
        link.symlink_to(name)
        link.replace(self.directory / "current")

    @property
    def current(self) -> Path:
        return self.directory / "current"

    def settings(self, reload_seconds: str) -> dict[str, str]:
        return {
            "OCPP_TLS_ENABLED": "true",
            "OCPP_TLS_CLIENT_AUTH": "optional",
            "OCPP_TLS_CERT_PATH": str(self.current / "server.pem"),
            "OCPP_TLS_KEY_PATH": str(self.current / "server.key"),
            "OCPP_TLS_CA_PATH": str(self.current / "ca.pem"),
            "OCPP_TLS_RELOAD_SECONDS": reload_seconds,
        }

    def client(self, issued: Issued | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "root.pem"))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if issued is not None:
            context.load_cert_chain(*issued.write(self.directory, f"client-{issued.fingerprint[:16]}"))
        return context


def der(issued: Issued) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_pem.decode())
