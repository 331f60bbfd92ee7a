#!/usr/bin/env python3
"""A consumer that answers: reads deliveries of the log from a target, executes them, and tells the log what became of each.

    pip install confluent-kafka
    python3 consumer.py BOOTSTRAP GROUP TARGET PREFIX

PREFIX is what the names of the log's own topics begin with, usually "wal.". INSTANCE in the environment (else the host's name) must
differ between the members of the group and stay the same when one is started again, like the ordinal of a pod.

Answers and offsets are committed in one transaction: each delivery that reaches this group is answered once, even if this process is
killed. It may be executed twice, though, as the process may die between executing and committing: let `execute` do nothing the second
time (the log id is the same). Whenever it is uncertain what Kafka has done, this process ends; have it started again.
"""

import json
import os
import signal
import socket
import sys
from datetime import datetime, timezone

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

# Deliveries in one transaction. All of them must be executed within max.poll.interval.ms, by default 5 minutes.
BATCH = 100
# What one step of a transaction may take, in seconds.
LIMIT = 30
# The group has given the partitions to other members while we executed: they will execute, and answer, what we have in hand.
MOVED = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)


class Failed(Exception):
    """Raise it from `execute` to say how a delivery failed. Any other exception says so, too, with its name as the code."""

    def __init__(self, code, message, retryable=True, after=None):
        super().__init__(message)
        self.code = code
        self.retryable = retryable  # False: trying again cannot help
        self.after = after  # the next attempt is wanted so many seconds later, whatever the lifecycle says


def execute(log_id, payload):
    """The operation; put yours here. Returns a result for the log, anything that JSON can say, or None.

    This one shares 100 units among as many as the payload says.
    """
    try:
        members = int(payload)
    except ValueError as error:
        raise Failed("UNREADABLE", str(error), retryable=False)
    if members > 100:
        raise Failed("NOT_ENOUGH", f"100 units are not enough for {members}", after=2.5)
    return {"each": 100 // members}


def answer(delivery, prefix):
    """Executes a delivery and returns the record that answers it. Its headers are echoed, all of them: they prove what it answers."""
    headers = delivery.headers()
    log_id = dict(headers)["ce_id"]
    try:
        result = execute(log_id.decode(), delivery.value())
        value = json.dumps({"status": "completed", "result": result}, allow_nan=False)
        return {"topic": prefix + "acks", "key": log_id, "value": value, "headers": headers}
    except Failed as error:
        failed = error
    except Exception as error:
        failed = Failed(type(error).__name__, str(error))
    failure = [("ce_walerrorcode", failed.code), ("ce_walerrormessage", str(failed)[:1000])]
    if not failed.retryable:
        failure.append(("ce_walretryable", "false"))
    elif failed.after is not None:
        failure.append(("ce_walretryafter", str(failed.after)))
    # The value goes back unchanged: the log tries again with it.
    return {"topic": prefix + "failures", "key": log_id, "value": delivery.value(), "headers": headers + failure}


def is_wanted(record):
    """Whether a record is a delivery that is still to be executed. What is not is passed over, without an answer."""
    headers = dict(record.headers() or [])
    where = f"{record.topic()}[{record.partition()}]@{record.offset()}"
    try:
        log_id, _attempt, _seal = (headers[name].decode() for name in ("ce_id", "ce_walattempt", "ce_walseal"))
        deadline = datetime.fromisoformat(headers["ce_expirytime"].decode().replace("Z", "+00:00"))
        is_expired = deadline < datetime.now(timezone.utc)
    except (KeyError, AttributeError, TypeError, ValueError):
        print(f"passed over {where}: no delivery of the log", flush=True)
        return False
    # The log ends by itself what is past its deadline. A copy that somebody replays is wanted whenever it comes.
    if is_expired and "ce_walreplay" not in headers:
        print(f"passed over {where}: {log_id} is past its deadline", flush=True)
        return False
    return True


class Member:
    """A member of the consumer group."""

    def __init__(self, bootstrap, group, target):
        self.batch = []
        # Which member of which generation of the group we are. None: we hold nothing.
        self.metadata = None
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": group,
            # Every rebalance takes all partitions first, so that `revoked` and `assigned` see each of them.
            "partition.assignment.strategy": "range",
            "session.timeout.ms": 10000,
            "isolation.level": "read_committed",
            # A new group begins at the oldest delivery.
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        })
        self.consumer.subscribe([target], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked)

    # Both are called by poll(), and only there.
    def assigned(self, consumer, partitions):
        # Taken here, and not when offsets are committed: Kafka then refuses offsets of what has moved to another member since.
        self.metadata = consumer.consumer_group_metadata()
        if not consumer.memberid():
            # Kafka would believe offsets from nobody in particular.
            raise RuntimeError("the group has given this member up")

    def revoked(self, consumer, partitions):
        self.batch.clear()
        self.metadata = None

    def take(self):
        """The next records, with what proves that they are ours; none after a second without any."""
        self.batch.clear()
        while len(self.batch) < BATCH:
            record = self.consumer.poll(0 if self.batch else 1.0)
            if record is None:
                break
            if record.error():
                if record.error().fatal():
                    raise KafkaException(record.error())
                print(f"cannot read at the moment: {record.error()}", file=sys.stderr, flush=True)
            # After `MOVED` nothing is ours before the next assignment, which begins at the committed offsets.
            elif self.metadata is not None:
                self.batch.append(record)
        return self.batch, self.metadata


def publish(producer, answers, offsets, metadata):
    """All answers and the offsets, or nothing. Returns whether it was done; if not, the deliveries are other members' now."""
    producer.begin_transaction()
    try:
        for record in answers:
            producer.produce(**record)
        producer.send_offsets_to_transaction(offsets, metadata, LIMIT)
        producer.commit_transaction(LIMIT)
        return True
    except KafkaException as error:
        # Of anything else nobody knows whether it was done. The next start ends what is open, and asks Kafka where it stands.
        if error.args[0].code() not in MOVED or not error.args[0].txn_requires_abort():
            raise
        producer.abort_transaction(LIMIT)
        return False


def main():
    if len(sys.argv) != 5:
        sys.exit("usage: consumer.py BOOTSTRAP GROUP TARGET PREFIX")
    bootstrap, group, target, prefix = sys.argv[1:]
    stops = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stops.append(True))

    producer = Producer({
        "bootstrap.servers": bootstrap,
        "transactional.id": f"{group}-{os.environ.get('INSTANCE') or socket.gethostname()}",
        "transaction.timeout.ms": 10000,
        # The same partition for a log id as every other client of the log: answers of one entry stay in order.
        "partitioner": "murmur2_random",
        # The broker's limit decides.
        "message.max.bytes": 16777216,
    })
    # Ends the transaction that a killed predecessor left open. Before joining: committed offsets are certain only then.
    producer.init_transactions(LIMIT)
    member = Member(bootstrap, group, target)
    try:
        while not stops:
            batch, metadata = member.take()
            if not batch:
                continue
            answers = []
            for delivery in filter(is_wanted, batch):
                answers.append(answer(delivery, prefix))
                print(f"executed {answers[-1]['key'].decode()}", flush=True)
            # In the order of each partition, so that the last of each stays.
            next_offsets = {(record.topic(), record.partition()): record.offset() + 1 for record in batch}
            offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in next_offsets.items()]
            if not publish(producer, answers, offsets, metadata):
                member.revoked(None, None)
    finally:
        # Leaves the group. What was not committed comes again, here or at another member.
        member.consumer.close()


if __name__ == "__main__":
    main()
