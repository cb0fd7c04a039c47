"""``ocpp-gateway simulate``: charge points that boot, charge and come back, from one to hundreds."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import click

from ocpp_gateway.cli.client_tls import ClientTls
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.cli.passwords import Secret, given_secret, new_password, secret_options
from ocpp_gateway.cli.store import require_identity

if TYPE_CHECKING:
    from ocpp_gateway.ocppj.versions import OcppVersion
    from ocpp_gateway.simulator.connection import Target

_VERSIONS = ("1.6", "2.0.1", "2.1")
_PASSWORD_VARIABLE = "OCPP_SIMULATE_PASSWORD"  # noqa: S105
_OUR_PATH = re.compile(r"/ocpp/(?:([^/]+)/)?([^/]+)/?")


@click.command(short_help="Charge points that boot, charge and come back, from one to hundreds.")
@click.option(
    "--url", metavar="URL", help="The gateway [default: that of this machine, wss:// where it has TLS]. See above."
)
@click.option("--id", "charge_point_id", metavar="ID", help="Identity of the one charge point [default: CP-001].")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many charge points.")
@click.option("--prefix", default="CP-SIM-", show_default=True, help="With --count: identities are this and a number.")
@click.option(
    "--ocpp",
    "versions",
    multiple=True,
    type=click.Choice(_VERSIONS),
    help="OCPP version; given more than once, charge points take turns [default: 1.6].",
)
@secret_options
@click.option("--token", "is_token", is_flag=True, help="The secret is a bearer token, not a password.")
@click.option(
    "--provision",
    is_flag=True,
    help="First write their identity records, with a new password, to Redis; not over those of others.",
)
@click.option("--ca", metavar="FILE", help="For wss: trust these authorities (PEM), not the system's.")
@click.option(
    "--cert",
    metavar="FILE",
    help="For wss: show this client certificate (PEM). {id} in the path stands for the identity.",
)
@click.option("--key", metavar="FILE", help="Its private key [default: in the --cert file]. {id} as there.")
@click.option(
    "--interval", type=click.FloatRange(0.01), default=10.0, show_default=True, help="Seconds between meter values."
)
@click.option("--meter-values", type=click.IntRange(0), default=6, show_default=True, help="Meter values in a session.")
@click.option("--pause", type=click.FloatRange(0), default=5.0, show_default=True, help="Seconds between two sessions.")
@click.option(
    "--sessions", type=click.IntRange(1), help="Stop after so many sessions of each [default: go on until Ctrl-C]."
)
@click.option("--idle", is_flag=True, help="Do not charge, only be there: for commands from the back end.")
@click.option(
    "--id-token", default="", metavar="TOKEN", help="The driver's card [default: another one for each session]."
)
@click.option("--duration", type=click.FloatRange(0.1), metavar="SECONDS", help="Stop after this time.")
@click.pass_obj
def simulate(
    places: Places,
    *,
    url: str | None,
    charge_point_id: str | None,
    count: int,
    prefix: str,
    versions: tuple[str, ...],
    ask: bool,
    password_file: str | None,
    hex_key: bool,
    is_token: bool,
    provision: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
    interval: float,
    meter_values: int,
    pause: float,
    sessions: int | None,
    idle: bool,
    id_token: str,
    duration: float | None,
) -> None:
    """Connect simulated charge points that boot, report status, charge with meter values and stop, again and again.

    URL is where the gateway listens: ws://HOST:PORT (then /ocpp/VERSION/ID is added), or any other URL, to which the
    identity is added as a charge point does it; or the whole ws://HOST:PORT/ocpp/VERSION/ID of one charge point.

    The password comes from --password, --password-file or the variable OCPP_SIMULATE_PASSWORD, or is made up by
    --provision. With a certificate (--cert, OCPP security profile 3) none is needed; one that is given is sent, too.
    Lost connections come back by themselves. Ctrl-C lets them end their sessions first.
    """
    if idle and sessions is not None:
        raise click.UsageError("--idle and --sessions contradict each other.")
    if count > 1 and charge_point_id is not None:
        raise click.UsageError("--id is for one charge point; with --count give --prefix.")
    if key is not None and cert is None:
        raise click.UsageError("--key is the private key of a certificate: give that, too, with --cert.")
    if provision and cert is not None:
        raise click.UsageError(
            "--provision is for passwords. For a certificate: charger add ID --auth mtls, then cert bind ID FILE"
        )
    base, named_id, named_version = _taken_apart(
        url or _here(places, with_tls=cert is not None or ca is not None), one=count == 1 and charge_point_id is None
    )
    if base.startswith("ws:") and (cert is not None or ca is not None):
        raise click.UsageError("--cert and --ca are for TLS: the --url has to begin with wss://")
    ids = [charge_point_id or named_id or "CP-001"] if count == 1 else [f"{prefix}{n:03d}" for n in range(1, count + 1)]
    chosen = _versions(versions or ((named_version,) if named_version else ("1.6",)))
    if provision:
        if is_token or ask or password_file is not None:
            raise click.UsageError("--provision makes up a password: give none.")
        secret: Secret | None = new_password()
    else:
        secret = given_secret(
            ask=ask, password_file=password_file, hex_key=hex_key, variable=places.environ.get(_PASSWORD_VARIABLE)
        )
    tls = ClientTls(cert=cert, key=key, ca=ca)
    targets = targets_of(base, ids, chosen, secret, is_token=is_token, tls=tls)
    if provision and secret is not None:
        for cp_id in ids:
            require_identity(places, cp_id)
        from ocpp_gateway.cli.provisioning import provision_all

        provision_all(places, dict.fromkeys(ids, secret))

    from rich.console import Console

    from ocpp_gateway.cli.fleets import Troubles, show_while, summary, until_stopped
    from ocpp_gateway.simulator.fleet import Fleet
    from ocpp_gateway.simulator.plan import Plan

    console = Console(highlight=False, markup=False, stderr=True, soft_wrap=True)

    def tell(text: str, advice: str) -> None:
        console.print(text, style="yellow")
        if advice:
            console.print(f"  {places.advice(advice)}")

    if secret is None and cert is None:
        tell(
            f"No password was given (--password, --password-file, {_PASSWORD_VARIABLE}, --provision): trying without.",
            "",
        )

    fleet = Fleet(
        targets=targets,
        plan=Plan(
            sessions=0 if idle else sessions,
            readings=meter_values,
            meter_interval=interval,
            pause=pause,
            id_token=id_token,
        ),
        on_trouble=Troubles(tell),
    )
    asyncio.run(until_stopped(lambda stop: show_while(fleet, stop, console), duration))
    click.echo(summary(fleet.tally), err=True)
    if fleet.refused:
        raise Failure(f"{len(fleet.refused)} of {len(ids)} charge points were refused by the gateway.")
    if fleet.tally.lost_messages or (sessions is not None and not fleet.tally.finished_transactions):
        raise SystemExit(1)


def _here(places: Places, *, with_tls: bool) -> str:
    """The gateway of this machine."""
    scheme = "wss" if with_tls or places.has_tls() else "ws"
    return f"{scheme}://127.0.0.1:{places.ocpp_port()}"


def _taken_apart(url: str, *, one: bool) -> tuple[str, str | None, str | None]:
    """The URL to add identities to, and the identity and version that it names if it is one charge point's own."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise click.BadParameter("must look like ws://HOST:PORT or wss://HOST", param_hint="--url")
    if "@" in parts.netloc:
        raise click.BadParameter("takes no user and password: use --password or --password-file", param_hint="--url")
    match = _OUR_PATH.fullmatch(parts.path) if one else None
    if match is None or match[2].lower() in ("1.6", "1.6j", "2.0.1", "2.1"):
        return url.rstrip("/"), None, None
    version = (match[1] or "").lower().removesuffix("j")
    return f"{parts.scheme}://{parts.netloc}", unquote(match[2]), version if version in _VERSIONS else None


def _versions(names: tuple[str, ...]) -> list[OcppVersion]:
    from ocpp_gateway.ocppj.versions import OcppVersion

    return [version for name in names if (version := OcppVersion.from_path(name)) is not None]


def targets_of(
    base: str,
    ids: list[str],
    versions: list[OcppVersion],
    secret: Secret | None,
    *,
    is_token: bool,
    tls: ClientTls,
) -> list[Target]:
    """What each charge point connects to: versions take turns. Raises Failure where a file of ``tls`` is not right."""
    from ocpp_gateway.simulator.connection import Target

    is_secure = base.startswith("wss:")
    has_path = urlsplit(base).path not in ("", "/")
    targets = []
    for number, cp_id in enumerate(ids):
        version = versions[number % len(versions)]
        own = tls.of(cp_id) if is_secure else None
        middle = "" if has_path else f"/ocpp/{version.label.removesuffix('J')}"
        targets.append(
            Target(
                url=f"{base}{middle}/{quote(cp_id, safe='')}",
                cp_id=cp_id,
                version=version,
                secret=None if secret is None or is_token else secret.value,
                token=secret.value.decode("latin-1") if secret is not None and is_token else None,
                tls=None if own is None else own.context,
                shows_certificate=own is not None and own.shows_certificate,
                # With profile 3 the gateway compares the two (B01.FR.11 and .12 of OCPP 2.0.1).
                serial_number=None if own is None else own.common_name,
            )
        )
    return targets
