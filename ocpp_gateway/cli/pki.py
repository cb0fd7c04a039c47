"""``ocpp-gateway pki``: an authority, server certificates and charge points' certificates, to try TLS and mTLS with."""

from __future__ import annotations

import shlex
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure, printable
from ocpp_gateway.cli.pki_files import PkiDirectory
from ocpp_gateway.cli.pki_show import show
from ocpp_gateway.cli.store import require_identity

if TYPE_CHECKING:
    from ocpp_gateway.cli.authority import Authority, Issued, KeyKind

_NOT_FOR_PRODUCTION = (
    "This authority is for trying and for tests: its key lies in a file. In production use one of your own."
)
_DAYS = click.IntRange(1, 36_500)
_CRL_DAYS = 30
_LONGEST_COMMON_NAME = 64
_directory_option = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("pki"),
    show_default=True,
    help="Where its files are.",
)
_days_option = click.option(
    "--days", type=_DAYS, default=365, show_default=True, metavar="N", help="How long certificates are valid."
)


@click.group(short_help="Certificates to try TLS and mTLS with: init, issue, revoke, show.")
def pki() -> None:
    """Certificates to try TLS and client certificates with, from a throw-away authority. Not for production.

    The authority's key lies unprotected in a directory, which is fine on the bench and nowhere else.
    """


@pki.command(short_help="A throw-away authority and the gateway's certificates.")
@_directory_option
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name or address by which charge points reach the gateway; repeatable, the first is the common name "
    "[default: localhost, 127.0.0.1, ::1 and this machine's name].",
)
@click.option("--organization", default="Example", show_default=True, metavar="O", help="Owner of all certificates.")
@_days_option
@click.option("--force", is_flag=True, help="Replace an authority that is there: what it issued is then worth nothing.")
def init(directory: Path, *, hosts: tuple[str, ...], organization: str, days: int, force: bool) -> None:
    """Make a throw-away authority and the gateway's certificates, RSA and ECDSA. Not for production.

    Prints the gateway's settings for them, and writes them to gateway.env: twistd -n ocpp-gateway --env-file
    pki/gateway.env
    """
    from ocpp_gateway.cli.authority import Authority, pem

    files = PkiDirectory(directory)
    settings = files.environment()
    there = [path for path in files.own_files() if path.exists()]
    if there and not force:
        raise Failure(
            f"{directory} has an authority already: {there[0].name}.",
            "Choose another --directory, or give --force: then all that it issued is worth nothing.",
        )
    lost = _lost(files) if there else []
    now = datetime.now(UTC)
    names = list(dict.fromkeys(hosts)) or _own_names()
    try:
        authority = Authority.new(organization, days=days, now=now)
        kinds: tuple[KeyKind, ...] = ("rsa", "ec")
        servers = [authority.server(names, kind, days=days, now=now) for kind in kinds]
    except ValueError as error:
        raise Failure(f"No certificate can be made like this: {error}") from None
    content = {
        files.ca: pem(authority.certificate),
        files.ca_key: authority.key_pem(),
        files.crl: pem(authority.revocation_list((), 1, days=_CRL_DAYS, now=now)),
    }
    for (cert_file, key_file), issued in zip(files.servers(), servers, strict=True):
        content[cert_file] = pem(issued.certificate) + pem(authority.certificate)
        content[key_file] = issued.key_pem()
    lines = "".join(f"{name}={value}\n" for name, value in settings.items())
    content[files.settings] = lines.encode()
    files.write(content)
    for text in lost:
        click.echo(printable(text), err=True)
    click.echo(lines, nl=False)
    click.echo(f"Written to {files.settings}: twistd -n ocpp-gateway --env-file {_word(files.settings)}", err=True)
    click.echo(f"The server certificates are for {', '.join(names)}.", err=True)
    click.echo(f"Charge points trust {files.ca}. To let one in by a certificate:", err=True)
    click.echo("  ocpp-gateway charger add CP-001 --auth mtls", err=True)
    click.echo(f"  ocpp-gateway pki issue CP-001 --bind --directory {_word(directory)}", err=True)
    anew = f"ocpp-gateway pki revoke --directory {_word(directory)}"
    click.echo(f"{files.crl} is due in {_CRL_DAYS} days; to sign it anew: {anew}", err=True)
    click.echo(_NOT_FOR_PRODUCTION, err=True)


@pki.command(short_help="A charge point's certificate and key.")
@click.argument("charge_point_id")
@_directory_option
@click.option("--organization", metavar="O", help="The charge point's owner [default: that of the authority].")
@click.option(
    "--common-name",
    metavar="CN",
    help="Its serial number, as OCPP wants it: at most 25 characters, and what a BootNotification of OCPP 2.x then has "
    "to name (OCPP 2.0.1 B01.FR.11) [default: its identity, which needs no binding].",
)
@click.option("--key", "kind", type=click.Choice(["ec", "rsa"]), default="ec", show_default=True)
@_days_option
@click.option(
    "--bind/--no-bind",
    "wants_binding",
    default=False,
    help="Also bind it to its record, as 'cert bind' does [default: no].",
)
@click.option("--force", is_flag=True, help="Replace a certificate that is there, and its key.")
@click.pass_obj
def issue(
    places: Places,
    charge_point_id: str,
    *,
    directory: Path,
    organization: str | None,
    common_name: str | None,
    kind: Literal["ec", "rsa"],
    days: int,
    wants_binding: bool,
    force: bool,
) -> None:
    """Issue a charge point's certificate, with its key, from the authority that 'pki init' made. Not for production."""
    from ocpp_gateway.cli import bindings
    from ocpp_gateway.cli.authority import pem
    from ocpp_gateway.cli.binding_changes import bind_to, tell_common_name
    from ocpp_gateway.cli.certificate_files import facts_of

    require_identity(places, charge_point_id)
    files = PkiDirectory(directory)
    authority = files.authority()
    cert_file, key_file = files.charge_point(charge_point_id)
    there = [path for path in (cert_file, key_file) if path.exists()]
    if there and not force:
        raise Failure(f"{there[0]} is there already.", "To replace it, and lose its key, give --force.")
    lost = _told(cert_file) if there else None
    try:
        issued: Issued = authority.charge_point(
            charge_point_id if common_name is None else common_name,
            organization,
            kind,
            days=days,
            now=datetime.now(UTC),
        )
    except ValueError as error:
        raise Failure(
            f"No certificate can be made like this: {error}",
            "A common name has at most 64 characters: choose one with --common-name."
            if common_name is None and len(charge_point_id) > _LONGEST_COMMON_NAME
            else "",
        ) from None
    files.write({cert_file: pem(issued.certificate), key_file: issued.key_pem()})
    facts = facts_of(issued.certificate, cert_file)
    if lost is not None:
        click.echo(printable(f"Replaced {lost}. Revoke it if nobody may use it any more."), err=True)
    click.echo(f"certificate    {cert_file}")
    click.echo(f"key            {key_file}")
    click.echo(printable(f"subject        {facts.subject}"))
    click.echo(f"serial number  {facts.serial_number}")
    click.echo(f"fingerprint    {facts.fingerprint}")
    click.echo(f"valid until    {issued.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    tell_common_name(charge_point_id, facts)
    click.echo(_NOT_FOR_PRODUCTION, err=True)
    if not wants_binding:
        return
    binding = bindings.binding_of(facts, by_subject=False, valid_from=None, valid_to=None)
    try:
        bind_to(places, charge_point_id, facts, binding, reason="issued by the throw-away authority")
    except Failure as failure:
        then = f"Then: ocpp-gateway cert bind {shlex.quote(charge_point_id)} {_word(cert_file)}"
        raise Failure(
            f"The certificate is written, and not bound. {failure.message}",
            places.advice(f"{failure.hint}\n{then}".strip()),
        ) from None


@pki.command(short_help="Put a certificate on the authority's revocation list.")
@click.argument("cert_file", required=False, type=click.Path(path_type=Path))
@_directory_option
@click.option(
    "--days", type=_DAYS, default=_CRL_DAYS, show_default=True, metavar="N", help="When the next list is due."
)
def revoke(cert_file: Path | None, *, directory: Path, days: int) -> None:
    """Put a certificate on the authority's revocation list (crl.pem), and sign the list anew.

    Without CERT_FILE it is only signed anew: a gateway takes no certificate while the list is overdue. The gateway
    reads it again by itself (OCPP_TLS_RELOAD_SECONDS). To revoke one without a list: ocpp-gateway cert revoke
    """
    from cryptography import x509

    from ocpp_gateway.cli.authority import pem
    from ocpp_gateway.cli.certificate_files import certificate_in, facts_of, number_of

    files = PkiDirectory(directory)
    authority = files.authority()
    before = files.revocation_list()
    if before is not None and not before.is_signature_valid(authority.key.public_key()):
        raise Failure(f"{files.crl} is not signed by the authority in {directory}.", "Remove it, and revoke again.")
    entries = list(before) if before is not None else []
    now = datetime.now(UTC)
    told = ""
    if cert_file is not None:
        certificate = certificate_in(cert_file)
        if not authority.has_issued(certificate):
            raise Failure(
                f"{cert_file} is not from the authority in {directory}.",
                "To revoke it all the same: ocpp-gateway cert revoke",
            )
        facts = facts_of(certificate, cert_file)
        told = f"{facts.subject} (serial number {facts.serial_number})"
        if any(entry.serial_number == certificate.serial_number for entry in entries):
            told += " was revoked already"
        else:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now)
            entries.append(entry.build())
            told += " revoked"
    number = (number_of(before) or 0) + 1 if before is not None else 1
    files.write({files.crl: pem(authority.revocation_list(entries, number, days=days, now=now))})
    if told:
        click.echo(printable(told))
    many = "1 certificate" if len(entries) == 1 else f"{len(entries)} certificates"
    click.echo(f"{files.crl}: list {number}, {many}, the next one due in {days} days", err=True)


pki.add_command(show)


def _word(path: Path) -> str:
    """A path as it has to be typed."""
    return shlex.quote(str(path))


def _own_names() -> list[str]:
    from ocpp_gateway.cli.authority import is_host

    return [*dict.fromkeys(("localhost", "127.0.0.1", "::1", *filter(is_host, [socket.gethostname()])))]


def _lost(files: PkiDirectory) -> list[str]:
    """What ``pki init --force`` makes worthless, in words."""
    try:
        authority = files.authority()
    except Failure:
        return ["What was there was no whole authority any more; it is replaced."]
    told = [f"Replaced the authority {authority.certificate.subject.rfc4514_string()} and the server certificates."]
    others = [path for path in sorted(files.path.glob("*.pem")) if path not in files.own_files()]
    orphans = [path.name for path in others if _is_of(authority, path)]
    if orphans:
        told.append(f"It had issued these, which no gateway takes any more: {', '.join(orphans)}")
    return told


def _is_of(authority: Authority, path: Path) -> bool:
    from ocpp_gateway.cli.certificate_files import certificate_in

    try:
        return authority.has_issued(certificate_in(path))
    except Failure:
        return False


def _told(path: Path) -> str:
    """Which certificate is in ``path``, in words."""
    from ocpp_gateway.cli.certificate_files import certificate_in, facts_of

    try:
        facts = facts_of(certificate_in(path), path)
    except Failure:
        return f"{path}, which was no certificate"
    return f"the certificate with the fingerprint {facts.fingerprint}, until then in {path}, and its key"
