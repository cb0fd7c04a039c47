"""Work in Redis that leaves a trace in Kafka."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ocpp_gateway.cli.failure import printable
from ocpp_gateway.cli.reactor import run_in_reactor

if TYPE_CHECKING:
    from ocpp_gateway.cli.audit import Deed
    from ocpp_gateway.cli.endpoints import Places

_Result = TypeVar("_Result")


def audited(places: Places, work: Callable[[Any], Coroutine[Any, Any, tuple[_Result, list[Deed]]]]) -> _Result:
    """Run ``work(reactor)``, tell Kafka of the deeds that it gives, and return what else it gives.

    When Kafka cannot be told the command says so, and has still done its work.
    """

    async def both(reactor: Any) -> tuple[_Result, str | None]:
        from ocpp_gateway.cli.audit import publish

        result, deeds = await work(reactor)
        return result, await publish(places, reactor, deeds)

    result, trouble = run_in_reactor(both)
    if trouble is not None:
        click.echo(f"Warning: done, but the audit event is not in Kafka: {printable(trouble)}", err=True)
    return result
