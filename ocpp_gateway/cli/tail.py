"""``ocpp-gateway tail``: what the gateway publishes, as it happens."""

from __future__ import annotations

import os
import sys

import click

from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.events import TOPICS, EventPrinter, open_tail
from ocpp_gateway.cli.failure import printable
from ocpp_gateway.cli.signals import terminates_as_interrupt


@click.command(short_help="Follow the events that the gateway publishes.")
@click.option(
    "--topic",
    "names",
    multiple=True,
    metavar="NAME",
    help=f"One of {', '.join(TOPICS)}, or a topic's full name; repeatable [default: all of these].",
)
@click.option(
    "--charge-point", "charge_points", multiple=True, metavar="ID", help="Only of this charge point; repeatable."
)
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest event that Kafka has, not with the next.")
@click.option("--max-events", type=click.IntRange(1), metavar="N", help="Stop after N events.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one JSON object a line.")
@click.pass_obj
def tail(
    places: Places,
    *,
    names: tuple[str, ...],
    charge_points: tuple[str, ...],
    from_beginning: bool,
    max_events: int | None,
    as_json: bool,
) -> None:
    """Follow the events that the gateway publishes, a line each. Ctrl-C ends it.

    No consumer group is joined and nothing is committed: reading along takes no event from anybody.
    """
    topics = tuple(dict.fromkeys(TOPICS.get(name, name) for name in names or TOPICS))
    with terminates_as_interrupt():
        try:
            source = open_tail(places, topics, from_beginning=from_beginning)
            try:
                printer = EventPrinter(
                    source,
                    write=lambda text, style: click.secho(text, fg=style or None),
                    notice=lambda text: click.echo(f"Kafka: {printable(text)}", err=True),
                    as_json=as_json,
                    charge_points=charge_points,
                    most=max_events,
                )
                while printer.step():
                    pass
            finally:
                source.close()
        except KeyboardInterrupt:
            pass  # the ordinary end
        except BrokenPipeError:
            # Whoever reads our output has enough, as in "tail | head"; nothing more may be flushed there at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
