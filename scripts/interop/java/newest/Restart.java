import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Owns what must be there after the server was killed: before() leaves it, after() looks. */
final class Restart {
    private static final TopicPartition PARTITION = new TopicPartition("r-topic", 0);

    private Restart() {}

    static void before() {
        Out.step("prepare", () -> {
            Env.topic("r-topic", 1, "retention.ms", "-1");
            Env.fill("r-topic", 0, 0, 10);
            try (var consumer = Env.consumer("group.id", "r-group")) {
                consumer.assign(List.of(PARTITION));
                consumer.commitSync(Map.of(PARTITION, new OffsetAndMetadata(4, "kept")));
            }
            return Env.brief(Env.values("r-topic", "read_committed"));
        });
        Out.step("transactions", () -> {
            try (var committed = Transactions.open("r-committed")) {
                committed.initTransactions();
                committed.beginTransaction();
                committed.send(new ProducerRecord<>("r-topic", "committed")).get();
                committed.sendOffsetsToTransaction(Map.of(PARTITION, new OffsetAndMetadata(7, "in a transaction")), new org.apache.kafka.clients.consumer.ConsumerGroupMetadata("r-txn-group"));
                committed.commitTransaction();
                committed.beginTransaction();
                committed.send(new ProducerRecord<>("r-topic", "aborted")).get();
                committed.abortTransaction();
            }
            // Two are left open: one will be aborted by its next producer, one by its time.
            for (String id : List.of("r-open", "r-expires")) {
                var open = Transactions.open(id, "transaction.timeout.ms", id.equals("r-open") ? "600000" : "20000");
                open.initTransactions();
                open.beginTransaction();
                open.send(new ProducerRecord<>("r-topic", "open " + id)).get();
                open.close(Duration.ZERO);
            }
            return "left open";
        });
        Out.step("share", () -> {
            Env.topic("r-share", 1);
            Env.fill("r-share", 0, 0, 6);
            Share.fromTheStart("r-share-group");
            try (var consumer = Share.explicit("r-share-group", "r-share")) {
                var records = Share.some(consumer);
                for (int i = 0; i < records.size(); i++) consumer.acknowledge(records.get(i), i % 2 == 0 ? AcknowledgeType.ACCEPT : AcknowledgeType.RELEASE);
                return records.size() + " " + consumer.commitSync().values();
            }
        });
        Out.step("settings", () -> List.of(
                Out.tried(() -> Env.admin.incrementalAlterConfigs(Map.of(
                        new ConfigResource(ConfigResource.Type.TOPIC, "r-topic"), List.of(set("max.message.bytes", "77777")),
                        new ConfigResource(ConfigResource.Type.GROUP, "r-some-group"), List.of(set("consumer.session.timeout.ms", "50000")),
                        new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "r-metrics"), List.of(set("interval.ms", "1000"), set("metrics", "org.apache.kafka.producer.")))).all()),
                Out.tried(() -> Env.admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("r-user", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "secret"))).all())));
        Out.step("consumer-group", () -> {
            try (var one = Env.consumer("group.id", "r-modern", "group.protocol", "consumer")) {
                one.subscribe(List.of("r-topic"));
                Env.take(one, 10);
                one.commitSync(Map.of(PARTITION, new OffsetAndMetadata(5)));
            }
            return "committed";
        });
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }

    static void after() {
        Out.step("offsets", () -> {
            List<Object> all = new ArrayList<>();
            for (String group : List.of("r-group", "r-txn-group", "r-modern")) all.add(Env.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
            return all.stream().map(one -> Out.tried(() -> one)).toList();
        });
        Out.step("open-transactions", () -> {
            String before = Out.tried(() -> Env.admin.describeTransactions(List.of("r-open")).description("r-open").get().state());
            try (var next = Transactions.open("r-open")) {
                next.initTransactions();
                next.beginTransaction();
                next.send(new ProducerRecord<>("r-topic", "of the next")).get();
                next.commitTransaction();
            }
            Out.await("the other is aborted", 60, () -> Env.admin.describeTransactions(List.of("r-expires")).description("r-expires").get().state().toString().equals("CompleteAbort"));
            return before + " " + Env.brief(Env.values("r-topic", "read_committed").stream().filter(v -> !v.startsWith("v")).toList()) + " of "
                    + Env.values("r-topic", "read_uncommitted").size();
        });
        Out.step("share", () -> {
            String state = Out.tried(() -> Env.admin.listShareGroupOffsets(Map.of("r-share-group", new ListShareGroupOffsetsSpec())).all());
            try (var consumer = Share.explicit("r-share-group", "r-share")) {
                List<String> seen = new ArrayList<>();
                Out.await("what was released", 60, () -> {
                    for (var record : consumer.poll(Duration.ofMillis(200))) {
                        seen.add(record.value() + "x" + record.deliveryCount().orElse((short) -1));
                        consumer.acknowledge(record);
                    }
                    consumer.commitSync();
                    return seen.size() >= 3;
                });
                return state + " " + seen;
            }
        });
        Out.step("settings", () -> {
            List<String> all = new ArrayList<>();
            for (var ask : Map.of(ConfigResource.Type.TOPIC, "r-topic", ConfigResource.Type.GROUP, "r-some-group", ConfigResource.Type.CLIENT_METRICS, "r-metrics").entrySet()) {
                var resource = new ConfigResource(ask.getKey(), ask.getValue());
                all.add(Out.tried(() -> Env.admin.describeConfigs(Set.of(resource)).all().get().get(resource).entries().stream()
                        .filter(e -> e.source().toString().startsWith("DYNAMIC")).map(e -> e.name() + "=" + e.value()).sorted().toList()));
            }
            all.sort(null);
            all.add(Out.tried(() -> Env.admin.describeUserScramCredentials(List.of("r-user")).all()));
            return all;
        });
        Out.step("goes-on", () -> {
            Env.fill("r-topic", 0, 50, 60);
            try (var consumer = Env.consumer("group.id", "r-modern", "group.protocol", "consumer", "isolation.level", "read_committed")) {
                consumer.subscribe(List.of("r-topic"));
                return Env.brief(Env.take(consumer, 17).stream().map(r -> r.value()).toList());
            }
        });
    }
}
