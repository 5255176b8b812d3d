import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Owns how steps are run and told, one line each, and the making of clients. */
final class Tell {
    interface Body {
        Object run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static final long TICK = 100;
    private static final long STEP_SECONDS = 90;

    static int failed;
    static AdminClient admin;
    private static String bootstrap;
    /** Put in front of all names, so that several versions can use one server. */
    static String prefix = "";

    private Tell() {}

    static void open(String address, List<String> more) {
        bootstrap = address;
        if (!more.isEmpty()) prefix = more.get(0);
        admin = AdminClient.create(properties());
    }

    /** Runs a step on a thread of its own, so that a hang costs that step only. */
    static void step(String name, Body body) {
        FutureTask<String> task = new FutureTask<>(() -> String.valueOf(body.run()));
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        thread.start();
        String text;
        try {
            text = task.get(STEP_SECONDS, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            failed++;
            text = "!" + cause(e);
            e.getCause().printStackTrace();
        } catch (TimeoutException | InterruptedException e) {
            failed++;
            text = "HANGS";
            for (StackTraceElement at : thread.getStackTrace()) System.err.println("    at " + at);
        }
        System.out.println(name + ": " + text.replace(prefix, ""));
        System.out.flush();
    }

    /** The class of an error, without what only carries it. */
    static String cause(Throwable error) {
        Throwable e = error;
        while (e instanceof ExecutionException && e.getCause() != null) e = e.getCause();
        System.err.println("  " + e);
        return e instanceof IllegalStateException ? e.getMessage() : e.getClass().getSimpleName();
    }

    /** The class of what a call ends with, or what it gives. */
    static String tried(Body body) {
        try {
            return String.valueOf(body.run());
        } catch (Exception e) {
            return "!" + cause(e);
        }
    }

    static void await(String what, int seconds, Condition condition) throws Exception {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!condition.holds()) {
            if (System.nanoTime() > until) throw new IllegalStateException("not in time: " + what);
            Thread.sleep(20);
        }
    }

    static Properties properties(String... pairs) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("request.timeout.ms", "20000");
        for (int i = 0; i < pairs.length; i += 2) all.put(pairs[i], pairs[i + 1]);
        return all;
    }

    static KafkaProducer<String, String> producer(String... pairs) {
        Properties all = properties(pairs);
        all.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        all.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        return new KafkaProducer<>(all);
    }

    /** Closes a producer that was refused, without waiting: how close is given a time differs between the versions. */
    static void abandon(KafkaProducer<String, String> producer) {
        Thread thread = new Thread(producer::close);
        thread.setDaemon(true);
        thread.start();
    }

    static KafkaConsumer<String, String> consumer(String... pairs) {
        Properties all = properties("auto.offset.reset", "earliest", "enable.auto.commit", "false", "fetch.max.wait.ms", "100",
                "session.timeout.ms", "6000", "heartbeat.interval.ms", "200", "metadata.max.age.ms", "1000");
        for (int i = 0; i < pairs.length; i += 2) all.put(pairs[i], pairs[i + 1]);
        // Clients older than 2.0 want a request to outlive a session.
        all.put("request.timeout.ms", "40000");
        all.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        all.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        return new KafkaConsumer<>(all);
    }

    /** Makes a topic and waits until it has its leaders. */
    static String topic(String stem, int partitions) throws Exception {
        String name = prefix + stem;
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
        await("topic " + name, 20, () -> {
            try {
                return admin.describeTopics(List.of(name)).all().get().get(name).partitions().size() == partitions;
            } catch (ExecutionException e) {
                return false;
            }
        });
        return name;
    }

    static void fill(String topic, int partitions, int from, int to) throws Exception {
        try (KafkaProducer<String, String> producer = producer("acks", "all")) {
            for (int i = from; i < to; i++) producer.send(new ProducerRecord<>(topic, i % partitions, "k" + i, "v" + i));
            producer.flush();
        }
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> all = new ArrayList<>();
        for (int i = 0; i < count; i++) all.add(new TopicPartition(topic, i));
        return all;
    }

    /** Every record of a topic as an isolation level shows it, to the end that the client sees. */
    @SuppressWarnings("deprecation")
    static List<ConsumerRecord<String, String>> read(String topic, int partitions, String isolation) throws Exception {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = consumer("isolation.level", isolation)) {
            List<TopicPartition> wanted = partitions(topic, partitions);
            consumer.assign(wanted);
            consumer.seekToBeginning(wanted);
            var ends = consumer.endOffsets(wanted);
            await("the end of " + topic, 40, () -> {
                consumer.poll(TICK).forEach(all::add);
                for (var end : ends.entrySet()) if (consumer.position(end.getKey()) < end.getValue()) return false;
                return true;
            });
        }
        return all;
    }

    static String values(String topic, int partitions, String isolation) throws Exception {
        List<String> all = new ArrayList<>();
        read(topic, partitions, isolation).forEach(r -> all.add(r.value()));
        return brief(all);
    }

    static String brief(Collection<String> values) {
        TreeSet<String> sorted = new TreeSet<>(values);
        return values.size() <= 8 ? sorted.toString() : values.size() + " values, " + sorted.size() + " of them distinct, " + sorted.first() + " to " + sorted.last();
    }
}
