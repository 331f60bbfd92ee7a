import static java.nio.charset.StandardCharsets.UTF_8;

import java.net.InetAddress;
import java.time.Duration;
import java.time.Instant;
import java.time.format.DateTimeParseException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A consumer that answers: reads deliveries of the log from a target, executes them, and tells the log what became of each.
 *
 * <pre>java -cp 'libs/*' Consumer.java BOOTSTRAP GROUP TARGET PREFIX     (libs: kafka-clients 4.0 or later, and what it needs)</pre>
 *
 * PREFIX is what the names of the log's own topics begin with, usually "wal.". INSTANCE in the environment (else the host's name) must
 * differ between the members of the group and stay the same when one is started again, like the ordinal of a pod.
 *
 * Answers and offsets are committed in one transaction: each delivery that reaches this group is answered once, even if this process is
 * killed. It may be executed twice, though, as the process may die between executing and committing: let {@code execute} do nothing the
 * second time (the log id is the same). Whenever it is uncertain what Kafka has done, this process ends; have it started again.
 */
public class Consumer {
    /** Throw it from {@code execute} to say how a delivery failed. Any other exception says so, too, with its name as the code. */
    static class Failed extends Exception {
        final String code;
        boolean isRetryable = true;
        Double after;

        Failed(String code, String message) {
            super(message);
            this.code = code;
        }

        /** Trying again cannot help. */
        Failed permanently() {
            isRetryable = false;
            return this;
        }

        /** The next attempt is wanted so many seconds later, whatever the lifecycle says. */
        Failed retryAfter(double seconds) {
            after = seconds;
            return this;
        }
    }

    /**
     * The operation; put yours here. Returns a result for the log, as JSON.
     *
     * This one shares 100 units among as many as the payload says.
     */
    static String execute(String logId, byte[] payload) throws Exception {
        int members;
        try {
            members = Integer.parseInt(new String(payload, UTF_8));
        } catch (NumberFormatException error) {
            throw new Failed("UNREADABLE", error.getMessage()).permanently();
        }
        if (members > 100) {
            throw new Failed("NOT_ENOUGH", "100 units are not enough for " + members).retryAfter(2.5);
        }
        return "{\"each\": " + 100 / members + "}";
    }

    /** Executes a delivery and makes the record that answers it. Its headers are echoed, all of them: they prove what it answers. */
    static ProducerRecord<byte[], byte[]> answer(ConsumerRecord<byte[], byte[]> delivery, String prefix) {
        Headers headers = new RecordHeaders(delivery.headers());
        byte[] logId = headers.lastHeader("ce_id").value();
        try {
            String result = execute(new String(logId, UTF_8), delivery.value());
            byte[] value = ("{\"status\": \"completed\", \"result\": " + result + "}").getBytes(UTF_8);
            return new ProducerRecord<>(prefix + "acks", null, logId, value, headers);
        } catch (Exception error) {
            String code = error instanceof Failed failed ? failed.code : error.getClass().getSimpleName();
            String message = String.valueOf(error.getMessage());
            headers.add("ce_walerrorcode", code.getBytes(UTF_8));
            headers.add("ce_walerrormessage", message.substring(0, Math.min(message.length(), 1000)).getBytes(UTF_8));
            if (error instanceof Failed failed && !failed.isRetryable) {
                headers.add("ce_walretryable", "false".getBytes(UTF_8));
            } else if (error instanceof Failed failed && failed.after != null) {
                headers.add("ce_walretryafter", failed.after.toString().getBytes(UTF_8));
            }
            // The value goes back unchanged: the log tries again with it.
            return new ProducerRecord<>(prefix + "failures", null, logId, delivery.value(), headers);
        }
    }

    /** Whether a record is a delivery that is still to be executed. What is not is passed over, without an answer. */
    static boolean isWanted(ConsumerRecord<byte[], byte[]> record) {
        String where = record.topic() + "[" + record.partition() + "]@" + record.offset();
        String logId;
        boolean isExpired;
        try {
            logId = header(record, "ce_id");
            header(record, "ce_walattempt");
            header(record, "ce_walseal");
            isExpired = Instant.parse(header(record, "ce_expirytime")).isBefore(Instant.now());
        } catch (NullPointerException | DateTimeParseException error) {
            System.out.println("passed over " + where + ": no delivery of the log");
            return false;
        }
        // The log ends by itself what is past its deadline. A copy that somebody replays is wanted whenever it comes.
        if (isExpired && record.headers().lastHeader("ce_walreplay") == null) {
            System.out.println("passed over " + where + ": " + logId + " is past its deadline");
            return false;
        }
        return true;
    }

    static String header(ConsumerRecord<byte[], byte[]> record, String name) {
        return new String(record.headers().lastHeader(name).value(), UTF_8);
    }

    /** Executes and answers a batch. All its answers and its offsets become visible together, or nothing does. */
    static void handle(
            ConsumerRecords<byte[], byte[]> batch,
            KafkaConsumer<byte[], byte[]> consumer,
            KafkaProducer<byte[], byte[]> producer,
            String prefix) {
        // Taken before anything is executed: Kafka then refuses offsets of what has moved to another member since.
        ConsumerGroupMetadata metadata = consumer.groupMetadata();
        if (metadata.generationId() < 0) {
            // The group has given this member up in this moment, and Kafka would believe offsets from nobody in particular. The next
            // poll joins again and begins at the committed offsets.
            return;
        }
        List<ProducerRecord<byte[], byte[]>> answers = new ArrayList<>();
        for (ConsumerRecord<byte[], byte[]> record : batch) {
            if (isWanted(record)) {
                answers.add(answer(record, prefix));
                System.out.println("executed " + header(record, "ce_id"));
            }
        }
        producer.beginTransaction();
        try {
            for (ProducerRecord<byte[], byte[]> answer : answers) {
                producer.send(answer);
            }
            producer.sendOffsetsToTransaction(batch.nextOffsets(), metadata);
            producer.commitTransaction();
        } catch (CommitFailedException moved) {
            // The group has given the partitions to other members while we executed: they execute, and answer, what we had in hand.
            producer.abortTransaction();
            // So that the next poll joins again and begins at the committed offsets.
            consumer.enforceRebalance("the partitions have moved");
        }
        // Of any other exception nobody knows whether it was done. It ends the process; the next start ends what is open, and asks Kafka
        // where it stands.
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 4) {
            System.err.println("usage: Consumer BOOTSTRAP GROUP TARGET PREFIX");
            System.exit(2);
        }
        String bootstrap = args[0], group = args[1], target = args[2], prefix = args[3];
        String instance = System.getenv().getOrDefault("INSTANCE", InetAddress.getLocalHost().getHostName());
        Map<String, Object> answering = Map.of(
                "bootstrap.servers", bootstrap,
                "transactional.id", group + "-" + instance,
                "transaction.timeout.ms", 10_000,
                // The broker's limit decides.
                "max.request.size", 16 << 20);
        Map<String, Object> reading = Map.of(
                "bootstrap.servers", bootstrap,
                "group.id", group,
                // Every rebalance takes all partitions first, so that reading goes on at the committed offsets.
                "partition.assignment.strategy", RangeAssignor.class.getName(),
                "session.timeout.ms", 10_000,
                "isolation.level", "read_committed",
                // A new group begins at the oldest delivery.
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false,
                // Deliveries in one transaction. All of them must be executed within max.poll.interval.ms, by default 5 minutes.
                "max.poll.records", 100);

        stopOnSignal(Thread.currentThread());
        // The partition of a log id is the producer's default, murmur2: answers of one entry stay in order.
        try (KafkaProducer<byte[], byte[]> producer =
                        new KafkaProducer<>(answering, new ByteArraySerializer(), new ByteArraySerializer());
                KafkaConsumer<byte[], byte[]> consumer =
                        new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            // Ends the transaction that a killed predecessor left open. Before joining: committed offsets are certain only then.
            producer.initTransactions();
            consumer.subscribe(List.of(target));
            while (!isStopping) {
                ConsumerRecords<byte[], byte[]> batch = consumer.poll(Duration.ofSeconds(1));
                if (!batch.isEmpty()) {
                    handle(batch, consumer, producer, prefix);
                }
            }
        }
        // Closing has left the group. What was not committed comes again, here or at another member.
    }

    static volatile boolean isStopping;

    /** On a signal: says so, and waits until what is in hand is finished and the group is left. */
    static void stopOnSignal(Thread main) {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            isStopping = true;
            try {
                main.join();
            } catch (InterruptedException ignored) {
                // Nobody interrupts it.
            }
        }));
    }
}
