"""An OCPP gateway: charge points on one side, Kafka and Redis on the other."""
