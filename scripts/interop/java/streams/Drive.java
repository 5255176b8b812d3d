import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;

/**
 * Owns what goes into the applications and the proof of what comes out.
 *
 *   Drive BOOTSTRAP make                  the topics
 *   Drive BOOTSTRAP words FROM TO [RATE]  lines FROM..TO-1, at most RATE a second
 *   Drive BOOTSTRAP wait-words TO         waits until the output has begun to tell of line TO
 *   Drive BOOTSTRAP check-words TO        waits for the output of lines 0..TO-1 and compares it with the truth
 *   Drive BOOTSTRAP joins BASE FROM TO    orders and clicks, timestamped from BASE on
 *   Drive BOOTSTRAP check-joins BASE TO
 *   Drive BOOTSTRAP topics PREFIX         the application's own topics and what cleans them up
 */
public final class Drive {
    private static final int SECONDS = 120;
    private static String bootstrap;

    private Drive() {}

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        switch (args[1]) {
            case "make" -> make();
            case "words" -> words(number(args[2]), number(args[3]), args.length > 4 ? number(args[4]) : 0);
            case "wait-words" -> await(number(args[2]));
            case "check-words" -> checkWords(number(args[2]));
            case "joins" -> joins(Long.parseLong(args[2]), number(args[3]), number(args[4]));
            case "check-joins" -> checkJoins(Long.parseLong(args[2]), number(args[3]));
            case "topics" -> topics(args[2]);
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    private static int number(String text) {
        return Integer.parseInt(text);
    }

    private static Properties properties() {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        return all;
    }

    private static void make() throws Exception {
        try (Admin admin = Admin.create(properties())) {
            for (String name : List.of("lines", "word-counts", "orders", "clicks", "items", "windowed-counts", "pairs")) {
                try {
                    admin.createTopics(List.of(new NewTopic(name, name.equals("items") ? 1 : 3, (short) 1))).all().get();
                } catch (java.util.concurrent.ExecutionException e) {
                    if (!(e.getCause() instanceof TopicExistsException)) throw e;
                }
            }
        }
        send(List.of("items"), 0, 20, 0, (topic, i) -> new ProducerRecord<>(topic, "item" + i, "name" + i));
    }

    private static void topics(String prefix) throws Exception {
        try (Admin admin = Admin.create(properties())) {
            for (String name : new TreeSet<>(admin.listTopics().names().get())) {
                if (!name.startsWith(prefix + "-")) continue;
                var resource = new org.apache.kafka.common.config.ConfigResource(org.apache.kafka.common.config.ConfigResource.Type.TOPIC, name);
                var config = admin.describeConfigs(Set.of(resource)).all().get().get(resource);
                var partitions = admin.describeTopics(Set.of(name)).allTopicNames().get().get(name).partitions().size();
                System.out.println(name + " " + partitions + " " + config.get("cleanup.policy").value());
            }
        }
    }

    private interface Make {
        ProducerRecord<String, String> record(String topic, int i);
    }

    private static void send(List<String> topics, int from, int to, int rate, Make make) throws Exception {
        Properties config = properties();
        config.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        config.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        // It goes on while the server is away.
        config.put("delivery.timeout.ms", "180000");
        config.put("max.block.ms", "180000");
        List<Future<?>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<String, String>(config)) {
            for (int i = from; i < to; i++) {
                for (String topic : topics) sent.add(producer.send(make.record(topic, i)));
                if (rate > 0 && i % 10 == 0) Thread.sleep(10_000L / rate);
            }
            for (var one : sent) one.get();
        }
    }

    /** The words of a line: some come often, some seldom. */
    static List<String> line(int i) {
        return List.of("a" + i % 7, "b" + i % 53, "c" + i % 401);
    }

    private static void words(int from, int to, int rate) throws Exception {
        send(List.of("lines"), from, to, rate, (topic, i) -> new ProducerRecord<>(topic, String.valueOf(i), String.join(" ", line(i))));
    }

    private static List<ConsumerRecord<String, String>> read(String topic, int expected) throws Exception {
        Properties config = properties();
        config.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        config.put("isolation.level", "read_committed");
        config.put("auto.offset.reset", "earliest");
        config.put("max.poll.records", "5000");
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        try (var consumer = new KafkaConsumer<String, String>(config)) {
            consumer.assign(consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList());
            long until = System.nanoTime() + SECONDS * 1_000_000_000L;
            while (all.size() < expected && System.nanoTime() < until) consumer.poll(Duration.ofMillis(100)).forEach(all::add);
            // What is too much would come now.
            if (all.size() == expected) for (int i = 0; i < 10; i++) consumer.poll(Duration.ofMillis(100)).forEach(all::add);
        }
        return all;
    }

    private static void await(int to) throws Exception {
        int seen = read("word-counts", 3 * to).size();
        if (seen < 3 * to) throw new IllegalStateException("only " + seen + " counts of " + 3 * to);
    }

    private static void checkWords(int to) throws Exception {
        Map<String, Integer> truth = new TreeMap<>();
        for (int i = 0; i < to; i++) line(i).forEach(word -> truth.merge(word, 1, Integer::sum));
        Map<String, Integer> seen = new HashMap<>();
        int wrong = 0;
        var records = read("word-counts", 3 * to);
        for (var record : records) {
            int next = seen.merge(record.key(), 1, Integer::sum);
            if (Integer.parseInt(record.value()) != next && wrong++ < 5) System.out.println(record.key() + " is " + record.value() + " and not " + next);
        }
        for (var word : truth.entrySet()) {
            if (seen.getOrDefault(word.getKey(), 0).equals(word.getValue())) continue;
            if (wrong++ < 10) System.out.println(word.getKey() + " has " + seen.get(word.getKey()) + " updates and not " + word.getValue());
        }
        finish(wrong, records.size() + " counts of " + to + " lines, " + truth.size() + " words, each update once and in order");
    }

    private static void finish(int wrong, String text) {
        System.out.println(wrong == 0 ? "exact: " + text : "WRONG in " + wrong + " places: " + text);
        System.exit(wrong == 0 ? 0 : 1);
    }

    private static String value(String topic, int i) {
        return "item" + i % 20 + ":" + topic.charAt(0) + i;
    }

    /** Orders come every 100 ms, clicks every 70 ms. */
    private static long time(String topic, int i) {
        return i * (topic.equals("orders") ? 100L : 70L);
    }

    private static void joins(long base, int from, int to) throws Exception {
        send(List.of("orders", "clicks"), from, to, 0, (topic, i) -> new ProducerRecord<>(topic, null, base + time(topic, i), "user" + i % 11, value(topic, i)));
    }

    private static void checkJoins(long base, int to) throws Exception {
        TreeSet<String> pairs = new TreeSet<>();
        Map<String, Integer> windows = new TreeMap<>();
        long size = StreamsApp.WINDOW.toMillis();
        for (int o = 0; o < to; o++) {
            windows.merge("item" + o % 20 + "@" + (base + time("orders", o)) / size * size, 1, Integer::sum);
            for (int c = o % 20; c < to; c += 20) {
                if (Math.abs(time("orders", o) - time("clicks", c)) <= StreamsApp.JOIN.toMillis()) pairs.add(value("orders", o) + "+" + value("clicks", c) + "=name" + o % 20);
            }
        }
        int wrong = 0;
        Map<String, Integer> seenPairs = new TreeMap<>();
        read("pairs", pairs.size()).forEach(r -> seenPairs.merge(r.value(), 1, Integer::sum));
        for (String pair : pairs) if (seenPairs.getOrDefault(pair, 0) != 1 && wrong++ < 5) System.out.println(pair + " came " + seenPairs.get(pair) + " times");
        for (String pair : seenPairs.keySet()) if (!pairs.contains(pair) && wrong++ < 5) System.out.println(pair + " should not be");
        Map<String, Integer> seenWindows = new TreeMap<>();
        read("windowed-counts", to).forEach(r -> seenWindows.merge(r.key(), Integer.parseInt(r.value()), Math::max));
        if (!seenWindows.equals(windows)) {
            wrong++;
            System.out.println("windows: " + seenWindows + "\n  and not " + windows);
        }
        finish(wrong, pairs.size() + " pairs and " + windows.size() + " windows of " + to + " orders and clicks");
    }
}
