"""The ``ocpp-gateway`` command: the gateway's tools for people. The daemon itself is ``twistd ocpp-gateway``."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    from ocpp_gateway.cli.app import ocpp_gateway

    ocpp_gateway(prog_name="ocpp-gateway")
