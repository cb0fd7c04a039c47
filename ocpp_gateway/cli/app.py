"""The command line's root: where Redis, Kafka and the gateway are, and the commands.

Modules of commands import what they need inside their functions: ``--help`` and typing mistakes answer at once.
"""

from __future__ import annotations

import os

import click
from click.core import ParameterSource

from ocpp_gateway.cli.ban import ban
from ocpp_gateway.cli.cert import cert
from ocpp_gateway.cli.charger import charger
from ocpp_gateway.cli.command import command
from ocpp_gateway.cli.demo import demo
from ocpp_gateway.cli.endpoints import Places
from ocpp_gateway.cli.nodes import nodes
from ocpp_gateway.cli.pki import pki
from ocpp_gateway.cli.sessions import session, sessions
from ocpp_gateway.cli.simulate import simulate
from ocpp_gateway.cli.tail import tail


def _version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"ocpp-gateway {version('ocpp-gateway')}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--dev", is_flag=True, help="Use the Redis and Kafka of a gateway started with --dev on this machine.")
@click.option(
    "--redis-url",
    envvar="REDIS_URL",
    metavar="URL",
    help="[env: REDIS_URL; default: redis://localhost:6379]. A URL with a password belongs into the variable.",
)
@click.option("--kafka-brokers", envvar="KAFKA_BROKERS", metavar="HOST:PORT,...", help="[env: KAFKA_BROKERS]")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def ocpp_gateway(context: click.Context, dev: bool, redis_url: str | None, kafka_brokers: str | None) -> None:
    """Tools around the OCPP gateway: who may connect, who is connected, commands, charge points to try it with, events.

    The gateway itself is started with 'twistd -n ocpp-gateway'. For a first look: ocpp-gateway demo
    """
    on_command_line = context.get_parameter_source("redis_url") is ParameterSource.COMMANDLINE
    if redis_url and on_command_line and "@" in redis_url:
        raise click.UsageError(
            "--redis-url with a password shows it to everybody who lists processes: set REDIS_URL instead."
        )
    context.obj = Places(
        dev=dev,
        redis_url=redis_url or None,
        kafka_brokers=kafka_brokers or None,
        environ=dict(os.environ),
    )


for _command in (charger, cert, pki, sessions, session, command, nodes, ban, simulate, tail, demo):
    ocpp_gateway.add_command(_command)
