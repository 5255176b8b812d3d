import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Owns what a server with auto.create.topics.enable=false says of topics that are not there. */
final class Absent {
    private Absent() {}

    static void run() {
        Out.step("setting", () -> {
            String broker = Env.admin.describeCluster().nodes().get().iterator().next().idString();
            var resource = new ConfigResource(ConfigResource.Type.BROKER, broker);
            return Env.admin.describeConfigs(Set.of(resource)).all().get().get(resource).get("auto.create.topics.enable").value();
        });
        Out.step("produce", () -> {
            try (var producer = Env.producer("max.block.ms", "2000")) {
                return List.of(Out.tried(() -> producer.send(new ProducerRecord<>("n-produced", "v")).get()), Out.tried(() -> producer.partitionsFor("n-asked")));
            }
        });
        Out.step("in-a-transaction", () -> {
            try (var producer = Transactions.open("n-transaction", "max.block.ms", "2000")) {
                producer.initTransactions();
                producer.beginTransaction();
                String sent = Out.tried(() -> producer.send(new ProducerRecord<>("n-transactional", "v")).get());
                return List.of(sent, Out.tried(() -> {
                    producer.abortTransaction();
                    return "aborted";
                }));
            }
        });
        Out.step("consume", () -> {
            // The client asks for creation; the server does not do it.
            try (var consumer = Env.consumer("group.id", "n-group", "default.api.timeout.ms", "2000", "allow.auto.create.topics", "true")) {
                String partitions = Out.tried(() -> consumer.partitionsFor("n-asked"));
                consumer.subscribe(List.of("n-consumed"));
                for (int i = 0; i < 20; i++) consumer.poll(Env.TICK);
                return List.of(partitions, Out.render(consumer.assignment()), Out.tried(() -> {
                    consumer.commitSync(Map.of(new TopicPartition("n-consumed", 0), new org.apache.kafka.clients.consumer.OffsetAndMetadata(1)));
                    return "committed";
                }));
            }
        });
        Out.step("nothing-was-made", () -> new TreeSet<>(Env.admin.listTopics().names().get().stream().filter(name -> name.startsWith("n-")).toList()));
        Out.step("made-by-hand", () -> {
            Env.topic("n-made", 2);
            Env.fill("n-made", 1, 0, 3);
            return Env.values("n-made", "read_committed");
        });
    }
}
