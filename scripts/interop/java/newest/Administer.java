import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Modifier;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Owns a call of every method that the Admin client has. */
final class Administer {
    private static final Set<String> called = new TreeSet<>();
    private static final TopicPartition PARTITION = new TopicPartition("a-topic", 0);
    private static final TopicPartition NOWHERE = new TopicPartition("a-no-such", 0);
    private static Admin admin;

    private Administer() {}

    /** The Admin client, noting which of its methods are called. */
    private static Admin noting(Admin real) {
        return (Admin) Proxy.newProxyInstance(Admin.class.getClassLoader(), new Class<?>[] {Admin.class}, (proxy, method, args) -> {
            called.add(method.getName());
            try {
                return method.invoke(real, args);
            } catch (InvocationTargetException e) {
                throw e.getCause();
            }
        });
    }

    static void run() {
        admin = noting(Env.admin);
        topics();
        configs();
        moreConfigs();
        records();
        groups();
        transactions();
        cluster();
        placement();
        features();
        security();
        quotas();
        client();
        Out.step("never-called", () -> {
            var names = new TreeSet<String>();
            for (var method : Admin.class.getMethods()) if (!Modifier.isStatic(method.getModifiers())) names.add(method.getName());
            names.removeAll(called);
            names.remove("close");
            return names;
        });
    }

    /** One line for each outcome. */
    private static String lines(Out.Body... bodies) {
        List<String> all = new ArrayList<>();
        for (var body : bodies) all.add(Out.tried(body));
        return String.join("\n", all);
    }

    private static void topics() {
        Out.step("create", () -> {
            var result = admin.createTopics(List.of(new NewTopic("a-topic", 3, (short) 1).configs(Map.of("retention.ms", "-1", "max.message.bytes", "50000")),
                    new NewTopic("a-defaults", Optional.empty(), Optional.empty()), new NewTopic("a-placed", Map.of(0, List.of(1), 1, List.of(1))),
                    new NewTopic("a-bad-factor", 1, (short) 3), new NewTopic("a-bad-partitions", 0, (short) 1), new NewTopic("a-bad-place", Map.of(0, List.of(9))),
                    new NewTopic("a-gap", Map.of(0, List.of(1), 2, List.of(1))), new NewTopic("a-twice-there", Map.of(0, List.of(1, 1))),
                    new NewTopic("bad name", 1, (short) 1), new NewTopic("__cluster_metadata", 1, (short) 1),
                    new NewTopic("a-bad-config", 1, (short) 1).configs(Map.of("no.such.config", "1")),
                    new NewTopic("a-bad-value", 1, (short) 1).configs(Map.of("retention.ms", "soon"))));
            return Out.render(result.values()) + "\n" + lines(() -> result.numPartitions("a-topic"), () -> result.replicationFactor("a-topic"), () -> result.topicId("a-topic"),
                    () -> result.numPartitions("a-defaults"), () -> result.replicationFactor("a-placed"), () -> result.config("a-bad-name"));
        });
        Out.step("create-config", () -> configs(admin.createTopics(List.of(new NewTopic("a-told", 1, (short) 1))).config("a-told").get().entries()));
        Out.step("create-again", () -> lines(() -> admin.createTopics(List.of(new NewTopic("a-topic", 3, (short) 1))).all(),
                () -> admin.createTopics(List.of(new NewTopic("a_topic", 3, (short) 1), new NewTopic("a.topic", 1, (short) 1))).values(),
                () -> admin.createTopics(List.of(new NewTopic("a-validated", 2, (short) 1)), new CreateTopicsOptions().validateOnly(true)).numPartitions("a-validated"),
                () -> admin.describeTopics(List.of("a-validated")).allTopicNames(),
                () -> admin.createTopics(List.of(new NewTopic("a-same", 1, (short) 1), new NewTopic("a-same", 1, (short) 1))).values()));
        Out.step("describe", () -> {
            Out.await("they are there", 20, () -> Env.exists("a-topic", 3) && Env.exists("a-placed", 2));
            return lines(() -> admin.describeTopics(List.of("a-topic", "a-placed")).topicNameValues(), () -> admin.describeTopics(List.of("a-no-such", "", "bad name")).topicNameValues(),
                    () -> admin.describeTopics(List.of("a-topic"), new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames().get().get("a-topic").authorizedOperations(),
                    () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds(),
                    () -> admin.describeTopics(List.of("a-topic", "a-placed", "a-told"), new DescribeTopicsOptions().partitionSizeLimitPerResponse(1)).allTopicNames().get().values().stream().map(t -> t.name() + t.partitions().size()).sorted().toList());
        });
        Out.step("describe-by-id", () -> {
            var id = admin.describeTopics(List.of("a-topic")).allTopicNames().get().get("a-topic").topicId();
            return admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name();
        });
        Out.step("list", () -> lines(() -> arrives(() -> admin.listTopics().names().get().contains("a-same")), () -> admin.listTopics().names().get().stream().filter(n -> n.startsWith("a")).sorted().toList(),
                () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).listings().get().stream().filter(t -> t.name().equals("a-topic")).toList()));
        Out.step("create-partitions", () -> lines(() -> admin.createPartitions(Map.of("a-placed", NewPartitions.increaseTo(4, List.of(List.of(1), List.of(1))), "a-topic", NewPartitions.increaseTo(3),
                "a-defaults", NewPartitions.increaseTo(0), "a-no-such", NewPartitions.increaseTo(3), "a-told", NewPartitions.increaseTo(3, List.of(List.of(1)))), new CreatePartitionsOptions()).values(),
                () -> admin.createPartitions(Map.of("a-told", NewPartitions.increaseTo(2, List.of(List.of(7))))).all(),
                () -> admin.createPartitions(Map.of("a-told", NewPartitions.increaseTo(5)), new CreatePartitionsOptions().validateOnly(true)).all(),
                () -> {
                    Out.await("four partitions", 20, () -> Env.exists("a-placed", 4));
                    return Env.exists("a-told", 1);
                }));
        Out.step("delete", () -> lines(() -> admin.deleteTopics(List.of("a-defaults", "a-no-such", "a-placed")).topicNameValues(),
                () -> {
                    var id = admin.describeTopics(List.of("a-told")).allTopicNames().get().get("a-told").topicId();
                    return admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all();
                }, () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).all(), () -> admin.deleteTopics(List.of("")).topicNameValues()));
    }

    /** Every entry on a line of its own, so that exceptions can name single configurations. */
    private static String configs(java.util.Collection<ConfigEntry> entries) throws Exception {
        List<String> all = new ArrayList<>();
        for (var e : entries) {
            all.add(e.name() + "=" + e.value() + " " + e.source() + " " + e.type() + (e.isReadOnly() ? " read-only" : "") + (e.isSensitive() ? " sensitive" : "") + (e.isDefault() ? " default" : "")
                    + " synonyms " + e.synonyms().stream().map(s -> s.name() + "=" + s.value() + " " + s.source()).toList() + (e.documentation() == null ? "" : " documented"));
        }
        all.sort(null);
        return String.join("\n", all);
    }

    private static String described(Type type, String name, String... only) throws Exception {
        var resource = new ConfigResource(type, name);
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true).timeoutMs(5000);
        var found = admin.describeConfigs(List.of(resource), options).all().get().get(resource).entries();
        var names = Set.of(only);
        return configs(found.stream().filter(e -> names.isEmpty() || names.contains(e.name())).toList());
    }

    /** On a real cluster it takes a moment until a broker knows. */
    private static String arrives(Out.Condition condition) throws Exception {
        Out.await("what was altered", 10, condition);
        return "arrives";
    }

    private static AlterConfigOp op(String name, String value, AlterConfigOp.OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private static Object alter(Type type, String name, AlterConfigOp... ops) {
        return admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, name), Arrays.asList(ops)), new AlterConfigsOptions().timeoutMs(5000)).all();
    }

    private static void configs() {
        Out.step("topic-configs", () -> described(Type.TOPIC, "a-topic"));
        Out.step("topic-configs-changed", () -> lines(
                () -> alter(Type.TOPIC, "a-topic", op("cleanup.policy", "compact", AlterConfigOp.OpType.APPEND), op("retention.ms", "", AlterConfigOp.OpType.DELETE), op("segment.bytes", "2097152", AlterConfigOp.OpType.SET)),
                () -> arrives(() -> described(Type.TOPIC, "a-topic", "segment.bytes").contains("segment.bytes=2097152 DYN")),
                () -> described(Type.TOPIC, "a-topic", "cleanup.policy", "retention.ms", "segment.bytes"),
                () -> alter(Type.TOPIC, "a-topic", op("cleanup.policy", "compact", AlterConfigOp.OpType.SUBTRACT)),
                () -> arrives(() -> described(Type.TOPIC, "a-topic", "cleanup.policy").contains("cleanup.policy=delete DYN")),
                () -> described(Type.TOPIC, "a-topic", "cleanup.policy"),
                () -> alter(Type.TOPIC, "a-topic", op("retention.ms", "1", AlterConfigOp.OpType.APPEND)),
                () -> alter(Type.TOPIC, "a-topic", op("retention.ms", "x", AlterConfigOp.OpType.SET)),
                () -> alter(Type.TOPIC, "a-topic", op("cleanup.policy", "explode", AlterConfigOp.OpType.SET)),
                () -> alter(Type.TOPIC, "a-topic", op("max.message.bytes", "-5", AlterConfigOp.OpType.SET)),
                () -> alter(Type.TOPIC, "a-topic", op("nonsense", "1", AlterConfigOp.OpType.SET)),
                () -> alter(Type.TOPIC, "a-topic", op("nonsense", "", AlterConfigOp.OpType.DELETE)),
                () -> alter(Type.TOPIC, "a-topic", op("retention.ms", "1", AlterConfigOp.OpType.SET), op("retention.ms", "2", AlterConfigOp.OpType.SET)),
                () -> alter(Type.TOPIC, "a-no-such", op("retention.ms", "1", AlterConfigOp.OpType.SET)),
                () -> alter(Type.TOPIC, "", op("retention.ms", "1", AlterConfigOp.OpType.SET)),
                () -> admin.incrementalAlterConfigs(Map.of(new ConfigResource(Type.TOPIC, "a-topic"), List.of(op("retention.ms", "77", AlterConfigOp.OpType.SET))), new AlterConfigsOptions().validateOnly(true)).all(),
                () -> described(Type.TOPIC, "a-topic", "retention.ms"),
                () -> described(Type.TOPIC, "a-no-such")));
        for (var value : new TreeMap<>(Map.of("compression.type", "zstd", "min.insync.replicas", "2", "message.timestamp.type", "LogAppendTime", "delete.retention.ms", "1", "segment.ms", "100", "unclean.leader.election.enable", "true",
                "preallocate", "true", "follower.replication.throttled.replicas", "*", "remote.storage.enable", "true", "flush.messages", "1")).entrySet()) {
            Out.step("topic-config-" + value.getKey(), () -> lines(() -> alter(Type.TOPIC, "a-topic", op(value.getKey(), value.getValue(), AlterConfigOp.OpType.SET)), () -> described(Type.TOPIC, "a-topic", value.getKey()),
                    () -> alter(Type.TOPIC, "a-topic", op(value.getKey(), "", AlterConfigOp.OpType.DELETE))));
        }
        Out.step("broker-configs", () -> described(Type.BROKER, "1"));
        Out.step("broker-configs-default", () -> described(Type.BROKER, ""));
        Out.step("broker-configs-other", () -> lines(() -> described(Type.BROKER, "7"), () -> described(Type.BROKER, "one")));
        Out.step("broker-configs-changed", () -> lines(() -> alter(Type.BROKER, "", op("log.retention.ms", "900000000", AlterConfigOp.OpType.SET)),
                () -> arrives(() -> described(Type.BROKER, "1", "log.retention.ms").contains("log.retention.ms=900000000 DYN")), () -> described(Type.BROKER, "1", "log.retention.ms"),
                () -> described(Type.BROKER, ""), () -> alter(Type.BROKER, "1", op("log.retention.ms", "800000000", AlterConfigOp.OpType.SET)),
                () -> arrives(() -> described(Type.BROKER, "1", "log.retention.ms").contains("log.retention.ms=800000000 DYN")), () -> described(Type.BROKER, "1", "log.retention.ms"),
                () -> described(Type.TOPIC, "a-topic", "retention.ms"),
                () -> alter(Type.BROKER, "1", op("log.retention.ms", "", AlterConfigOp.OpType.DELETE)), () -> alter(Type.BROKER, "", op("log.retention.ms", "", AlterConfigOp.OpType.DELETE)),
                () -> alter(Type.BROKER, "1", op("node.id", "2", AlterConfigOp.OpType.SET)), () -> alter(Type.BROKER, "1", op("log.retention.ms", "x", AlterConfigOp.OpType.SET)),
                () -> alter(Type.BROKER, "7", op("log.retention.ms", "1", AlterConfigOp.OpType.SET)), () -> alter(Type.BROKER, "1", op("message.max.bytes", "2000000", AlterConfigOp.OpType.SET)),
                () -> arrives(() -> described(Type.TOPIC, "a-topic", "max.message.bytes").contains("message.max.bytes=2000000")), () -> described(Type.TOPIC, "a-topic", "max.message.bytes"), () -> alter(Type.BROKER, "1", op("message.max.bytes", "", AlterConfigOp.OpType.DELETE))));
    }

    private static void moreConfigs() {
        Out.step("group-configs", () -> lines(() -> described(Type.GROUP, "a-group"), () -> alter(Type.GROUP, "a-group", op("consumer.session.timeout.ms", "50000", AlterConfigOp.OpType.SET), op("share.auto.offset.reset", "earliest", AlterConfigOp.OpType.SET)),
                () -> arrives(() -> described(Type.GROUP, "a-group", "consumer.session.timeout.ms").contains("50000")), () -> described(Type.GROUP, "a-group", "consumer.session.timeout.ms", "share.auto.offset.reset"), () -> alter(Type.GROUP, "a-group", op("consumer.session.timeout.ms", "1", AlterConfigOp.OpType.SET)),
                () -> alter(Type.GROUP, "a-group", op("share.auto.offset.reset", "by_duration:PT1H", AlterConfigOp.OpType.SET)), () -> alter(Type.GROUP, "a-group", op("share.auto.offset.reset", "sometime", AlterConfigOp.OpType.SET)),
                () -> alter(Type.GROUP, "a-group", op("no.such", "1", AlterConfigOp.OpType.SET)), () -> alter(Type.GROUP, "", op("consumer.session.timeout.ms", "50000", AlterConfigOp.OpType.SET)), () -> described(Type.GROUP, "")));
        Out.step("client-metrics-configs", () -> lines(() -> alter(Type.CLIENT_METRICS, "a-metrics", op("interval.ms", "60000", AlterConfigOp.OpType.SET), op("metrics", "org.apache.kafka.producer.,org.apache.kafka.consumer.", AlterConfigOp.OpType.SET),
                op("match", "client_id=nobody", AlterConfigOp.OpType.SET)), () -> described(Type.CLIENT_METRICS, "a-metrics"), () -> described(Type.CLIENT_METRICS, "a-none"),
                () -> alter(Type.CLIENT_METRICS, "a-metrics", op("interval.ms", "5", AlterConfigOp.OpType.SET)), () -> alter(Type.CLIENT_METRICS, "a-metrics", op("match", "nonsense", AlterConfigOp.OpType.SET)),
                () -> alter(Type.CLIENT_METRICS, "a-metrics", op("no.such", "1", AlterConfigOp.OpType.SET)), () -> alter(Type.CLIENT_METRICS, "", op("interval.ms", "60000", AlterConfigOp.OpType.SET))));
        Out.step("list-resources", () -> lines(() -> admin.listConfigResources(Set.of(Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all(),
                () -> admin.listConfigResources(Set.of(Type.TOPIC), new ListConfigResourcesOptions()).all().get().stream().filter(r -> r.name().startsWith("a")).map(ConfigResource::toString).sorted().toList(),
                () -> admin.listConfigResources(Set.of(Type.GROUP), new ListConfigResourcesOptions()).all().get().stream().filter(r -> r.name().startsWith("a")).map(ConfigResource::toString).sorted().toList(),
                () -> admin.listConfigResources(Set.of(Type.BROKER, Type.BROKER_LOGGER), new ListConfigResourcesOptions()).all(),
                () -> admin.listConfigResources().all().get().stream().map(r -> r.type().toString()).distinct().sorted().toList(), () -> admin.listClientMetricsResources().all(),
                () -> alter(Type.CLIENT_METRICS, "a-metrics", op("interval.ms", "", AlterConfigOp.OpType.DELETE), op("metrics", "", AlterConfigOp.OpType.DELETE), op("match", "", AlterConfigOp.OpType.DELETE)),
                () -> arrives(() -> admin.listConfigResources(Set.of(Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all().get().isEmpty()),
                () -> admin.listConfigResources(Set.of(Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all(),
                () -> admin.listConfigResources(Set.of(Type.UNKNOWN), new ListConfigResourcesOptions()).all()));
        Out.step("loggers", () -> lines(() -> admin.describeConfigs(List.of(new ConfigResource(Type.BROKER_LOGGER, "1"))).all().get().values().stream().map(c -> c.get("root") != null).toList(),
                () -> alter(Type.BROKER_LOGGER, "1", op("root", "WARN", AlterConfigOp.OpType.SET)), () -> alter(Type.BROKER_LOGGER, "1", op("root", "LOUD", AlterConfigOp.OpType.SET)),
                () -> alter(Type.BROKER_LOGGER, "1", op("no.such.logger", "INFO", AlterConfigOp.OpType.SET)), () -> alter(Type.BROKER_LOGGER, "1", op("root", "", AlterConfigOp.OpType.DELETE)),
                () -> described(Type.BROKER_LOGGER, "7"), () -> alter(Type.BROKER_LOGGER, "1", op("root", "INFO", AlterConfigOp.OpType.SET))));
        Out.step("unknown-resource", () -> lines(() -> admin.describeConfigs(List.of(new ConfigResource(Type.UNKNOWN, "x"))).all(), () -> alter(Type.UNKNOWN, "x", op("a", "b", AlterConfigOp.OpType.SET))));
    }

    private static void records() {
        Out.step("list-offsets", () -> {
            Env.topic("a-records", 1, "retention.ms", "-1");
            var partition = new TopicPartition("a-records", 0);
            try (var producer = Env.producer()) {
                for (int i = 0; i < 10; i++) producer.send(new ProducerRecord<>("a-records", 0, 1_600_000_000_000L + (i == 4 ? 99 : i), "k", "v")).get();
            }
            return lines(() -> offset(partition, OffsetSpec.earliest()), () -> offset(partition, OffsetSpec.latest()), () -> offset(partition, OffsetSpec.maxTimestamp()), () -> offset(partition, OffsetSpec.forTimestamp(1_600_000_000_005L)),
                    () -> offset(partition, OffsetSpec.forTimestamp(1_700_000_000_000L)), () -> offset(partition, OffsetSpec.earliestLocal()), () -> offset(partition, OffsetSpec.latestTiered()), () -> offset(partition, OffsetSpec.earliestPendingUpload()),
                    () -> offset(NOWHERE, OffsetSpec.latest()), () -> offset(new TopicPartition("a-records", 9), OffsetSpec.latest()));
        });
        Out.step("delete-records", () -> {
            var partition = new TopicPartition("a-records", 0);
            return lines(() -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(3))).lowWatermarks(), () -> offset(partition, OffsetSpec.earliest()),
                    () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(1))).lowWatermarks(), () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(99))).lowWatermarks(),
                    () -> admin.deleteRecords(Map.of(NOWHERE, RecordsToDelete.beforeOffset(1)), new DeleteRecordsOptions().timeoutMs(3000)).lowWatermarks(),
                    () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(-1))).lowWatermarks(), () -> offset(partition, OffsetSpec.earliest()), () -> offset(partition, OffsetSpec.maxTimestamp()));
        });
    }

    private static Object offset(TopicPartition partition, OffsetSpec spec) throws Exception {
        var found = admin.listOffsets(Map.of(partition, spec), new ListOffsetsOptions().timeoutMs(4000)).partitionResult(partition).get();
        return found.offset() + " at " + found.timestamp() + " epoch " + found.leaderEpoch();
    }

    private static void groups() {
        Out.step("offsets", () -> {
            var group = "a-offsets";
            return lines(() -> admin.alterConsumerGroupOffsets(group, Map.of(PARTITION, new OffsetAndMetadata(5, "note"))).all(), () -> admin.listConsumerGroupOffsets(group).all(),
                    () -> admin.alterConsumerGroupOffsets(group, Map.of(NOWHERE, new OffsetAndMetadata(5))).partitionResult(NOWHERE), () -> admin.listConsumerGroupOffsets("a-never").partitionsToOffsetAndMetadata(),
                    () -> admin.listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(PARTITION, NOWHERE)), "a-never", new ListConsumerGroupOffsetsSpec())).all(),
                    () -> admin.listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec()), new ListConsumerGroupOffsetsOptions().requireStable(true)).all(),
                    () -> admin.deleteConsumerGroupOffsets(group, Set.of(PARTITION)).partitionResult(PARTITION), () -> admin.deleteConsumerGroupOffsets(group, Set.of(NOWHERE)).partitionResult(NOWHERE),
                    () -> admin.deleteConsumerGroupOffsets("a-never", Set.of(PARTITION)).partitionResult(PARTITION), () -> admin.listConsumerGroupOffsets(group).all());
        });
        Out.step("describe-groups", () -> {
            Out.await("a group with offsets", 10, () -> admin.alterConsumerGroupOffsets("a-simple", Map.of(PARTITION, new OffsetAndMetadata(5))).all().get() == null);
            return lines(() -> admin.describeConsumerGroups(List.of("a-simple")).all(), () -> admin.describeConsumerGroups(List.of("a-never")).all(), () -> admin.describeConsumerGroups(List.of("")).all(),
                    () -> admin.describeConsumerGroups(List.of("a-simple"), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all().get().get("a-simple").authorizedOperations(),
                    () -> admin.describeClassicGroups(List.of("a-simple", "a-never")).describedGroups(), () -> admin.describeShareGroups(List.of("a-never")).all(), () -> admin.describeShareGroups(List.of("a-simple")).all(),
                    () -> admin.describeStreamsGroups(List.of("a-never")).all(), () -> admin.describeStreamsGroups(List.of("a-simple")).all());
        });
        Out.step("list-groups", () -> {
            try (var member = Env.consumer("group.id", "a-member", "group.protocol", "consumer"); var classic = Env.consumer("group.id", "a-classic")) {
                member.subscribe(List.of("a-topic"));
                classic.subscribe(List.of("a-topic"));
                Out.await("members", 60, () -> {
                    member.poll(Env.TICK);
                    classic.poll(Env.TICK);
                    return member.assignment().size() == 3 && classic.assignment().size() == 3;
                });
                return lines(() -> listed(new ListGroupsOptions()), () -> listed(ListGroupsOptions.forConsumerGroups()), () -> listed(ListGroupsOptions.forShareGroups()), () -> listed(ListGroupsOptions.forStreamsGroups()),
                        () -> listed(new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))), () -> listed(new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))),
                        () -> listed(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))), () -> listed(new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))),
                        () -> listed(new ListGroupsOptions().withProtocolTypes(Set.of("consumer"))), () -> listed(new ListGroupsOptions().withProtocolTypes(Set.of(""))),
                        () -> {
                            @SuppressWarnings("removal")
                            var old = admin.listConsumerGroups(new ListConsumerGroupsOptions()).all().get();
                            return old.stream().filter(g -> g.groupId().startsWith("a-")).map(g -> g.groupId() + " " + g.type() + " " + g.groupState()).sorted().toList();
                        });
            }
        });
        Out.step("delete-groups", () -> lines(() -> admin.deleteConsumerGroups(List.of("a-simple", "a-never")).deletedGroups(), () -> admin.deleteShareGroups(List.of("a-never")).deletedGroups(),
                () -> admin.deleteStreamsGroups(List.of("a-never")).deletedGroups(), () -> admin.deleteConsumerGroups(List.of("")).deletedGroups(),
                () -> admin.removeMembersFromConsumerGroup("a-never", new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("x")))).all()));
        Out.step("streams-and-share-offsets", () -> lines(() -> admin.alterStreamsGroupOffsets("a-streams", Map.of(PARTITION, new OffsetAndMetadata(3))).all(),
                () -> admin.listStreamsGroupOffsets(Map.of("a-streams", new ListStreamsGroupOffsetsSpec())).all(), () -> admin.deleteStreamsGroupOffsets("a-streams", Set.of(PARTITION)).all(),
                () -> admin.alterShareGroupOffsets("a-share", Map.of(PARTITION, 0L)).all(), () -> admin.listShareGroupOffsets(Map.of("a-share", new ListShareGroupOffsetsSpec())).all(),
                () -> admin.deleteShareGroupOffsets("a-share", Set.of("a-topic")).all(), () -> admin.deleteShareGroupOffsets("a-never", Set.of("a-topic")).all(),
                () -> admin.deleteShareGroups(List.of("a-share")).deletedGroups()));
    }

    private static Object listed(ListGroupsOptions options) throws Exception {
        var found = new TreeMap<String, String>();
        for (var g : admin.listGroups(options).all().get()) {
            if (g.groupId().startsWith("a-")) found.put(g.groupId(), g.type().map(GroupType::toString).orElse("?") + "/" + g.protocol() + "/" + g.groupState().map(GroupState::toString).orElse("?") + (g.isSimpleConsumerGroup() ? "/simple" : ""));
        }
        return found;
    }

    private static void transactions() {
        Out.step("transactions", () -> lines(() -> admin.describeTransactions(List.of("a-never")).all(), () -> admin.listTransactions(new ListTransactionsOptions().filterOnTransactionalIdPattern("a-.*")).all(),
                () -> admin.fenceProducers(List.of("a-fenced")).fencedProducers(), () -> admin.fenceProducers(List.of("a-fenced")).producerId("a-fenced").get() >= 0,
                () -> admin.fenceProducers(List.of("a-fenced")).epochId("a-fenced"), () -> admin.describeTransactions(List.of("a-fenced")).all(), () -> admin.describeProducers(List.of(PARTITION)).all(),
                () -> admin.describeProducers(List.of(new TopicPartition("a-topic", 99)), new DescribeProducersOptions().timeoutMs(3000)).all(), () -> admin.describeProducers(List.of(PARTITION), new DescribeProducersOptions().brokerId(1)).all(),
                () -> admin.describeProducers(List.of(NOWHERE), new DescribeProducersOptions().brokerId(1).timeoutMs(3000)).all(), () -> admin.abortTransaction(new AbortTransactionSpec(PARTITION, 999_999, (short) 0, 0)).all(),
                () -> admin.abortTransaction(new AbortTransactionSpec(new TopicPartition("a-topic", 99), 1, (short) 0, 0), new AbortTransactionOptions().timeoutMs(3000)).all(), () -> admin.forceTerminateTransaction("a-never-terminated").result()));
    }

    private static void cluster() {
        Out.step("describe-cluster", () -> lines(() -> admin.describeCluster().nodes(), () -> admin.describeCluster().controller(), () -> admin.describeCluster().clusterId().get().length() > 5,
                () -> admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true)).authorizedOperations(), () -> admin.describeCluster(new DescribeClusterOptions().includeFencedBrokers(true)).nodes()));
        Out.step("quorum", () -> lines(() -> admin.describeMetadataQuorum().quorumInfo(), () -> admin.addRaftVoter(2, Uuid.randomUuid(), Set.of(new RaftVoterEndpoint("CONTROLLER", "127.0.0.1", 1))).all(),
                () -> admin.removeRaftVoter(1, Uuid.randomUuid()).all(), () -> admin.removeRaftVoter(7, Uuid.randomUuid()).all(), () -> admin.unregisterBroker(99).all(), () -> admin.unregisterController(99, new UnregisterControllerOptions()).all()));
        Out.step("log-dirs", () -> lines(() -> admin.describeLogDirs(List.of(1)).descriptions().get(1).get().values().stream().map(d -> Out.failure(d.error() == null ? new Exception("none") : d.error()) + " a-topic partitions "
                + d.replicaInfos().keySet().stream().filter(p -> p.topic().equals("a-topic")).count() + " " + Out.tried(() -> d.replicaInfos().get(PARTITION)) + " volume " + d.totalBytes().isPresent() + d.usableBytes().isPresent()).toList(),
                () -> admin.describeLogDirs(List.of(7), new DescribeLogDirsOptions().timeoutMs(3000)).allDescriptions(),
                () -> admin.describeReplicaLogDirs(List.of(new TopicPartitionReplica("a-topic", 0, 1), new TopicPartitionReplica("a-no-such", 0, 1))).values().entrySet().stream().map(e -> e.getKey() + " " + Out.tried(() -> e.getValue().get().getCurrentReplicaLogDir() != null)).sorted().toList(),
                () -> admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica("a-topic", 0, 1), "/no/such/folder")).all(),
                () -> {
                    String mine = admin.describeLogDirs(List.of(1)).descriptions().get(1).get().keySet().iterator().next();
                    return Out.tried(() -> admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica("a-topic", 0, 1), mine)).all()) + Out.tried(() -> admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica("a-no-such", 0, 1), mine)).all())
                            + Out.tried(() -> admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica("a-topic", 0, 1), "relative")).all());
                }));
    }

    private static void placement() {
        Map<TopicPartition, Optional<NewPartitionReassignment>> ask = new HashMap<>();
        ask.put(PARTITION, Optional.of(new NewPartitionReassignment(List.of(1))));
        ask.put(new TopicPartition("a-topic", 1), Optional.of(new NewPartitionReassignment(List.of(2))));
        ask.put(new TopicPartition("a-topic", 2), Optional.empty());
        ask.put(NOWHERE, Optional.of(new NewPartitionReassignment(List.of(1))));
        ask.put(new TopicPartition("a-topic", 9), Optional.empty());
        Out.step("reassign", () -> lines(() -> admin.alterPartitionReassignments(ask).values(), () -> admin.alterPartitionReassignments(Map.of(PARTITION, Optional.of(new NewPartitionReassignment(List.of(1, 1))))).all(),
                () -> admin.listPartitionReassignments().reassignments(), () -> admin.listPartitionReassignments(Set.of(PARTITION, NOWHERE)).reassignments()));
        Out.step("elect", () -> lines(() -> elected(ElectionType.PREFERRED, Set.of(PARTITION, NOWHERE, new TopicPartition("a-topic", 9))), () -> elected(ElectionType.UNCLEAN, Set.of(PARTITION)),
                () -> admin.electLeaders(ElectionType.PREFERRED, null).partitions().get().size()));
    }

    private static Object elected(ElectionType type, Set<TopicPartition> partitions) throws Exception {
        return admin.electLeaders(type, partitions).partitions();
    }

    private static void features() {
        Out.step("features", () -> {
            var found = admin.describeFeatures().featureMetadata().get();
            List<String> all = new ArrayList<>();
            new TreeMap<>(found.supportedFeatures()).forEach((n, r) -> all.add("supported " + n + " " + r.minVersion() + " to " + r.maxVersion()));
            new TreeMap<>(found.finalizedFeatures()).forEach((n, r) -> all.add("finalized " + n + " " + r.minVersionLevel() + " to " + r.maxVersionLevel()));
            return String.join("\n", all) + "\nepoch " + found.finalizedFeaturesEpoch().isPresent();
        });
        Out.step("update-features", () -> lines(() -> update("no.such.feature", 1, FeatureUpdate.UpgradeType.UPGRADE), () -> update("metadata.version", 1, FeatureUpdate.UpgradeType.SAFE_DOWNGRADE),
                () -> update("metadata.version", 99, FeatureUpdate.UpgradeType.UPGRADE), () -> update("transaction.version", 2, FeatureUpdate.UpgradeType.UPGRADE), () -> update("group.version", 1, FeatureUpdate.UpgradeType.UPGRADE),
                () -> update("transaction.version", 0, FeatureUpdate.UpgradeType.UPGRADE), () -> update("share.version", 99, FeatureUpdate.UpgradeType.UPGRADE)));
    }

    private static Object update(String name, int version, FeatureUpdate.UpgradeType type) {
        return admin.updateFeatures(Map.of(name, new FeatureUpdate((short) version, type)), new UpdateFeaturesOptions().validateOnly(true)).values();
    }

    private static void security() {
        var binding = new AclBinding(new ResourcePattern(ResourceType.TOPIC, "a-topic", PatternType.LITERAL), new AccessControlEntry("User:alice", "*", AclOperation.READ, AclPermissionType.ALLOW));
        Out.step("acls", () -> lines(() -> admin.describeAcls(AclBindingFilter.ANY).values(), () -> admin.createAcls(List.of(binding)).all(), () -> admin.deleteAcls(List.of(AclBindingFilter.ANY)).all()));
        Out.step("scram", () -> {
            var sha256 = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192);
            return lines(() -> admin.describeUserScramCredentials().all(), () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("a-alice", sha256, "secret"),
                    new UserScramCredentialUpsertion("a-twice", sha256, "secret"), new UserScramCredentialUpsertion("a-twice", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), "secret"), new UserScramCredentialUpsertion("a-bob", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 5), "secret"),
                    new UserScramCredentialDeletion("a-nobody", ScramMechanism.SCRAM_SHA_256), new UserScramCredentialUpsertion("", sha256, "secret"))).values(),
                    () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("a-alice", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), "secret"))).all(),
                    () -> {
                        Out.await("the credentials", 10, () -> admin.describeUserScramCredentials(List.of("a-alice")).all().get().get("a-alice").credentialInfos().size() == 2);
                        return admin.describeUserScramCredentials().all();
                    }, () -> admin.describeUserScramCredentials(List.of("a-alice", "a-nobody")).description("a-alice"), () -> admin.describeUserScramCredentials(List.of("a-nobody")).description("a-nobody"),
                    () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialDeletion("a-alice", ScramMechanism.SCRAM_SHA_512), new UserScramCredentialDeletion("a-alice", ScramMechanism.SCRAM_SHA_512))).values(),
                    () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialDeletion("a-alice", ScramMechanism.SCRAM_SHA_512))).all(),
                    () -> {
                        Out.await("one of two", 10, () -> admin.describeUserScramCredentials(List.of("a-alice")).all().get().get("a-alice").credentialInfos().size() == 1);
                        return "deleted";
                    }, () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("a-carol", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 99_999), "secret"))).all());
        });
        Out.step("tokens", () -> lines(() -> admin.createDelegationToken().delegationToken(), () -> admin.describeDelegationToken().delegationTokens(), () -> admin.renewDelegationToken(new byte[] {1}).expiryTimestamp(),
                () -> admin.expireDelegationToken(new byte[] {1}).expiryTimestamp()));
    }

    private static void quotas() {
        var user = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "a-client"));
        Out.step("quotas", () -> lines(() -> admin.describeClientQuotas(ClientQuotaFilter.all()).entities(), () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e9))))).all(),
                () -> {
                    Out.await("the quota", 10, () -> !admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().isEmpty());
                    return admin.describeClientQuotas(ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, "a-client")))).entities();
                }, () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("no_such_rate", 1.0))))).all(),
                () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", null))))).all()));
    }

    private static void client() {
        Out.step("client-instance-id", () -> admin.clientInstanceId(Duration.ofSeconds(5)));
        Out.step("metrics", () -> {
            var metrics = admin.metrics();
            admin.registerMetricForSubscription((org.apache.kafka.common.metrics.KafkaMetric) metrics.values().iterator().next());
            admin.unregisterMetricFromSubscription((org.apache.kafka.common.metrics.KafkaMetric) metrics.values().iterator().next());
            return !metrics.isEmpty();
        });
    }
}
