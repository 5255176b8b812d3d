import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** Owns what is asked of consumer groups. */
final class Groups {
    private Groups() {}

    /** One member on a thread of its own. */
    private static final class Member {
        final List<String> seen = Collections.synchronizedList(new ArrayList<>());
        volatile List<TopicPartition> assigned = List.of();
        private final AtomicBoolean leaving = new AtomicBoolean();
        private final Thread thread;
        private volatile String wrong = "";

        @SuppressWarnings("deprecation")
        Member(String group, String topic, String assignor) {
            thread = new Thread(() -> {
                try (KafkaConsumer<String, String> consumer = Tell.consumer("group.id", group, "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor)) {
                    consumer.subscribe(List.of(topic));
                    while (!leaving.get()) {
                        consumer.poll(Tell.TICK).forEach(r -> seen.add(r.value()));
                        assigned = new ArrayList<>(consumer.assignment());
                        try {
                            consumer.commitSync();
                        } catch (CommitFailedException moved) {
                            // The partitions have moved on; what was read is read again.
                        } catch (org.apache.kafka.common.errors.RetriableException later) {
                            // A rebalance is under way: the next round commits.
                        }
                    }
                } catch (RuntimeException e) {
                    wrong = e.toString();
                }
            });
            thread.start();
        }

        void leave() throws Exception {
            leaving.set(true);
            thread.join(30_000);
            if (thread.isAlive() || !wrong.isEmpty()) throw new IllegalStateException("a member ended badly: " + wrong);
        }
    }

    static void run() {
        for (String assignor : List.of("RangeAssignor", "RoundRobinAssignor", "StickyAssignor")) Tell.step("group-" + assignor, () -> shared(assignor));
        Tell.step("commits", Groups::commits);
        Tell.step("auto-commit", Groups::autoCommit);
        Tell.step("pattern", Groups::pattern);
    }

    /** Two members share, one leaves, a third comes: all records are read, the shares are even. */
    private static String shared(String assignor) throws Exception {
        String topic = Tell.topic("g-" + assignor, 4);
        String group = Tell.prefix + "g-" + assignor;
        Tell.fill(topic, 4, 0, 100);
        Member one = new Member(group, topic, assignor);
        Tell.await("one has all", 40, () -> one.assigned.size() == 4 && new TreeSet<>(one.seen).size() == 100);
        Member two = new Member(group, topic, assignor);
        Tell.await("two share", 40, () -> one.assigned.size() == 2 && two.assigned.size() == 2);
        Tell.fill(topic, 4, 100, 200);
        Tell.await("200 records", 40, () -> union(one, two).size() == 200);
        one.leave();
        Tell.await("the other has all", 40, () -> two.assigned.size() == 4);
        Tell.fill(topic, 4, 200, 300);
        Tell.await("300 records", 40, () -> union(one, two).size() == 300);
        two.leave();
        return "300 records, " + committed(group, topic, 4);
    }

    private static TreeSet<String> union(Member one, Member two) {
        TreeSet<String> all = new TreeSet<>(new ArrayList<>(List.of(one.seen.toArray(new String[0]))));
        all.addAll(List.of(two.seen.toArray(new String[0])));
        return all;
    }

    @SuppressWarnings("deprecation")
    private static String committed(String group, String topic, int partitions) {
        long sum = 0;
        try (KafkaConsumer<String, String> consumer = Tell.consumer("group.id", group)) {
            for (TopicPartition p : Tell.partitions(topic, partitions)) {
                OffsetAndMetadata found = consumer.committed(p);
                sum += found == null ? 0 : found.offset();
            }
        }
        return "committed " + sum;
    }

    @SuppressWarnings("deprecation")
    private static String commits() throws Exception {
        String topic = Tell.topic("commits", 2);
        Tell.fill(topic, 2, 0, 20);
        TopicPartition one = new TopicPartition(topic, 0);
        TopicPartition two = new TopicPartition(topic, 1);
        String group = Tell.prefix + "commits";
        try (KafkaConsumer<String, String> consumer = Tell.consumer("group.id", group)) {
            consumer.assign(List.of(one, two));
            String before = String.valueOf(consumer.committed(one));
            consumer.commitSync(Map.of(one, new OffsetAndMetadata(3, "three"), two, new OffsetAndMetadata(10)));
            AtomicBoolean done = new AtomicBoolean();
            consumer.commitAsync(Map.of(two, new OffsetAndMetadata(4, "four")), (offsets, e) -> done.set(e == null));
            Tell.await("the commit", 20, () -> {
                consumer.poll(Tell.TICK);
                return done.get();
            });
            OffsetAndMetadata first = consumer.committed(one);
            OffsetAndMetadata second = consumer.committed(two);
            return before + " then " + first.offset() + "/" + first.metadata() + " " + second.offset() + "/" + second.metadata();
        }
    }

    @SuppressWarnings("deprecation")
    private static String autoCommit() throws Exception {
        String topic = Tell.topic("auto", 1);
        Tell.fill(topic, 1, 0, 10);
        String group = Tell.prefix + "auto";
        List<String> seen = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = Tell.consumer("group.id", group, "enable.auto.commit", "true", "auto.commit.interval.ms", "100")) {
            consumer.subscribe(List.of(topic));
            Tell.await("ten records", 40, () -> {
                consumer.poll(Tell.TICK).forEach(r -> seen.add(r.value()));
                return seen.size() >= 10;
            });
        }
        return seen.size() + " read, " + committed(group, topic, 1);
    }

    @SuppressWarnings("deprecation")
    private static String pattern() throws Exception {
        String first = Tell.topic("pattern-1", 1);
        Tell.fill(first, 1, 0, 3);
        // Nothing is committed, so what was read may come again with a rebalance.
        TreeSet<String> seen = new TreeSet<>();
        try (KafkaConsumer<String, String> consumer = Tell.consumer("group.id", Tell.prefix + "pattern")) {
            consumer.subscribe(Pattern.compile(Pattern.quote(Tell.prefix) + "pattern-.*"), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(java.util.Collection<TopicPartition> partitions) {}

                @Override
                public void onPartitionsAssigned(java.util.Collection<TopicPartition> partitions) {}
            });
            Tell.await("three records", 40, () -> {
                consumer.poll(Tell.TICK).forEach(r -> seen.add(r.value()));
                return seen.size() >= 3;
            });
            Tell.fill(Tell.topic("pattern-2", 1), 1, 3, 6);
            Tell.await("the records of a topic that came later", 40, () -> {
                consumer.poll(Tell.TICK).forEach(r -> seen.add(r.value()));
                return seen.size() >= 6;
            });
        }
        return Tell.brief(seen);
    }
}
