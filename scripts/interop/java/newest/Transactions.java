import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;

/** Owns what is asked of transactional producers and of the administration of transactions. */
final class Transactions {
    private Transactions() {}

    static KafkaProducer<String, String> open(String id, String... more) {
        String[] pairs = new String[more.length + 4];
        pairs[0] = "transactional.id";
        pairs[1] = id;
        pairs[2] = "linger.ms";
        pairs[3] = "0";
        System.arraycopy(more, 0, pairs, 4, more.length);
        return Env.producer(pairs);
    }

    static void run() {
        outcomes();
        offsets();
        fencing();
        timeouts();
        administration();
        load();
    }

    private static String both(String topic) throws Exception {
        return "committed " + Env.brief(Env.values(topic, "read_committed")) + ", all " + Env.brief(Env.values(topic, "read_uncommitted"));
    }

    private static String ends(String topic) throws Exception {
        var partition = new TopicPartition(topic, 0);
        List<Object> ends = new ArrayList<>();
        for (IsolationLevel level : List.of(IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)) {
            ends.add(Env.admin.listOffsets(Map.of(partition, OffsetSpec.latest()), new ListOffsetsOptions(level)).partitionResult(partition).get().offset());
        }
        return "ends " + ends;
    }

    private static void outcomes() {
        Out.step("commit", () -> {
            String topic = Env.topic("t-commit", 1);
            try (var producer = open("commit")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "a")).get();
                String open = ends(topic) + " " + both(topic);
                producer.commitTransaction();
                // Kafka answers before the markers are written.
                Out.await("the marker", 10, () -> ends(topic).equals("ends [2, 2]"));
                return open + "; then " + ends(topic) + " " + both(topic);
            }
        });
        Out.step("abort", () -> {
            String topic = Env.topic("t-abort", 1);
            try (var producer = open("abort")) {
                producer.initTransactions();
                for (int i = 0; i < 6; i++) {
                    producer.beginTransaction();
                    for (int k = 0; k < 5; k++) producer.send(new ProducerRecord<>(topic, (i % 2 == 0 ? "aborted" : "kept") + i + k));
                    producer.flush();
                    if (i % 2 == 0) producer.abortTransaction(); else producer.commitTransaction();
                }
                return ends(topic) + " " + both(topic);
            }
        });
        Out.step("empty", () -> {
            try (var producer = open("empty")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.commitTransaction();
                producer.beginTransaction();
                producer.abortTransaction();
                return "fine";
            }
        });
        Out.step("many-partitions", () -> {
            String one = Env.topic("t-many-1", 6);
            String two = Env.topic("t-many-2", 6);
            try (var producer = open("many", "compression.type", "zstd")) {
                producer.initTransactions();
                for (int i = 0; i < 4; i++) {
                    producer.beginTransaction();
                    for (int k = 0; k < 60; k++) producer.send(new ProducerRecord<>(k % 2 == 0 ? one : two, k / 2 % 6, "k", i + "-" + k));
                    producer.flush();
                    if (i == 2) producer.abortTransaction(); else producer.commitTransaction();
                }
            }
            return both(one) + "; " + both(two);
        });
        Out.step("large-transaction", () -> {
            String topic = Env.topic("t-large", 3);
            try (var producer = open("large", "batch.size", "2000")) {
                producer.initTransactions();
                producer.beginTransaction();
                for (int k = 0; k < 5000; k++) producer.send(new ProducerRecord<>(topic, "key" + k, "v" + k));
                producer.commitTransaction();
            }
            return both(topic);
        });
        Out.step("beside-plain-producer", () -> {
            String topic = Env.topic("t-beside", 1);
            try (var producer = open("beside"); var plain = Env.producer()) {
                producer.initTransactions();
                producer.beginTransaction();
                plain.send(new ProducerRecord<>(topic, "plain1")).get();
                producer.send(new ProducerRecord<>(topic, "open")).get();
                plain.send(new ProducerRecord<>(topic, "plain2")).get();
                String open = ends(topic) + " " + both(topic);
                producer.abortTransaction();
                return open + "; then " + ends(topic) + " " + both(topic);
            }
        });
        Out.step("unknown-topic", () -> {
            try (var producer = open("unknown-topic", "max.block.ms", "10000")) {
                producer.initTransactions();
                producer.beginTransaction();
                String sent = Out.tried(() -> producer.send(new ProducerRecord<>("t-auto", "v")).get().offset());
                return sent + " " + Out.tried(() -> {
                    producer.commitTransaction();
                    return "committed";
                });
            }
        });
        Out.step("refused-record", () -> {
            String topic = Env.topic("t-refused", 1, "cleanup.policy", "compact");
            try (var producer = open("refused")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "k", "kept")).get();
                String sent = Out.tried(() -> producer.send(new ProducerRecord<>(topic, null, "no key")).get().offset());
                String committed = Out.tried(() -> {
                    producer.commitTransaction();
                    return "committed";
                });
                producer.abortTransaction();
                // Whether the client wraps the error is a matter of time.
                return sent + " " + committed.contains("!InvalidRecordException") + " " + both(topic);
            }
        });
    }

    private static void offsets() {
        for (String protocol : List.of("classic", "consumer")) {
            Out.step("send-offsets-" + protocol, () -> {
                String in = Env.topic("t-in-" + protocol, 1);
                String out = Env.topic("t-out-" + protocol, 1);
                Env.fill(in, 0, 0, 20);
                var partition = new TopicPartition(in, 0);
                try (var producer = open("copier-" + protocol);
                        var consumer = Env.consumer("group.id", "t-copiers-" + protocol, "group.protocol", protocol, "max.poll.records", "5",
                                "isolation.level", "read_committed")) {
                    producer.initTransactions();
                    consumer.subscribe(List.of(in));
                    List<Object> seen = new ArrayList<>();
                    int[] copied = {0, 0};
                    Out.await("20 records copied", 60, () -> {
                        var records = consumer.poll(Env.TICK);
                        if (records.isEmpty()) return copied[0] >= 20;
                        boolean abort = copied[1]++ == 1;
                        producer.beginTransaction();
                        long next = 0;
                        for (var record : records) {
                            producer.send(new ProducerRecord<>(out, "copy of " + record.value()));
                            next = record.offset() + 1;
                        }
                        producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(next, "copied")), consumer.groupMetadata());
                        if (abort) {
                            producer.abortTransaction();
                            seen.add("aborted at " + consumer.committed(java.util.Set.of(partition)));
                            consumer.seek(partition, consumer.committed(java.util.Set.of(partition)).get(partition).offset());
                            return false;
                        }
                        producer.commitTransaction();
                        copied[0] += records.count();
                        return copied[0] >= 20;
                    });
                    seen.add(consumer.committed(java.util.Set.of(partition)));
                    return Out.render(seen) + " " + Env.brief(Env.values(out, "read_committed"));
                }
            });
        }
        Out.step("offsets-without-group", () -> {
            try (var producer = open("standalone")) {
                producer.initTransactions();
                var partition = new TopicPartition("t-in-classic", 0);
                producer.beginTransaction();
                producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(7)), new ConsumerGroupMetadata("t-nobody"));
                producer.commitTransaction();
                return Env.admin.listConsumerGroupOffsets("t-nobody").partitionsToOffsetAndMetadata().get();
            }
        });
        Out.step("offsets-of-a-stranger", () -> {
            try (var producer = open("stranger")) {
                producer.initTransactions();
                var partition = new TopicPartition("t-in-classic", 0);
                producer.beginTransaction();
                String outcome = Out.tried(() -> {
                    producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(7)),
                            new ConsumerGroupMetadata("t-copiers-classic", 99, "nobody", java.util.Optional.empty()));
                    producer.commitTransaction();
                    return "committed";
                });
                return outcome + " " + Out.tried(() -> {
                    producer.abortTransaction();
                    return "aborted";
                });
            }
        });
        Out.step("offsets-of-unknown-topic", () -> {
            try (var producer = open("unknown-offsets", "max.block.ms", "5000")) {
                producer.initTransactions();
                producer.beginTransaction();
                return Out.tried(() -> {
                    producer.sendOffsetsToTransaction(Map.of(new TopicPartition("t-no-such", 0), new OffsetAndMetadata(7)), new ConsumerGroupMetadata("t-nobody"));
                    producer.commitTransaction();
                    return "committed";
                });
            }
        });
        Out.step("pending-offsets", () -> {
            var partition = new TopicPartition("t-in-classic", 0);
            try (var producer = open("pending"); var consumer = Env.consumer("group.id", "t-pending", "default.api.timeout.ms", "1500")) {
                producer.initTransactions();
                consumer.assign(List.of(partition));
                consumer.commitSync(Map.of(partition, new OffsetAndMetadata(3)));
                producer.beginTransaction();
                producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(9)), new ConsumerGroupMetadata("t-pending"));
                // A stable offset is asked for: there is none while the transaction is open.
                String pending = Out.tried(() -> consumer.committed(java.util.Set.of(partition)));
                String listed = Out.tried(() -> Env.admin.listConsumerGroupOffsets("t-pending").partitionsToOffsetAndMetadata().get());
                producer.commitTransaction();
                return pending + " " + listed + " then " + Out.render(consumer.committed(java.util.Set.of(partition)));
            }
        });
    }

    private static String act(Callable<?> body) {
        return Out.tried(() -> {
            body.call();
            return "done";
        });
    }

    private static void fencing() {
        Out.step("second-with-one-id", () -> {
            String topic = Env.topic("t-fence", 1);
            try (var first = open("fence"); var second = open("fence")) {
                first.initTransactions();
                first.beginTransaction();
                first.send(new ProducerRecord<>(topic, "of the first")).get();
                second.initTransactions();
                String commit = act(() -> {
                    first.commitTransaction();
                    return null;
                });
                second.beginTransaction();
                second.send(new ProducerRecord<>(topic, "of the second")).get();
                second.commitTransaction();
                String begin = act(() -> {
                    first.beginTransaction();
                    return null;
                });
                return commit + " " + begin + " " + both(topic);
            }
        });
        Out.step("zombie-sends", () -> {
            String topic = Env.topic("t-zombie", 1);
            try (var first = open("zombie"); var second = open("zombie")) {
                first.initTransactions();
                first.beginTransaction();
                first.send(new ProducerRecord<>(topic, "before")).get();
                second.initTransactions();
                String sent = act(() -> first.send(new ProducerRecord<>(topic, "after")).get());
                String other = act(() -> first.send(new ProducerRecord<>(topic, "again")).get());
                String abort = act(() -> {
                    first.abortTransaction();
                    return null;
                });
                return sent + " " + other + " " + abort + " " + both(topic);
            }
        });
        Out.step("zombie-sends-offsets", () -> {
            try (var first = open("zombie-offsets"); var second = open("zombie-offsets")) {
                first.initTransactions();
                first.beginTransaction();
                second.initTransactions();
                return act(() -> {
                    first.sendOffsetsToTransaction(Map.of(new TopicPartition("t-zombie", 0), new OffsetAndMetadata(1)), new ConsumerGroupMetadata("t-z"));
                    return null;
                });
            }
        });
        Out.step("fence-producers", () -> {
            String topic = Env.topic("t-fenced", 1);
            try (var producer = open("fenced")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "v")).get();
                String fenced = Out.render(Env.admin.fenceProducers(List.of("fenced", "never-seen")).fencedProducers());
                String commit = act(() -> {
                    producer.commitTransaction();
                    return null;
                });
                return fenced + " " + commit + " " + both(topic);
            }
        });
        Out.step("terminate", () -> {
            String topic = Env.topic("t-terminate", 1);
            try (var producer = open("terminate")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "v")).get();
                String ended = Out.tried(() -> Env.admin.forceTerminateTransaction("terminate").result().get());
                String commit = act(() -> {
                    producer.commitTransaction();
                    return null;
                });
                return ended + " " + commit + " " + Env.values(topic, "read_committed");
            }
        });
        Out.step("two-phase-commit", () -> {
            try (var producer = open("2pc", "transaction.two.phase.commit.enable", "true", "max.block.ms", "8000")) {
                return act(() -> {
                    producer.initTransactions();
                    return null;
                });
            }
        });
    }

    private static String state(String id) throws Exception {
        return Env.admin.describeTransactions(List.of(id)).description(id).get().state().toString();
    }

    private static void timeouts() {
        Out.step("timeout-too-long", () -> {
            try (var producer = open("too-long", "transaction.timeout.ms", "999999999")) {
                return act(() -> {
                    producer.initTransactions();
                    return null;
                });
            }
        });
        Out.step("timeout-aborts", () -> {
            String topic = Env.topic("t-timeout", 1);
            try (var producer = open("slow", "transaction.timeout.ms", "1500")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "late")).get();
                String open = state("slow");
                Out.await("the transaction ends", 30, () -> state("slow").equals("CompleteAbort"));
                String commit = act(() -> {
                    producer.commitTransaction();
                    return null;
                });
                return open + " " + commit + " " + ends(topic) + " " + both(topic);
            }
        });
        Out.step("goes-on-after-timeout", () -> {
            String topic = Env.topic("t-timeout-again", 1);
            try (var producer = open("slow-again", "transaction.timeout.ms", "1500")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "late")).get();
                Out.await("the transaction ends", 30, () -> state("slow-again").equals("CompleteAbort"));
                String sent = act(() -> producer.send(new ProducerRecord<>(topic, "too late")).get());
                String abort = act(() -> {
                    producer.abortTransaction();
                    return null;
                });
                String next = act(() -> {
                    producer.beginTransaction();
                    producer.send(new ProducerRecord<>(topic, "next")).get();
                    producer.commitTransaction();
                    return null;
                });
                return sent + " " + abort + " " + next + " " + both(topic);
            }
        });
        Out.step("dead-producer-holds-nobody-up", () -> {
            String topic = Env.topic("t-dead", 1);
            var dead = open("dead", "transaction.timeout.ms", "2000");
            dead.initTransactions();
            dead.beginTransaction();
            dead.send(new ProducerRecord<>(topic, "never committed")).get();
            dead.close(Duration.ZERO);
            Env.fill(topic, 0, 0, 3);
            try (var consumer = Env.consumer("isolation.level", "read_committed")) {
                consumer.assign(List.of(new TopicPartition(topic, 0)));
                return Env.take(consumer, 3).stream().map(r -> r.offset() + "=" + r.value()).toList();
            }
        });
    }

    private static void administration() {
        Out.step("describe-open", () -> {
            String topic = Env.topic("t-describe", 2);
            try (var producer = open("describe")) {
                producer.initTransactions();
                String ready = Out.render(Env.admin.describeTransactions(List.of("describe")).all());
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, 0, "k", "v")).get();
                producer.send(new ProducerRecord<>(topic, 1, "k", "v")).get();
                String open = Out.render(Env.admin.describeTransactions(List.of("describe")).all());
                String active = Out.render(Env.admin.describeProducers(List.of(new TopicPartition(topic, 0))).all());
                producer.commitTransaction();
                Out.await("it ends", 10, () -> state("describe").equals("CompleteCommit"));
                return ready + "\n" + open + "\n" + active + "\n" + Out.render(Env.admin.describeTransactions(List.of("describe")).all()) + "\n"
                        + Out.render(Env.admin.describeProducers(List.of(new TopicPartition(topic, 0))).all());
            }
        });
        Out.step("describe-unknown", () -> Out.tried(() -> Env.admin.describeTransactions(List.of("no-such-id")).all()) + " "
                + Out.tried(() -> Env.admin.describeProducers(List.of(new TopicPartition("t-no-such", 0))).all()));
        Out.step("list", () -> {
            var mine = java.util.Set.of("commit", "abort", "fence", "describe", "many", "list-open");
            try (var producer = open("list-open")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>("t-describe", 0, "k", "v")).get();
                List<Object> lines = new ArrayList<>();
                for (var options : List.of(new ListTransactionsOptions(), new ListTransactionsOptions().filterStates(List.of(TransactionState.ONGOING)),
                        new ListTransactionsOptions().filterOnDuration(3_600_000), new ListTransactionsOptions().filterOnTransactionalIdPattern("(fence|many)$"),
                        new ListTransactionsOptions().filterProducerIds(List.of(987654L)))) {
                    lines.add(Out.tried(() -> {
                        var found = new TreeMap<String, String>();
                        for (var one : Env.admin.listTransactions(options).all().get()) {
                            if (mine.contains(one.transactionalId())) found.put(one.transactionalId(), one.state().toString());
                        }
                        return found;
                    }));
                }
                lines.add(Out.tried(() -> Env.admin.listTransactions(new ListTransactionsOptions().filterOnTransactionalIdPattern("(unclosed")).all().get()));
                producer.abortTransaction();
                return lines.stream().map(Object::toString).reduce((a, b) -> a + "\n" + b).get();
            }
        });
        Out.step("abort-by-administrator", () -> {
            String topic = Env.topic("t-hanging", 1);
            var partition = new TopicPartition(topic, 0);
            try (var producer = open("hanging")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "of the epoch before")).get();
                producer.commitTransaction();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "v")).get();
                var state = Env.admin.describeProducers(List.of(partition)).all().get().get(partition).activeProducers().get(0);
                String wrong = Out.tried(() -> Env.admin.abortTransaction(new AbortTransactionSpec(partition, state.producerId(), (short) (state.producerEpoch() - 1),
                        state.coordinatorEpoch().orElse(0))).all().get());
                String right = Out.tried(() -> Env.admin.abortTransaction(new AbortTransactionSpec(partition, state.producerId(), (short) state.producerEpoch(),
                        state.coordinatorEpoch().orElse(0))).all().get());
                return wrong + " " + right + " " + ends(topic) + " " + both(topic);
            }
        });
    }

    private static void load() {
        Out.step("many-producers", () -> {
            String topic = Env.topic("t-load", 3);
            var threads = Executors.newFixedThreadPool(4);
            List<Future<Integer>> workers = new ArrayList<>();
            for (int w = 0; w < 4; w++) {
                int worker = w;
                workers.add(threads.submit(() -> {
                    try (var producer = open("load-" + worker)) {
                        producer.initTransactions();
                        for (int i = 0; i < 40; i++) {
                            producer.beginTransaction();
                            for (int k = 0; k < 5; k++) producer.send(new ProducerRecord<>(topic, (worker + k) % 3, "k", (i % 4 == 3 ? "aborted" : "kept") + worker + "-" + i + "-" + k));
                            producer.flush();
                            if (i % 4 == 3) producer.abortTransaction(); else producer.commitTransaction();
                        }
                    }
                    return 0;
                }));
            }
            for (var one : workers) one.get(100, TimeUnit.SECONDS);
            threads.shutdown();
            Collection<String> committed = Env.values(topic, "read_committed");
            return Env.brief(committed) + ", aborted ones among them " + committed.stream().filter(v -> v.startsWith("aborted")).count() + ", all "
                    + Env.values(topic, "read_uncommitted").size();
        });
    }
}
