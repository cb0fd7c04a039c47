"""A CSMS in sixty lines: it decides who may charge, numbers the transactions, and starts and stops them by command.

Beside a gateway with OCPP_CSMS_ACTIONS=Authorize,BootNotification,StartTransaction (README.md):

    python examples/csms.py localhost:9092

Type: start CP-001 TAG-1 | stop CP-001 TRANSACTION_ID | reset CP-001. Cards whose name begins with BLOCKED are blocked.
"""

import itertools
import json
import sys
import threading
import time
import uuid
from datetime import UTC, datetime

from confluent_kafka import Consumer, Producer

numbers = itertools.count(int(time.time()))  # a real CSMS has a database for these two
transactions = {}


def decide(charge_point, action, call):
    """The payload of the answer to a charge point's CALL."""
    if action == "BootNotification":
        return {"status": "Accepted", "currentTime": datetime.now(UTC).isoformat(), "interval": 300}
    token = call.get("idTag") or call["idToken"]["idToken"]  # as OCPP 1.6 says it, or 2.0.1 and 2.1
    verdict = {"status": "Blocked" if token.startswith("BLOCKED") else "Accepted"}
    if action == "Authorize":
        return {"idTagInfo": verdict} if "idTag" in call else {"idTokenInfo": verdict}
    assert action == "StartTransaction"
    start = (charge_point, call["connectorId"], call["timestamp"])  # the same again: it got no answer the first time
    return {"transactionId": transactions.setdefault(start, next(numbers)), "idTagInfo": verdict}


def answer(producer, message):
    """Show an event; answer it if the gateway waits for that."""
    event, headers = json.loads(message.value()), dict(message.headers())
    about = event["payload"]
    print(event["eventType"], event.get("chargePointId"), json.dumps(about.get("payload", about))[:150], flush=True)
    if "replyTo" in event:
        decision = decide(event["chargePointId"], about["action"], about["payload"])
        producer.produce(
            headers["kafka_replyTopic"].decode(),
            json.dumps({"payload": decision}),
            partition=int.from_bytes(headers["kafka_replyPartition"], "big"),
            headers={"kafka_correlationId": headers["kafka_correlationId"]},
        )
        print("  answered", json.dumps(decision), flush=True)


def commands(producer, lines):
    """Have charge points do what is typed. What becomes of it comes as an event."""
    for line in lines:
        match line.split():
            case ["start", charge_point, card]:
                command, payload = "RemoteStart", {"connectorId": 1, "idTag": card}
            case ["stop", charge_point, transaction]:
                command, payload = "RemoteStop", {"sessionId": transaction}
            case ["reset", charge_point]:
                command, payload = "Reset", {"type": "Soft"}
            case _:
                continue
        request = {"commandId": str(uuid.uuid4()), "commandType": command, "chargePointId": charge_point}
        request |= {"payload": payload, "requestedAt": datetime.now(UTC).isoformat(), "timeoutSec": 15}
        producer.produce("cpms.command.requests", json.dumps(request), key=charge_point)


def main(brokers):
    """Read events, and answer, until Ctrl-C."""
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random"})
    settings = {"bootstrap.servers": brokers, "allow.auto.create.topics": True, "session.timeout.ms": 6000}
    consumer = Consumer({**settings, "group.id": "example-csms", "auto.offset.reset": "earliest"})
    topics = ["ocpp.station.events", "ocpp.session.events", "ocpp.command.events"]
    for topic in topics:
        consumer.list_topics(topic, timeout=10)  # fails if there is no Kafka, and makes the topic if there is none
    consumer.subscribe(topics, on_assign=lambda *_: print("ready", flush=True))
    threading.Thread(target=commands, args=(producer, sys.stdin), daemon=True).start()
    try:
        while True:
            message = consumer.poll(0.05)
            producer.poll(0)
            if message and not message.error():
                answer(producer, message)
    except KeyboardInterrupt:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:] or ["localhost:9092"])
