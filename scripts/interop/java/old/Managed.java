import java.lang.reflect.Method;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.config.ConfigResource;

/** Owns what is asked of the admin client: what 0.11 has, and by reflection what came with 1.0 and 2.0. */
final class Managed {
    private Managed() {}

    static void run() {
        Tell.step("cluster", () -> {
            var cluster = Tell.admin.describeCluster();
            return cluster.nodes().get().size() + " node, a controller " + (cluster.controller().get() != null) + ", an id " + (cluster.clusterId().get().length() > 5);
        });
        Tell.step("topics", () -> {
            String name = Tell.topic("m-topic", 3);
            String again = Tell.tried(() -> Tell.admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all().get());
            String bad = Tell.tried(() -> Tell.admin.createTopics(List.of(new NewTopic(Tell.prefix + "bad name!", 1, (short) 1))).all().get());
            String none = Tell.tried(() -> Tell.admin.createTopics(List.of(new NewTopic(Tell.prefix + "m-none", 0, (short) 1))).all().get());
            String many = Tell.tried(() -> Tell.admin.createTopics(List.of(new NewTopic(Tell.prefix + "m-many", 1, (short) 5))).all().get());
            boolean listed = Tell.admin.listTopics().names().get().contains(name);
            int leader = Tell.admin.describeTopics(List.of(name)).all().get().get(name).partitions().get(2).replicas().size();
            String unknown = Tell.tried(() -> Tell.admin.describeTopics(List.of(Tell.prefix + "m-unknown")).all().get());
            return again + " " + bad + " " + none + " " + many + " " + listed + " " + leader + " " + unknown;
        });
        Tell.step("configs", Managed::configs);
        Tell.step("delete", () -> {
            String name = Tell.topic("m-delete", 1);
            Tell.fill(name, 1, 0, 3);
            Tell.admin.deleteTopics(List.of(name)).all().get();
            Tell.await("it is gone", 20, () -> !Tell.admin.listTopics().names().get().contains(name));
            String twice = Tell.tried(() -> Tell.admin.deleteTopics(List.of(name)).all().get());
            Tell.topic("m-delete", 1);
            return twice + " and anew: " + Tell.values(name, 1, "read_committed");
        });
        Tell.step("acls", () -> Tell.tried(() -> Tell.admin.describeAcls(org.apache.kafka.common.acl.AclBindingFilter.ANY).values().get()));
        if (has("createPartitions")) Tell.step("since-1.0", Managed::since10);
        if (has("listConsumerGroups")) Tell.step("since-2.0", Managed::since20);
    }

    @SuppressWarnings("deprecation")
    private static String configs() throws Exception {
        String name = Tell.topic("m-configs", 1);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        Tell.admin.alterConfigs(Map.of(resource, new Config(List.of(new ConfigEntry("retention.ms", "3600000"), new ConfigEntry("cleanup.policy", "compact"))))).all().get();
        // On a cluster a broker may not know yet.
        Tell.await("the new configuration", 20, () -> told(resource, "retention.ms").equals("3600000"));
        String set = told(resource, "cleanup.policy") + " " + told(resource, "max.message.bytes");
        String bad = Tell.tried(() -> Tell.admin.alterConfigs(Map.of(resource, new Config(List.of(new ConfigEntry("no.such.config", "1"))))).all().get());
        String broker = told(new ConfigResource(ConfigResource.Type.BROKER, Tell.admin.describeCluster().nodes().get().iterator().next().idString()), "log.cleanup.policy");
        return set + " " + bad + " " + broker;
    }

    private static String told(ConfigResource resource, String key) throws Exception {
        ConfigEntry entry = Tell.admin.describeConfigs(List.of(resource)).all().get().get(resource).get(key);
        return entry == null ? "none" : entry.value();
    }

    private static boolean has(String method) {
        for (Method m : Tell.admin.getClass().getMethods()) if (m.getName().equals(method)) return true;
        return false;
    }

    private static Object call(Object on, String method, Class<?> type, Object argument) throws Exception {
        Method m = type == null ? on.getClass().getMethod(method) : on.getClass().getMethod(method, type);
        m.setAccessible(true);
        return type == null ? m.invoke(on) : m.invoke(on, argument);
    }

    private static Object all(Object result) throws Exception {
        return ((org.apache.kafka.common.KafkaFuture<?>) call(result, "all", null, null)).get();
    }

    private static String since10() throws Exception {
        String name = Tell.topic("m-grows", 1);
        Class<?> more = Class.forName("org.apache.kafka.clients.admin.NewPartitions");
        all(call(Tell.admin, "createPartitions", Map.class, Map.of(name, more.getMethod("increaseTo", int.class).invoke(null, 4))));
        Tell.await("four partitions", 20, () -> Tell.admin.describeTopics(List.of(name)).all().get().get(name).partitions().size() == 4);
        String fewer = Tell.tried(() -> all(call(Tell.admin, "createPartitions", Map.class, Map.of(name, more.getMethod("increaseTo", int.class).invoke(null, 2)))));
        int node = Tell.admin.describeCluster().nodes().get().iterator().next().id();
        Map<?, ?> dirs = (Map<?, ?>) all(call(Tell.admin, "describeLogDirs", Collection.class, List.of(node)));
        return "4 partitions, " + fewer + ", log directories of " + dirs.size();
    }

    private static String since20() throws Exception {
        String groups = "listed";
        Collection<?> listed = (Collection<?>) all(call(Tell.admin, "listConsumerGroups", null, null));
        TreeSet<String> names = new TreeSet<>();
        for (Object one : listed) names.add((String) call(one, "groupId", null, null));
        if (!names.contains(Tell.prefix + "commits")) groups = "not listed";
        String group = Tell.prefix + "commits";
        Object described = ((Map<?, ?>) all(call(Tell.admin, "describeConsumerGroups", Collection.class, List.of(group)))).get(group);
        Object offsets = call(Tell.admin, "listConsumerGroupOffsets", String.class, group);
        Map<?, ?> found = (Map<?, ?>) ((org.apache.kafka.common.KafkaFuture<?>) call(offsets, "partitionsToOffsetAndMetadata", null, null)).get();
        Object state = call(described, "state", null, null);
        all(call(Tell.admin, "deleteConsumerGroups", Collection.class, List.of(group)));
        String again = Tell.tried(() -> all(call(Tell.admin, "deleteConsumerGroups", Collection.class, List.of(group))));
        String topic = Tell.topic("m-records", 1);
        Tell.fill(topic, 1, 0, 10);
        Class<?> before = Class.forName("org.apache.kafka.clients.admin.RecordsToDelete");
        Object until = before.getMethod("beforeOffset", long.class).invoke(null, 6L);
        all(call(Tell.admin, "deleteRecords", Map.class, Map.of(new org.apache.kafka.common.TopicPartition(topic, 0), until)));
        return groups + " " + state + " " + found.size() + " offsets, then " + again + "; " + Tell.values(topic, 1, "read_committed");
    }
}
