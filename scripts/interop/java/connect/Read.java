import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Owns looking at what Connect left in its topics.
 *
 *   Read BOOTSTRAP values TOPIC     the committed values, in order of partitions and offsets
 *   Read BOOTSTRAP topics PREFIX    the topics of that prefix, their partitions and their cleanup.policy
 */
public final class Read {
    private Read() {}

    public static void main(String[] args) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", args[0]);
        if (args[1].equals("values")) values(config, args[2]); else topics(config, args[2]);
    }

    private static void topics(Properties config, String prefix) throws Exception {
        try (Admin admin = Admin.create(config)) {
            for (String name : new TreeSet<>(admin.listTopics().names().get())) {
                if (!name.startsWith(prefix)) continue;
                var resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
                var policy = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("cleanup.policy").value();
                System.out.println(name + " " + admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() + " " + policy);
            }
        }
    }

    private static void values(Properties config, String topic) throws Exception {
        config.put("isolation.level", "read_committed");
        config.put("auto.offset.reset", "earliest");
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            var partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition())).toList();
            consumer.assign(partitions);
            var ends = consumer.endOffsets(partitions);
            long until = System.nanoTime() + 60_000_000_000L;
            while (ends.entrySet().stream().anyMatch(e -> consumer.position(e.getKey()) < e.getValue())) {
                if (System.nanoTime() > until) throw new IllegalStateException("the end of " + topic + " is not reached");
                consumer.poll(Duration.ofMillis(100)).forEach(all::add);
            }
        }
        all.sort((a, b) -> a.partition() != b.partition() ? a.partition() - b.partition() : Long.compare(a.offset(), b.offset()));
        for (var record : all) System.out.println(record.value());
    }
}
