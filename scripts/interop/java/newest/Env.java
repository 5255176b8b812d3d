import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Owns how clients and topics are made, and what every area does with them. */
final class Env {
    static String bootstrap;
    static Admin admin;
    static final Duration TICK = Duration.ofMillis(50);

    private Env() {}

    /** Pairs of names and values, over the defaults. */
    static Properties properties(String... pairs) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("request.timeout.ms", "20000");
        all.put("default.api.timeout.ms", "30000");
        for (int i = 0; i < pairs.length; i += 2) all.put(pairs[i], pairs[i + 1]);
        return all;
    }

    static void open(String address) {
        bootstrap = address;
        if (admin != null) admin.close(Duration.ZERO);
        admin = Admin.create(properties("client.id", "interop-admin"));
    }

    static KafkaProducer<String, String> producer(String... pairs) {
        Properties all = properties(pairs);
        all.remove("default.api.timeout.ms");
        all.putIfAbsent("max.block.ms", "30000");
        all.putIfAbsent("delivery.timeout.ms", "30000");
        all.putIfAbsent("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        all.putIfAbsent("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        return new KafkaProducer<>(all);
    }

    static KafkaConsumer<String, String> consumer(String... pairs) {
        Properties all = properties(pairs);
        all.putIfAbsent("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        all.putIfAbsent("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        all.putIfAbsent("auto.offset.reset", "earliest");
        all.putIfAbsent("enable.auto.commit", "false");
        all.putIfAbsent("fetch.max.wait.ms", "100");
        return new KafkaConsumer<>(all);
    }

    /** Makes a topic and waits until it can be described, which on a real cluster takes a moment. */
    static String topic(String name, int partitions, String... configs) throws Exception {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) map.put(configs[i], configs[i + 1]);
        admin.createTopics(Set.of(new NewTopic(name, partitions, (short) 1).configs(map))).all().get();
        Out.await("topic " + name, 20, () -> exists(name, partitions));
        // Its leaders may still be on their way: this asks them, again and again.
        Map<TopicPartition, OffsetSpec> ask = new HashMap<>();
        for (int i = 0; i < partitions; i++) ask.put(new TopicPartition(name, i), OffsetSpec.latest());
        admin.listOffsets(ask).all().get();
        return name;
    }

    static boolean exists(String name, int partitions) throws Exception {
        try {
            var found = admin.describeTopics(Set.of(name)).allTopicNames().get().get(name);
            return found.partitions().size() == partitions && found.partitions().stream().allMatch(p -> p.leader() != null);
        } catch (java.util.concurrent.ExecutionException e) {
            if (e.getCause() instanceof UnknownTopicOrPartitionException) return false;
            throw e;
        }
    }

    /** Sends numbered values from..to-1 to one partition and waits for the answers. */
    static void fill(String topic, int partition, int from, int to) throws Exception {
        try (var producer = producer()) {
            var sent = new ArrayList<java.util.concurrent.Future<?>>();
            for (int i = from; i < to; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, partition, "k" + i, "v" + i)));
            }
            for (var one : sent) one.get();
        }
    }

    /** Polls until there are count records, and once more for what is too many. */
    static List<ConsumerRecord<String, String>> take(Consumer<String, String> consumer, int count) throws Exception {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        Out.await(count + " records", 60, () -> {
            consumer.poll(TICK).forEach(all::add);
            return all.size() >= count;
        });
        consumer.poll(TICK).forEach(all::add);
        return all;
    }

    /** Polls until the position of every assigned partition is at its end as read_uncommitted or read_committed sees it. */
    static List<ConsumerRecord<String, String>> toEnd(Consumer<String, String> consumer) throws Exception {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        var ends = consumer.endOffsets(consumer.assignment());
        Out.await("the end " + ends, 60, () -> {
            consumer.poll(TICK).forEach(all::add);
            for (var end : ends.entrySet()) if (consumer.position(end.getKey()) < end.getValue()) return false;
            return true;
        });
        return all;
    }

    /** The values of all records of all partitions of a topic, as an isolation level shows them. */
    static List<String> values(String topic, String isolation) throws Exception {
        try (var consumer = consumer("isolation.level", isolation)) {
            List<TopicPartition> all = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(p -> all.add(new TopicPartition(p.topic(), p.partition())));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            return toEnd(consumer).stream().map(ConsumerRecord::value).sorted().toList();
        }
    }

    /** "3 of 10: a..z" or the values themselves when they are few. */
    static String brief(Collection<String> values) {
        if (values.size() <= 8) return values.toString();
        var sorted = values.stream().sorted().toList();
        return values.size() + " values, " + sorted.stream().distinct().count() + " of them distinct, " + sorted.get(0) + " to "
                + sorted.get(sorted.size() - 1);
    }

    /** How many of a thing there are, by key. */
    static <T> TreeMap<T, Integer> counts(Collection<T> things) {
        TreeMap<T, Integer> all = new TreeMap<>();
        things.forEach(t -> all.merge(t, 1, Integer::sum));
        return all;
    }
}
