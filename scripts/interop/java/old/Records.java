import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** Owns what is asked of producers and of consumers without a group. */
final class Records {
    private static final long TIME = 1_600_000_000_000L;

    private Records() {}

    static void run() {
        for (String codec : List.of("none", "gzip", "snappy", "lz4")) {
            for (String acks : List.of("0", "1", "all")) Tell.step("codec-" + codec + "-acks-" + acks, () -> roundTrip(codec, acks, false));
        }
        Tell.step("idempotent", () -> roundTrip("lz4", "all", true));
        Tell.step("too-large", () -> {
            String topic = Tell.topic("too-large", 1);
            try (KafkaProducer<String, String> producer = Tell.producer("max.request.size", "3000000", "compression.type", "none")) {
                String large = "x".repeat(2_000_000);
                String told = Tell.tried(() -> producer.send(new ProducerRecord<>(topic, large)).get().offset());
                return told + " then " + producer.send(new ProducerRecord<>(topic, "small")).get().offset();
            }
        });
        positions();
    }

    /** Records with keys, headers, empty values and timestamps come back as they were. */
    private static String roundTrip(String codec, String acks, boolean idempotent) throws Exception {
        String topic = Tell.topic("r-" + codec + "-" + acks + (idempotent ? "-idempotent" : ""), 2);
        TreeMap<String, String> sent = new TreeMap<>();
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        try (KafkaProducer<String, String> producer = Tell.producer("compression.type", codec, "acks", acks, "linger.ms", "5",
                "enable.idempotence", String.valueOf(idempotent), "max.in.flight.requests.per.connection", "1")) {
            for (int i = 0; i < 200; i++) {
                String value = i % 10 == 9 ? null : "value-" + i + "-" + "y".repeat(i % 97);
                ProducerRecord<String, String> record = new ProducerRecord<>(topic, i % 2, TIME + i, i % 7 == 6 ? null : "key-" + i, value);
                record.headers().add("n", String.valueOf(i).getBytes(StandardCharsets.UTF_8)).add("empty", new byte[0]);
                sent.put(i % 2 + "/" + i / 2, told(record.key(), value, TIME + i, i));
                answers.add(producer.send(record));
            }
        }
        for (int i = 0; i < answers.size(); i++) {
            long offset = answers.get(i).get().offset();
            if (!acks.equals("0") && offset != i / 2) throw new IllegalStateException("record " + i + " is told to have offset " + offset);
        }
        TreeMap<String, String> seen = new TreeMap<>();
        // Without an answer the records may be on their way still.
        Tell.await("all records", 20, () -> {
            seen.clear();
            for (ConsumerRecord<String, String> r : Tell.read(topic, 2, "read_uncommitted")) {
                String n = new String(r.headers().lastHeader("n").value(), StandardCharsets.UTF_8);
                seen.put(r.partition() + "/" + r.offset(), told(r.key(), r.value(), r.timestamp(), Integer.parseInt(n)));
            }
            return seen.size() >= sent.size();
        });
        if (!seen.equals(sent)) throw new IllegalStateException("what came back is not what was sent");
        return seen.size() + " alike";
    }

    private static String told(String key, String value, long timestamp, int n) {
        return key + "=" + value + "@" + timestamp + "#" + n;
    }

    @SuppressWarnings("deprecation")
    private static void positions() {
        Tell.step("positions", () -> {
            String topic = Tell.topic("positions", 2);
            try (KafkaProducer<String, String> producer = Tell.producer()) {
                for (int i = 0; i < 40; i++) producer.send(new ProducerRecord<>(topic, i % 2, TIME + i * 1000, "k", "v" + i)).get();
            }
            TopicPartition one = new TopicPartition(topic, 0);
            TopicPartition two = new TopicPartition(topic, 1);
            try (KafkaConsumer<String, String> consumer = Tell.consumer()) {
                consumer.assign(List.of(one, two));
                String ends = consumer.beginningOffsets(List.of(one, two)).values() + " to " + consumer.endOffsets(List.of(one, two)).values();
                var times = consumer.offsetsForTimes(Map.of(one, TIME + 9_500, two, TIME + 100_000_000));
                String found = times.get(one).offset() + "@" + (times.get(one).timestamp() - TIME) + " and " + times.get(two);
                consumer.seek(one, 15);
                consumer.pause(List.of(two));
                List<String> seen = new ArrayList<>();
                Tell.await("five records", 20, () -> {
                    consumer.poll(Tell.TICK).forEach(r -> seen.add(r.value()));
                    return seen.size() >= 5;
                });
                return ends + "; " + found + "; " + seen + "; " + consumer.partitionsFor(topic).size() + " partitions, listed " + consumer.listTopics().containsKey(topic);
            }
        });
        Tell.step("out-of-range", () -> {
            String topic = Tell.topic("range", 1);
            Tell.fill(topic, 1, 0, 5);
            TopicPartition one = new TopicPartition(topic, 0);
            String none;
            try (KafkaConsumer<String, String> consumer = Tell.consumer("auto.offset.reset", "none", "group.id", Tell.prefix + "range")) {
                consumer.assign(List.of(one));
                none = poll(consumer);
                consumer.seek(one, 99);
                none += " " + poll(consumer);
            }
            try (KafkaConsumer<String, String> consumer = Tell.consumer()) {
                consumer.assign(List.of(one));
                consumer.seek(one, 99);
                List<Long> seen = new ArrayList<>();
                Tell.await("five records", 20, () -> {
                    consumer.poll(Tell.TICK).forEach(r -> seen.add(r.offset()));
                    return seen.size() >= 5;
                });
                return none + " " + seen;
            }
        });
    }

    @SuppressWarnings("deprecation")
    private static String poll(KafkaConsumer<String, String> consumer) {
        try {
            for (int i = 0; i < 50; i++) consumer.poll(Tell.TICK);
            return "nothing";
        } catch (NoOffsetForPartitionException | OffsetOutOfRangeException e) {
            return e.getClass().getSimpleName();
        }
    }
}
