import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Owns what is asked of share groups. */
final class Share {
    private Share() {}

    static KafkaShareConsumer<String, String> open(String group, String... more) {
        Properties all = Env.properties(more);
        all.put("group.id", group);
        all.putIfAbsent("fetch.max.wait.ms", "100");
        all.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        all.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        return new KafkaShareConsumer<>(all);
    }

    static KafkaShareConsumer<String, String> explicit(String group, String topic) {
        var consumer = open(group, "share.acknowledgement.mode", "explicit");
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    static void configure(String group, String... pairs) throws Exception {
        List<AlterConfigOp> ops = new ArrayList<>();
        for (int i = 0; i < pairs.length; i += 2) ops.add(new AlterConfigOp(new ConfigEntry(pairs[i], pairs[i + 1]), AlterConfigOp.OpType.SET));
        Env.admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), ops)).all().get();
    }

    static String fromTheStart(String group) throws Exception {
        configure(group, "share.auto.offset.reset", "earliest");
        return group;
    }

    /** Polls until there are records, or none for a while when none are to come. */
    static List<ConsumerRecord<String, String>> some(KafkaShareConsumer<String, String> consumer) throws Exception {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        Out.await("records", 40, () -> {
            consumer.poll(Duration.ofMillis(200)).forEach(all::add);
            return !all.isEmpty();
        });
        return all;
    }

    private static String told(Collection<ConsumerRecord<String, String>> records) {
        return records.stream().map(r -> r.value() + "x" + r.deliveryCount().map(String::valueOf).orElse("?")).toList().toString();
    }

    private static String committed(KafkaShareConsumer<String, String> consumer) {
        return Out.tried(() -> {
            Map<String, String> all = new TreeMap<>();
            for (var one : consumer.commitSync().entrySet()) all.put(one.getKey().topicPartition().toString(), Out.render(one.getValue()));
            return all;
        });
    }

    static void run() {
        implicit();
        acknowledged();
        together();
        administration();
    }

    private static void implicit() {
        Out.step("implicit", () -> {
            String topic = Env.topic("s-implicit", 2);
            Env.fill(topic, 0, 0, 20);
            Env.fill(topic, 1, 20, 40);
            fromTheStart("s-g-implicit");
            List<String> values = new ArrayList<>();
            try (var consumer = open("s-g-implicit")) {
                consumer.subscribe(List.of(topic));
                Out.await("40 records", 60, () -> {
                    consumer.poll(Duration.ofMillis(200)).forEach(r -> values.add(r.value()));
                    return values.size() >= 40;
                });
                String committed = committed(consumer);
                try (var later = open("s-g-implicit")) {
                    later.subscribe(List.of(topic));
                    Env.fill(topic, 0, 40, 41);
                    Out.await("the last one", 60, () -> {
                        later.poll(Duration.ofMillis(100)).forEach(r -> values.add(r.value()));
                        consumer.poll(Duration.ofMillis(100)).forEach(r -> values.add(r.value()));
                        return values.size() >= 41;
                    });
                }
                return Env.brief(values) + " " + !committed.contains("!") + " " + consumer.subscription();
            }
        });
        Out.step("wakeup-and-unsubscribe", () -> {
            try (var consumer = open("s-g-implicit")) {
                String id = Out.tried(() -> consumer.clientInstanceId(Duration.ofSeconds(5)));
                consumer.subscribe(List.of("s-implicit"));
                consumer.wakeup();
                String woken = Out.tried(() -> consumer.poll(Duration.ofSeconds(20)).count());
                consumer.unsubscribe();
                return id + " " + woken + " " + consumer.subscription();
            }
        });
        Out.step("latest-by-default", () -> {
            String topic = Env.topic("s-latest", 1);
            Env.fill(topic, 0, 0, 5);
            try (var consumer = open("s-g-latest")) {
                consumer.subscribe(List.of(topic));
                Out.await("assignment", 40, () -> {
                    consumer.poll(Duration.ofMillis(100));
                    var group = Env.admin.describeShareGroups(List.of("s-g-latest")).all().get().get("s-g-latest");
                    return group.members().stream().anyMatch(m -> !m.assignment().topicPartitions().isEmpty());
                });
                // The start is set at the first fetch: what comes then is read, what was there is not.
                List<String> values = new ArrayList<>();
                int[] next = {100};
                Out.await("a new record", 40, () -> {
                    Env.fill(topic, 0, next[0], ++next[0]);
                    consumer.poll(Duration.ofMillis(200)).forEach(r -> values.add(r.value()));
                    return !values.isEmpty();
                });
                return values.stream().noneMatch(v -> v.length() < 4);
            }
        });
    }

    private static void acknowledged() {
        Out.step("accept-release-reject", () -> {
            String topic = Env.topic("s-explicit", 1);
            Env.fill(topic, 0, 0, 6);
            fromTheStart("s-g-explicit");
            List<Object> seen = new ArrayList<>();
            try (var consumer = explicit("s-g-explicit", topic)) {
                var records = some(consumer);
                seen.add(told(records));
                for (int i = 0; i < records.size(); i++) {
                    consumer.acknowledge(records.get(i), i % 3 == 0 ? AcknowledgeType.ACCEPT : i % 3 == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.REJECT);
                }
                seen.add(committed(consumer));
                records = some(consumer);
                seen.add(told(records));
                for (var record : records) consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                seen.add(committed(consumer));
                Env.fill(topic, 0, 6, 7);
                records = some(consumer);
                seen.add(told(records));
                records.forEach(consumer::acknowledge);
                seen.add(committed(consumer));
            }
            return String.join(" ", seen.stream().map(Object::toString).toList());
        });
        Out.step("release-until-given-up", () -> {
            String topic = Env.topic("s-poison", 1);
            Env.fill(topic, 0, 0, 1);
            fromTheStart("s-g-poison");
            List<String> seen = new ArrayList<>();
            try (var consumer = explicit("s-g-poison", topic)) {
                for (int i = 0; i < 5; i++) {
                    var records = some(consumer);
                    seen.add(told(records));
                    records.forEach(r -> consumer.acknowledge(r, AcknowledgeType.RELEASE));
                    committed(consumer);
                }
                // After five deliveries the broker gives the record up: the next is the next.
                Env.fill(topic, 0, 1, 2);
                var records = some(consumer);
                seen.add(told(records));
                records.forEach(consumer::acknowledge);
                committed(consumer);
            }
            return seen;
        });
        Out.step("renew", () -> {
            String topic = Env.topic("s-renew", 1);
            Env.fill(topic, 0, 0, 2);
            fromTheStart("s-g-renew");
            List<Object> seen = new ArrayList<>();
            try (var consumer = explicit("s-g-renew", topic)) {
                var records = some(consumer);
                seen.add(told(records) + " lock " + consumer.acquisitionLockTimeoutMs());
                for (var record : records) consumer.acknowledge(record, AcknowledgeType.RENEW);
                seen.add(committed(consumer));
                List<ConsumerRecord<String, String>> again = new ArrayList<>();
                Out.await("what was renewed", 30, () -> {
                    consumer.poll(Duration.ofMillis(200)).forEach(again::add);
                    return again.size() == 2;
                });
                seen.add(told(again));
                for (var record : again) consumer.acknowledge(record, AcknowledgeType.ACCEPT);
                seen.add(committed(consumer));
            }
            return String.join(" ", seen.stream().map(Object::toString).toList());
        });
        Out.step("lock-runs-out", () -> {
            String topic = Env.topic("s-lock", 1);
            Env.fill(topic, 0, 0, 3);
            fromTheStart("s-g-lock");
            configure("s-g-lock", "share.record.lock.duration.ms", "15000");
            try (var slow = explicit("s-g-lock", topic); var other = explicit("s-g-lock", topic)) {
                String had = told(some(slow));
                var records = some(other);
                records.forEach(other::acknowledge);
                return had + " " + told(records) + " " + committed(other);
            }
        });
        Out.step("closed-without-acknowledging", () -> {
            String topic = Env.topic("s-closed", 1);
            Env.fill(topic, 0, 0, 3);
            fromTheStart("s-g-closed");
            String had;
            try (var first = explicit("s-g-closed", topic)) {
                had = told(some(first));
            }
            try (var second = explicit("s-g-closed", topic)) {
                var records = some(second);
                records.forEach(second::acknowledge);
                return had + " " + told(records) + " " + committed(second);
            }
        });
        Out.step("misuse", () -> {
            try (var consumer = explicit("s-g-closed", "s-closed"); var implicit = open("s-g-closed")) {
                Env.fill("s-closed", 0, 3, 5);
                var records = some(consumer);
                String unacknowledged = Out.tried(() -> consumer.poll(Duration.ofMillis(50)).count());
                records.forEach(consumer::acknowledge);
                String committed = committed(consumer);
                String twice = Out.tried(() -> {
                    consumer.acknowledge(records.get(0));
                    return "taken";
                });
                String outside = Out.tried(() -> implicit.poll(Duration.ofMillis(50)).count());
                return unacknowledged + " " + committed + " " + twice + " " + outside;
            }
        });
        Out.step("callback", () -> {
            String topic = Env.topic("s-callback", 1);
            Env.fill(topic, 0, 0, 3);
            fromTheStart("s-g-callback");
            List<String> told = new ArrayList<>();
            try (var consumer = explicit("s-g-callback", topic)) {
                consumer.setAcknowledgementCommitCallback((offsets, error) -> offsets.forEach((p, o) -> told.add(p.topicPartition() + " " + o.stream().sorted().toList() + " " + (error == null ? "" : Out.failure(error)))));
                some(consumer).forEach(consumer::acknowledge);
                consumer.commitAsync();
                Out.await("the callback", 30, () -> {
                    consumer.poll(Duration.ofMillis(100));
                    return !told.isEmpty();
                });
            }
            return told;
        });
        Out.step("read-committed", () -> {
            String topic = Env.topic("s-committed", 1);
            fromTheStart("s-g-committed");
            configure("s-g-committed", "share.isolation.level", "read_committed");
            try (var producer = Transactions.open("share-producer")) {
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "aborted"));
                producer.flush();
                producer.abortTransaction();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "committed"));
                producer.commitTransaction();
            }
            try (var consumer = explicit("s-g-committed", topic)) {
                var records = some(consumer);
                records.forEach(consumer::acknowledge);
                return told(records) + committed(consumer);
            }
        });
    }

    private static void together() {
        Out.step("three-members-one-partition", () -> {
            String topic = Env.topic("s-three", 1);
            Env.fill(topic, 0, 0, 3000);
            fromTheStart("s-g-three");
            Map<String, Integer> seen = new TreeMap<>();
            try (var a = open("s-g-three", "max.poll.records", "50"); var b = open("s-g-three", "max.poll.records", "50"); var c = open("s-g-three", "max.poll.records", "50")) {
                for (var one : List.of(a, b, c)) one.subscribe(List.of(topic));
                Out.await("3000 records", 90, () -> {
                    for (var one : List.of(a, b, c)) one.poll(Duration.ofMillis(50)).forEach(r -> seen.merge(r.value(), 1, Integer::sum));
                    return seen.size() >= 3000;
                });
            }
            return seen.size() + " records, delivered more than once " + seen.values().stream().filter(n -> n > 1).count();
        });
    }

    private static void administration() {
        Out.step("describe", () -> {
            String topic = Env.topic("s-describe", 2);
            Env.fill(topic, 0, 0, 4);
            fromTheStart("s-g-describe");
            try (var consumer = open("s-g-describe", "client.id", "share-described")) {
                consumer.subscribe(List.of(topic));
                int count = some(consumer).size();
                committed(consumer);
                String live = Out.render(Env.admin.describeShareGroups(List.of("s-g-describe")).all());
                String delete = Out.tried(() -> Env.admin.deleteShareGroups(List.of("s-g-describe")).all());
                String alter = Out.tried(() -> Env.admin.alterShareGroupOffsets("s-g-describe", Map.of(new TopicPartition(topic, 0), 1L)).all());
                String offsets = Out.tried(() -> Env.admin.deleteShareGroupOffsets("s-g-describe", Set.of(topic)).all());
                return count + " " + live + "\n" + delete + " " + alter + " " + offsets;
            }
        });
        Out.step("offsets", () -> {
            var partition = new TopicPartition("s-describe", 0);
            Out.await("it is empty", 20, () -> Env.admin.describeShareGroups(List.of("s-g-describe")).all().get().get("s-g-describe").members().isEmpty());
            List<String> lines = new ArrayList<>();
            var all = Map.of("s-g-describe", new ListShareGroupOffsetsSpec());
            var one = Map.of("s-g-describe", new ListShareGroupOffsetsSpec().topicPartitions(List.of(partition, new TopicPartition("s-none", 0))));
            lines.add(Out.tried(() -> Env.admin.listShareGroupOffsets(all).all()));
            lines.add(Out.tried(() -> Env.admin.listShareGroupOffsets(one).all()));
            lines.add(Out.tried(() -> Env.admin.alterShareGroupOffsets("s-g-describe", Map.of(partition, 2L)).all()));
            lines.add(Out.tried(() -> Env.admin.listShareGroupOffsets(all).all()));
            lines.add(Out.tried(() -> Env.admin.alterShareGroupOffsets("s-g-describe", Map.of(new TopicPartition("s-none", 0), 2L)).all()));
            try (var consumer = open("s-g-describe")) {
                consumer.subscribe(List.of("s-describe"));
                var records = some(consumer);
                lines.add(records.get(0).value());
                committed(consumer);
            }
            Out.await("it is empty", 20, () -> Env.admin.describeShareGroups(List.of("s-g-describe")).all().get().get("s-g-describe").members().isEmpty());
            lines.add(Out.tried(() -> Env.admin.deleteShareGroupOffsets("s-g-describe", Set.of("s-describe")).all()));
            lines.add(Out.tried(() -> Env.admin.listShareGroupOffsets(all).all()));
            lines.add(Out.tried(() -> Env.admin.deleteShareGroups(List.of("s-g-describe")).all()));
            lines.add(Out.tried(() -> Env.admin.describeShareGroups(List.of("s-g-describe")).all()));
            lines.add(Out.tried(() -> Env.admin.deleteShareGroups(List.of("s-g-never")).all()));
            return String.join("\n", lines);
        });
        Out.step("list", () -> {
            var found = new TreeMap<String, String>();
            for (var group : Env.admin.listGroups(ListGroupsOptions.forShareGroups()).all().get()) {
                found.put(group.groupId(), group.type().orElse(null) + " " + group.groupState().orElse(null) + " " + group.protocol() + " " + group.isSimpleConsumerGroup());
            }
            return found;
        });
        Out.step("wrong-kind-of-group", () -> {
            try (var consumer = Env.consumer("group.id", "s-g-latest", "default.api.timeout.ms", "5000")) {
                consumer.subscribe(List.of("s-latest"));
                String classic = Out.tried(() -> {
                    Out.await("an error", 20, () -> !consumer.poll(Env.TICK).isEmpty());
                    return "joined";
                });
                return classic + " " + Out.tried(() -> Env.admin.describeConsumerGroups(List.of("s-g-latest")).all()) + " "
                        + Out.tried(() -> Env.admin.listConsumerGroupOffsets("s-g-latest").partitionsToOffsetAndMetadata());
            }
        });
    }
}
