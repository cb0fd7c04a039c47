"""``ocpp-gateway demo``: a gateway, three charge points and the events that they cause, on one terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import click

from ocpp_gateway.cli.client_tls import ClientTls
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.failure import Failure
from ocpp_gateway.settings import EMBEDDED

if TYPE_CHECKING:
    from rich.console import Console

    from ocpp_gateway.cli.daemon import DevGateway
    from ocpp_gateway.kafka.tail import EventTail
    from ocpp_gateway.ops.dev_state import DevState
    from ocpp_gateway.simulator.fleet import Fleet

_CHARGE_POINTS = (("CP-001", "1.6"), ("CP-002", "2.0.1"), ("CP-003", "2.1"))
_EXTRA_PORTS = "WEBSOCKET_OCPP_EXTRA_PORTS"
_PREFIXES = ("REDIS_PREFIX", "OCPP_IDENTITY_PREFIX")


@click.command(short_help="A gateway, three charge points and their events, on one terminal.")
@click.option(
    "--interval", type=click.FloatRange(0.05), default=3.0, show_default=True, help="Seconds between meter values."
)
@click.option("--duration", type=click.FloatRange(0.1), metavar="SECONDS", help="End by itself after this time.")
@click.pass_obj
def demo(places: Places, *, interval: float, duration: float | None) -> None:
    """Start a gateway with built-in Redis and Kafka, connect three charge points, and show the events. Ctrl-C ends all.

    The charge points are CP-001 (OCPP 1.6), CP-002 (2.0.1) and CP-003 (2.1). PORT (3001) and WEBSOCKET_OCPP_PORT (8080)
    choose the gateway's ports. Nothing is kept: it is for a first look and for the bench.
    """
    from rich.console import Console

    from ocpp_gateway.cli.daemon import DevGateway
    from ocpp_gateway.cli.signals import terminates_as_interrupt

    console = Console(highlight=False, markup=False, soft_wrap=True)
    own = attrs.evolve(places, dev=True, environ=own_environment(places.environ))
    with terminates_as_interrupt():
        try:
            with DevGateway(own.environ, own.dev_state_file()) as gateway:
                with console.status("Starting the gateway, Redis and Kafka ..."):
                    state = gateway.wait_until_ready()
                started = attrs.evolve(own, running=state)
                prefixes = [name for name in _PREFIXES if places.environ.get(name)]
                if prefixes:
                    note = "is not used by the demo: unset it, too, where you type ocpp-gateway --dev ..."
                    console.print(f"{' and '.join(prefixes)} {note}", style="yellow")
                _show(console, started, gateway, state, interval, duration)
                with console.status("Stopping ..."):
                    gateway.stop()
        except (KeyboardInterrupt, click.Abort):
            console.print("Stopped.")


def own_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the demo's gateway: with a Redis and a Kafka of its own, whichever ``environ`` names.

    Prefixes, credentials and files go too: they are about servers that the demo must not touch. So do TLS and proxies:
    its charge points come straight, with a password.
    """
    kept = {name: value for name, value in environ.items() if not _is_not_the_demos(name)}
    return {**kept, "REDIS_URL": EMBEDDED, "KAFKA_BROKERS": EMBEDDED}


def _is_not_the_demos(name: str) -> bool:
    return name.startswith(("REDIS_", "KAFKA_", "OCPP_TLS_", "OCPP_PROXY_")) or name in (*_PREFIXES, _EXTRA_PORTS)


def _show(
    console: Console, places: Places, gateway: DevGateway, state: DevState, interval: float, duration: float | None
) -> None:
    from ocpp_gateway.cli.events import TOPICS, open_tail
    from ocpp_gateway.cli.fleets import Troubles, summary, until_stopped
    from ocpp_gateway.cli.passwords import new_password
    from ocpp_gateway.cli.provisioning import provision_all
    from ocpp_gateway.cli.simulate import targets_of
    from ocpp_gateway.ocppj.versions import OcppVersion
    from ocpp_gateway.simulator.fleet import Fleet
    from ocpp_gateway.simulator.plan import Plan

    console.print("The gateway is ready.", style="green")
    console.print(f"  charge points  ws://127.0.0.1:{state.ocpp_port}/ocpp/VERSION/IDENTITY")
    console.print(f"  HTTP           http://127.0.0.1:{state.http_port}/ready  /metrics")
    secrets = {cp_id: new_password() for cp_id, _ in _CHARGE_POINTS}
    provision_all(places, secrets)
    console.print(f"Let in {', '.join(secrets)}, each with a password of its own. In another terminal:")
    console.print("  ocpp-gateway --dev charger list                 who may connect")
    console.print("  ocpp-gateway --dev charger add CP-004           let in one of yours")
    console.print("  ocpp-gateway --dev simulate --provision --count 100")
    console.print("Their events, as they are in Kafka (Ctrl-C ends all):", style="bold")

    tail = open_tail(places, tuple(TOPICS.values()), from_beginning=True)
    try:
        targets = []
        for cp_id, number in _CHARGE_POINTS:
            version = OcppVersion.from_path(number)
            if version is not None:
                base = f"ws://127.0.0.1:{state.ocpp_port}"
                targets += targets_of(base, [cp_id], [version], secrets[cp_id], is_token=False, tls=ClientTls())
        fleet = Fleet(
            targets=targets,
            plan=Plan(meter_interval=interval, readings=6, pause=interval),
            on_trouble=Troubles(lambda text, advice: console.print(text, style="yellow")),
        )
        asyncio.run(until_stopped(lambda stop: _run(fleet, tail, console, gateway, stop), duration))
    finally:
        tail.close()
    console.print(summary(fleet.tally))
    if fleet.refused:
        raise Failure(str(fleet.refused[0]), places.advice(fleet.refused[0].advice))
    if gateway.has_ended:
        raise gateway.failure(f"The gateway has ended by itself, {gateway.ending}.")


async def _run(fleet: Fleet, tail: EventTail, console: Console, gateway: DevGateway, stop: asyncio.Event) -> None:
    """The fleet here, the events in a thread beside it; both end together, the events last."""
    from ocpp_gateway.cli.events import EventPrinter

    printer = EventPrinter(
        tail,
        write=lambda text, style: console.print(text, style=style or None),
        notice=lambda text: console.print(f"Kafka: {text}", style="yellow"),
    )
    done = False

    def follow() -> None:
        while not done and not gateway.has_ended:
            printer.step()
        stop_soon()

    loop = asyncio.get_running_loop()

    def stop_soon() -> None:
        loop.call_soon_threadsafe(stop.set)

    following = loop.run_in_executor(None, follow)
    try:
        await fleet.run(stop)
    finally:
        done = True
        await following
    printer.step()  # the last words of the charge points
