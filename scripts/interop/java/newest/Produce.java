import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** Owns what is asked of a producer without transactions. */
final class Produce {
    private static final long TIME = 1_600_000_000_000L;

    private Produce() {}

    static void run() {
        codecs();
        idempotent();
        sizes();
        refused();
        timestamps();
        compacted();
        metadata();
    }

    private static void codecs() {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            for (String acks : List.of("0", "1", "all")) {
                Out.step("codec-" + codec + "-acks-" + acks, () -> {
                    String topic = Env.topic("p-" + codec + "-" + acks, 2, "retention.ms", "-1");
                    String offsets = roundTrip(topic, codec, acks, 200);
                    return offsets + " " + readBack(topic, 200);
                });
            }
        }
        for (String stored : List.of("gzip", "snappy", "lz4", "zstd", "uncompressed")) {
            Out.step("recompressed-" + stored, () -> {
                String topic = Env.topic("p-stored-" + stored, 2, "compression.type", stored, "retention.ms", "-1");
                return roundTrip(topic, "lz4", "all", 100) + " " + roundTrip(topic, "none", "all", 100) + " " + readBack(topic, 200);
            });
        }
    }

    /** Sends records with headers, keys and nulls to both partitions; tells the last offset of each. */
    private static String roundTrip(String topic, String codec, String acks, int count) throws Exception {
        try (var producer = Env.producer("compression.type", codec, "acks", acks, "enable.idempotence", String.valueOf(acks.equals("all")),
                "linger.ms", "20")) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                String value = i % 10 == 9 ? null : "value-" + i + "-" + "x".repeat(i % 97);
                var record = new ProducerRecord<>(topic, i % 2, TIME + i, i % 7 == 6 ? null : "key-" + i, value);
                record.headers().add("h1", ("header " + i).getBytes(StandardCharsets.UTF_8)).add("null", null).add("h1", new byte[0]);
                sent.add(producer.send(record));
            }
            producer.flush();
            var last = sent.get(count - 1).get();
            return "offset " + (last.hasOffset() ? last.offset() : "unknown") + " time " + (last.timestamp() - TIME) + " sizes "
                    + last.serializedKeySize() + "," + last.serializedValueSize();
        }
    }

    private static String readBack(String topic, int count) throws Exception {
        try (var consumer = Env.consumer()) {
            consumer.assign(List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1)));
            consumer.seekToBeginning(consumer.assignment());
            long digest = 0;
            var all = Env.take(consumer, count);
            all.sort((a, b) -> a.partition() != b.partition() ? a.partition() - b.partition() : Long.compare(a.offset(), b.offset()));
            for (ConsumerRecord<String, String> r : all) {
                Object[] fields = {r.partition(), r.offset(), r.key(), r.value(), r.timestamp(), r.timestampType(), r.leaderEpoch()};
                digest = digest * 31 + Arrays.deepToString(fields).hashCode();
                for (var header : r.headers()) digest = digest * 31 + header.key().hashCode() + Arrays.hashCode(header.value());
            }
            return all.size() + " records, digest " + Long.toHexString(digest);
        }
    }

    private static void idempotent() {
        Out.step("idempotent", () -> {
            String topic = Env.topic("p-idempotent", 1);
            try (var producer = Env.producer("enable.idempotence", "true", "max.in.flight.requests.per.connection", "5", "batch.size", "300",
                    "linger.ms", "0")) {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (int i = 0; i < 3000; i++) sent.add(producer.send(new ProducerRecord<>(topic, "v" + i)));
                for (int i = 0; i < 3000; i++) if (sent.get(i).get().offset() != i) return "record " + i + " at " + sent.get(i).get().offset();
            }
            return Env.brief(Env.values(topic, "read_uncommitted"));
        });
        Out.step("two-producers", () -> {
            String topic = Env.topic("p-two", 1);
            try (var one = Env.producer(); var two = Env.producer()) {
                for (int i = 0; i < 50; i++) {
                    one.send(new ProducerRecord<>(topic, "a" + i)).get();
                    two.send(new ProducerRecord<>(topic, "b" + i)).get();
                }
            }
            return Env.brief(Env.values(topic, "read_committed"));
        });
    }

    private static String sent(KafkaProducer<String, String> producer, ProducerRecord<String, String> record) {
        return Out.tried(() -> {
            try {
                return "offset " + producer.send(record).get().offset();
            } catch (ExecutionException e) {
                throw (Exception) e.getCause();
            }
        });
    }

    /** Characters that no codec makes smaller. */
    private static String noise(int size) {
        StringBuilder text = new StringBuilder(size);
        new Random(7).ints(size, 33, 127).forEach(c -> text.append((char) c));
        return text.toString();
    }

    private static void sizes() {
        Out.step("large-default", () -> {
            String topic = Env.topic("p-large", 1);
            try (var producer = Env.producer("max.request.size", "4000000")) {
                // 1048588 bytes are allowed for the batch; 61 of overhead and about 12 of the record's own.
                return List.of(sent(producer, new ProducerRecord<>(topic, noise(1_048_500))), sent(producer, new ProducerRecord<>(topic, noise(1_048_588))),
                        sent(producer, new ProducerRecord<>(topic, "still works")));
            }
        });
        Out.step("large-raised", () -> {
            String topic = Env.topic("p-larger", 1, "max.message.bytes", "8000000");
            try (var producer = Env.producer("max.request.size", "9000000", "buffer.memory", "40000000")) {
                var outcome = List.of(sent(producer, new ProducerRecord<>(topic, noise(7_900_000))), sent(producer, new ProducerRecord<>(topic, noise(8_000_000))));
                return outcome + " " + Env.values(topic, "read_uncommitted").stream().map(String::length).toList();
            }
        });
        Out.step("large-client-side", () -> {
            try (var producer = Env.producer()) {
                return sent(producer, new ProducerRecord<>("p-large", noise(1_048_577)));
            }
        });
        for (String codec : List.of("none", "gzip", "zstd")) {
            Out.step("split-" + codec, () -> {
                // The batch is too large for the topic, each record is not: the producer splits it and goes on.
                String topic = Env.topic("p-split-" + codec, 1, "max.message.bytes", "20000");
                try (var producer = Env.producer("batch.size", "200000", "linger.ms", "300", "compression.type", codec)) {
                    List<Future<RecordMetadata>> sent = new ArrayList<>();
                    String noise = noise(150_000);
                    for (int i = 0; i < 100; i++) sent.add(producer.send(new ProducerRecord<>(topic, i + noise.substring(i * 1400, i * 1400 + 1000))));
                    producer.flush();
                    for (var one : sent) one.get();
                }
                return Env.values(topic, "read_uncommitted").size();
            });
        }
        Out.step("fetch-sizes", () -> {
            try (var consumer = Env.consumer("max.partition.fetch.bytes", "1", "fetch.max.bytes", "1", "max.poll.records", "7")) {
                consumer.assign(List.of(new TopicPartition("p-idempotent", 0), new TopicPartition("p-larger", 0)));
                consumer.seekToBeginning(consumer.assignment());
                return Env.toEnd(consumer).size();
            }
        });
    }

    private static void refused() {
        Out.step("unknown-topic", () -> {
            try (var producer = Env.producer("max.block.ms", "10000")) {
                return sent(producer, new ProducerRecord<>("p-auto-created", "v"));
            }
        });
        Out.step("bad-name", () -> {
            try (var producer = Env.producer("max.block.ms", "5000")) {
                return List.of(sent(producer, new ProducerRecord<>("bad name!", "v")), sent(producer, new ProducerRecord<>("x".repeat(250), "v")),
                        sent(producer, new ProducerRecord<>("..", "v")));
            }
        });
        Out.step("no-such-partition", () -> {
            try (var producer = Env.producer("max.block.ms", "2000")) {
                return sent(producer, new ProducerRecord<>("p-two", 5, "k", "v"));
            }
        });
        Out.step("deleted-topic", () -> {
            String topic = Env.topic("p-deleted", 1);
            try (var producer = Env.producer("delivery.timeout.ms", "6000", "request.timeout.ms", "2000", "max.block.ms", "4000", "linger.ms", "0")) {
                String before = sent(producer, new ProducerRecord<>(topic, "v"));
                Env.admin.deleteTopics(List.of(topic)).all().get();
                Env.topic(topic, 1);
                // The new topic has another id: what the producer knew of the old one must not stop it.
                return before + ", made again: " + sent(producer, new ProducerRecord<>(topic, "w")) + " " + Env.values(topic, "read_uncommitted");
            }
        });
        Out.step("internal-topic", () -> {
            Out.tried(() -> Env.admin.describeConsumerGroups(List.of("wakes-the-coordinator")).all());
            try (var producer = Env.producer("max.block.ms", "4000")) {
                return sent(producer, new ProducerRecord<>("__consumer_offsets", 0, "k", "v"));
            }
        });
        Out.step("min-insync", () -> {
            String topic = Env.topic("p-insync", 1, "min.insync.replicas", "2");
            try (var producer = Env.producer("delivery.timeout.ms", "4000", "request.timeout.ms", "2000", "linger.ms", "0")) {
                return sent(producer, new ProducerRecord<>(topic, "v"));
            }
        });
    }

    private static void timestamps() {
        Out.step("log-append-time", () -> {
            String topic = Env.topic("p-append-time", 1, "message.timestamp.type", "LogAppendTime");
            try (var producer = Env.producer("compression.type", "gzip")) {
                var sent = producer.send(new ProducerRecord<>(topic, 0, TIME, "k", "v")).get();
                try (var consumer = Env.consumer()) {
                    consumer.assign(List.of(new TopicPartition(topic, 0)));
                    var read = Env.take(consumer, 1).get(0);
                    return "now " + (sent.timestamp() > TIME) + ", same " + (read.timestamp() == sent.timestamp()) + " " + read.timestampType();
                }
            }
        });
        Out.step("time-out-of-bounds", () -> {
            String topic = Env.topic("p-bounds", 1, "message.timestamp.after.max.ms", "1000", "message.timestamp.before.max.ms", "60000");
            try (var producer = Env.producer()) {
                long now = System.currentTimeMillis();
                return List.of(sent(producer, new ProducerRecord<>(topic, 0, now - 600_000, "k", "old")), sent(producer, new ProducerRecord<>(topic, 0, now + 600_000, "k", "early")),
                        sent(producer, new ProducerRecord<>(topic, 0, now, "k", "right")));
            }
        });
        Out.step("some-records-out-of-bounds", () -> {
            try (var producer = Env.producer("linger.ms", "300")) {
                long now = System.currentTimeMillis();
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (int i = 0; i < 4; i++) sent.add(producer.send(new ProducerRecord<>("p-bounds", 0, i == 2 ? now - 600_000 : now, "k", "v" + i)));
                producer.flush();
                return sent.stream().map(s -> Out.tried(() -> s.get().hasOffset())).toList();
            }
        });
    }

    private static void compacted() {
        Out.step("compacted-needs-keys", () -> {
            String topic = Env.topic("p-compact", 1, "cleanup.policy", "compact");
            try (var producer = Env.producer()) {
                return List.of(sent(producer, new ProducerRecord<>(topic, null, "no key")), sent(producer, new ProducerRecord<>(topic, "k", "v")),
                        sent(producer, new ProducerRecord<>(topic, "k", null)));
            }
        });
    }

    private static void metadata() {
        Out.step("partitions-for", () -> {
            try (var producer = Env.producer()) {
                return producer.partitionsFor("p-none-all").stream().sorted((a, b) -> a.partition() - b.partition()).toList();
            }
        });
        Out.step("client-instance-id", () -> {
            try (var producer = Env.producer()) {
                return producer.clientInstanceId(Duration.ofSeconds(5));
            }
        });
        Out.step("keys-spread", () -> {
            String topic = Env.topic("p-keys", 5);
            try (var producer = Env.producer()) {
                List<Integer> at = new ArrayList<>();
                for (int i = 0; i < 20; i++) at.add(producer.send(new ProducerRecord<>(topic, "key-" + i, "v")).get().partition());
                return at;
            }
        });
    }
}
