"""Tells twistd about ``twistd ocpp-gateway``. Imports nothing of the gateway, so that other plugins stay fast."""

from twisted.application.service import ServiceMaker

ocpp_gateway = ServiceMaker(
    "OCPP gateway",
    "ocpp_gateway.tap",
    "Connect EV charge points (OCPP 1.6J, 2.0.1, 2.1) to Kafka.",
    "ocpp-gateway",
)
