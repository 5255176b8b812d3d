import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Owns the move of a live group from one protocol to the other, both ways, under a stream of records. */
final class Migrate {
    private static final String TOPIC = "m-topic";
    private static final String GROUP = "m-group";
    private static int next;
    private static final Map<String, Integer> seen = new TreeMap<>();

    private Migrate() {}

    private static KafkaConsumer<String, String> member(String protocol) {
        List<String> pairs = new ArrayList<>(List.of("group.id", GROUP, "group.protocol", protocol, "metadata.max.age.ms", "1000"));
        if (protocol.equals("classic")) pairs.addAll(List.of("heartbeat.interval.ms", "200", "session.timeout.ms", "10000"));
        return Env.consumer(pairs.toArray(new String[0]));
    }

    /** Sends a few records, polls and commits with everybody, until the condition holds. */
    @SafeVarargs
    private static void live(String what, Out.Condition condition, KafkaConsumer<String, String>... members) throws Exception {
        try (var producer = Env.producer("linger.ms", "0")) {
            Out.await(what, 60, () -> {
                for (int i = 0; i < 4; i++) producer.send(new ProducerRecord<>(TOPIC, i, "k", "v" + next++)).get();
                for (var one : members) {
                    one.poll(Duration.ofMillis(30)).forEach(r -> seen.merge(r.value(), 1, Integer::sum));
                    try {
                        one.commitSync();
                    } catch (org.apache.kafka.clients.consumer.CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException e) {
                        // A rebalance came between: what was read may come again.
                        System.err.println("  " + e);
                    }
                }
                return condition.holds();
            });
        }
    }

    private static String type() throws Exception {
        var group = Env.admin.describeConsumerGroups(List.of(GROUP)).all().get().get(GROUP);
        return group.type() + " " + group.groupState() + " of " + group.members().size() + " "
                + group.members().stream().map(m -> m.upgraded().map(String::valueOf).orElse("none")).sorted().toList();
    }

    private static int held(KafkaConsumer<String, String> member) {
        return member.assignment().size();
    }

    static void run() {
        Out.step("there-and-back", () -> {
            Env.topic(TOPIC, 4);
            List<String> types = new ArrayList<>();
            var old = member("classic");
            var older = member("classic");
            old.subscribe(List.of(TOPIC));
            older.subscribe(List.of(TOPIC));
            live("two classic members", () -> held(old) == 2 && held(older) == 2, old, older);
            types.add(type());
            var modern = member("consumer");
            modern.subscribe(List.of(TOPIC));
            live("a new one among them", () -> held(modern) >= 1 && held(old) >= 1 && held(older) >= 1 && held(old) + held(older) + held(modern) == 4, old, older, modern);
            types.add(type());
            older.close();
            live("one of each", () -> held(modern) == 2 && held(old) == 2, old, modern);
            types.add(type());
            old.close();
            live("the new one alone", () -> held(modern) == 4, modern);
            types.add(type());
            var back = member("classic");
            back.subscribe(List.of(TOPIC));
            live("a classic one again", () -> held(modern) == 2 && held(back) == 2, modern, back);
            types.add(type());
            modern.close();
            live("classic alone", () -> held(back) == 4, back);
            types.add(type());
            live("all records", () -> seen.size() == next - 4 || seen.size() == next, back);
            drain(back);
            back.close();
            return String.join("\n", types) + "\nall seen " + (seen.size() == next);
        });
        Out.step("empty-group-changes", () -> {
            List<String> types = new ArrayList<>();
            for (String protocol : List.of("consumer", "classic", "consumer")) {
                try (var one = member(protocol)) {
                    one.subscribe(List.of(TOPIC));
                    Out.await(protocol + " has all", 60, () -> {
                        one.poll(Env.TICK);
                        return held(one) == 4;
                    });
                    types.add(type() + " from " + one.position(new TopicPartition(TOPIC, 0)) / Math.max(1, next / 4));
                }
            }
            return String.join("\n", types);
        });
    }

    private static void drain(KafkaConsumer<String, String> member) throws Exception {
        Out.await("what is left", 30, () -> {
            member.poll(Env.TICK).forEach(r -> seen.merge(r.value(), 1, Integer::sum));
            member.commitSync();
            return seen.size() == next;
        });
    }
}
