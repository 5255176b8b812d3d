import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Owns what is asked of transactional producers. */
final class Transacted {
    private Transacted() {}

    static void run() {
        Tell.step("transactions", Transacted::outcomes);
        Tell.step("transactional-copy", Transacted::copy);
        Tell.step("fencing", Transacted::fencing);
        Tell.step("timeout", Transacted::timeout);
    }

    private static KafkaProducer<String, String> open(String id, String... more) {
        List<String> pairs = new ArrayList<>(List.of("transactional.id", Tell.prefix + id));
        pairs.addAll(List.of(more));
        KafkaProducer<String, String> producer = Tell.producer(pairs.toArray(new String[0]));
        producer.initTransactions();
        return producer;
    }

    private static String both(String topic, int partitions) throws Exception {
        return "committed " + Tell.values(topic, partitions, "read_committed") + ", all " + Tell.values(topic, partitions, "read_uncommitted");
    }

    private static String outcomes() throws Exception {
        String topic = Tell.topic("t-outcomes", 3);
        try (KafkaProducer<String, String> producer = open("outcomes", "compression.type", "gzip")) {
            for (int i = 0; i < 6; i++) {
                producer.beginTransaction();
                for (int k = 0; k < 30; k++) producer.send(new ProducerRecord<>(topic, k % 3, "k", (i % 2 == 0 ? "aborted-" : "kept-") + i + "-" + (10 + k)));
                producer.flush();
                if (i % 2 == 0) producer.abortTransaction(); else producer.commitTransaction();
            }
            producer.beginTransaction();
            producer.commitTransaction();
        }
        Tell.await("the last marker", 20, () -> Tell.read(topic, 3, "read_committed").size() >= 90);
        return both(topic, 3);
    }

    /** Read, write and commit offsets in one transaction; the second of four is aborted and done again. */
    @SuppressWarnings("deprecation")
    private static String copy() throws Exception {
        String from = Tell.topic("t-from", 1);
        String to = Tell.topic("t-to", 1);
        Tell.fill(from, 1, 0, 20);
        TopicPartition partition = new TopicPartition(from, 0);
        String group = Tell.prefix + "t-copiers";
        int[] done = {0, 0};
        try (KafkaProducer<String, String> producer = open("copier");
                KafkaConsumer<String, String> consumer = Tell.consumer("group.id", group, "max.poll.records", "5", "isolation.level", "read_committed")) {
            consumer.subscribe(List.of(from));
            Tell.await("20 records copied", 60, () -> {
                var records = consumer.poll(Tell.TICK);
                if (records.isEmpty()) return done[0] >= 20;
                producer.beginTransaction();
                long next = 0;
                for (var record : records) {
                    producer.send(new ProducerRecord<>(to, "copy of " + record.value()));
                    next = record.offset() + 1;
                }
                producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(next, "copied")), group);
                if (done[1]++ == 1) {
                    producer.abortTransaction();
                    consumer.seek(partition, consumer.committed(partition).offset());
                    return false;
                }
                producer.commitTransaction();
                done[0] += records.count();
                return done[0] >= 20;
            });
            OffsetAndMetadata end = consumer.committed(partition);
            return end.offset() + "/" + end.metadata() + " " + both(to, 1);
        }
    }

    private static String fencing() throws Exception {
        String topic = Tell.topic("t-fencing", 1);
        KafkaProducer<String, String> first = open("fenced");
        first.beginTransaction();
        first.send(new ProducerRecord<>(topic, "of the first")).get();
        String zombie;
        try (KafkaProducer<String, String> second = open("fenced")) {
            second.beginTransaction();
            second.send(new ProducerRecord<>(topic, "of the second")).get();
            zombie = Tell.tried(() -> {
                first.send(new ProducerRecord<>(topic, "of the zombie"));
                first.commitTransaction();
                return "committed";
            });
            second.commitTransaction();
        }
        Tell.abandon(first);
        return (zombie.startsWith("!") ? "refused" : zombie) + "; " + both(topic, 1);
    }

    private static String timeout() throws Exception {
        String topic = Tell.topic("t-timeout", 1);
        KafkaProducer<String, String> late = open("late", "transaction.timeout.ms", "2000");
        late.beginTransaction();
        late.send(new ProducerRecord<>(topic, "too late")).get();
        Tell.fill(topic, 1, 0, 1);
        Tell.await("the transaction is aborted", 40, () -> Tell.values(topic, 1, "read_committed").equals("[v0]"));
        String told = Tell.tried(() -> {
            late.commitTransaction();
            return "committed";
        });
        Tell.abandon(late);
        return (told.startsWith("!") ? "refused" : told) + "; " + both(topic, 1);
    }
}
