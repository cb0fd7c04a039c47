"""librdkafka's error codes, told as our own failures with a stable reason.

===========================  =========================================================================================
reason                       meaning
===========================  =========================================================================================
``kafka_unavailable``        no broker confirmed the record, or none answered
``kafka_queue_full``         our bounded queue is full (``errors.BusQueueFull``)
``kafka_topic_unknown``      the topic does not exist and the brokers do not create it
``kafka_not_authorized``     the brokers do not let us in, or not write there
``kafka_record_too_large``   the record is larger than ``message.max.bytes`` (ours, the broker's or the topic's)
``kafka_record_refused``     the brokers refuse this record as such
``kafka_client_restarted``   the client had a fatal error and was replaced; the record's fate is not known
``kafka_closed``             the producer is closed
===========================  =========================================================================================
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

from ocpp_gateway.errors import BusUnavailable

CLIENT_RESTARTED: Final = "kafka_client_restarted"
CLOSED: Final = "kafka_closed"
TOPIC_UNKNOWN: Final = "kafka_topic_unknown"
NOT_AUTHORIZED: Final = "kafka_not_authorized"
RECORD_TOO_LARGE: Final = "kafka_record_too_large"
RECORD_REFUSED: Final = "kafka_record_refused"

_REASONS: Final[dict[int, str]] = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: TOPIC_UNKNOWN,
    KafkaError._UNKNOWN_TOPIC: TOPIC_UNKNOWN,
    KafkaError._UNKNOWN_PARTITION: TOPIC_UNKNOWN,
    KafkaError.TOPIC_EXCEPTION: TOPIC_UNKNOWN,  # a name that no topic can have
    KafkaError.TOPIC_AUTHORIZATION_FAILED: NOT_AUTHORIZED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: NOT_AUTHORIZED,
    KafkaError.SASL_AUTHENTICATION_FAILED: NOT_AUTHORIZED,
    KafkaError._AUTHENTICATION: NOT_AUTHORIZED,
    KafkaError.MSG_SIZE_TOO_LARGE: RECORD_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE: RECORD_TOO_LARGE,
    KafkaError.INVALID_RECORD: RECORD_REFUSED,
    KafkaError.POLICY_VIOLATION: RECORD_REFUSED,
}


class DeliveryFailed(BusUnavailable):
    """A record, or a question to the cluster, that Kafka did not confirm. ``reason``: see the module.

    ``permanent`` says that the same record would fail again: waiting and trying again cannot help.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    @property
    def permanent(self) -> bool:
        """Whether the record itself is at fault."""
        return self.reason in (RECORD_TOO_LARGE, RECORD_REFUSED)


def delivery_failed(error: KafkaError) -> DeliveryFailed:
    """What librdkafka reported, as one of ours."""
    return DeliveryFailed(_REASONS.get(error.code(), BusUnavailable.reason), error.str())
