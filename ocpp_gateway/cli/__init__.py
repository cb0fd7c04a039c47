"""The ``ocpp-gateway`` command: the gateway's tools for people. The daemon itself is ``twistd ocpp-gateway``."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console script."""
    try:
        from ocpp_gateway.cli.app import ocpp_gateway

        ocpp_gateway(prog_name="ocpp-gateway")
    except KeyboardInterrupt:  # so early, or so late, that no command has a word to say about it
        raise SystemExit(130) from None
