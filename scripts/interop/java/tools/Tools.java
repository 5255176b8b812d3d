import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.utils.Exit;

/**
 * Owns the running of Kafka's command-line tools one after the other in one process, which is many times quicker than a
 * process for each: Tools BOOTSTRAP FOLDER COMMANDS. What each prints and ends with comes out in a normal form.
 *
 * A line of COMMANDS is a tool and its arguments, "%..." is for this program (see directive), "#" begins a comment. BS, BOOT
 * and DIR stand for "--bootstrap-server" with the address, the address and the folder. Flags in front: "~" turns numbers into N, "^" sorts the
 * lines, "!" tells of the exit code alone.
 */
public final class Tools {
    private static final Map<String, String> CLASSES = new HashMap<>();
    private static final int SECONDS = 60;
    private static final PrintStream OUT = System.out;
    private static final PrintStream ERR = System.err;

    static {
        String tools = "org.apache.kafka.tools.";
        for (String pair : """
                acls AclCommand
                broker-api-versions BrokerApiVersionsCommand
                client-compatibility ClientCompatibilityTest
                client-metrics ClientMetricsCommand
                cluster ClusterTool
                console-consumer consumer.ConsoleConsumer
                console-producer ConsoleProducer
                console-share-consumer consumer.ConsoleShareConsumer
                consumer-groups consumer.group.ConsumerGroupCommand
                consumer-perf-test ConsumerPerformance
                delegation-tokens DelegationTokenCommand
                delete-records DeleteRecordsCommand
                e2e-latency EndToEndLatency
                features FeatureCommand
                get-offsets GetOffsetShell
                groups GroupsCommand
                leader-election LeaderElectionCommand
                log-dirs LogDirsCommand
                metadata-quorum MetadataQuorumCommand
                producer-perf-test ProducerPerformance
                reassign-partitions reassign.ReassignPartitionsCommand
                replica-verification ReplicaVerificationTool
                share-consumer-perf-test ShareConsumerPerformance
                share-groups consumer.group.ShareGroupCommand
                streams-application-reset StreamsResetter
                streams-groups streams.StreamsGroupCommand
                topics TopicCommand
                transactional-copier TransactionalMessageCopier
                transactions TransactionsCommand
                verifiable-consumer VerifiableConsumer
                verifiable-producer VerifiableProducer
                verifiable-share-consumer VerifiableShareConsumer
                """.split("\n")) {
            String[] parts = pair.trim().split(" ");
            CLASSES.put(parts[0], tools + parts[1]);
        }
        CLASSES.put("configs", "kafka.admin.ConfigCommand");
    }

    private final String bootstrap;
    private final Path folder;
    private final ArrayDeque<String> lines;
    private final Map<String, Member> members = new HashMap<>();
    private final Map<String, KafkaProducer<String, String>> open = new HashMap<>();
    private final List<Runnable> hooks = new ArrayList<>();
    private InputStream input = InputStream.nullInputStream();
    private volatile Integer exit;

    private Tools(String bootstrap, Path folder, List<String> lines) {
        this.bootstrap = bootstrap;
        this.folder = folder;
        this.lines = new ArrayDeque<>(lines);
    }

    public static void main(String[] args) throws Exception {
        var tools = new Tools(args[0], Path.of(args[1]), Files.readAllLines(Path.of(args[2])));
        tools.run();
        OUT.flush();
        Runtime.getRuntime().halt(0);
    }

    /** Ends a tool where it would have ended the process. */
    private static final class Ended extends Error {
        private static final long serialVersionUID = 1L;
    }

    private void run() throws Exception {
        Exit.setExitProcedure((code, message) -> ended(code));
        Exit.setHaltProcedure((code, message) -> ended(code));
        Exit.setShutdownHookAdder((name, runnable) -> hooks.add(runnable));
        while (!lines.isEmpty()) {
            String line = lines.poll();
            if (line.isBlank() || line.startsWith("#")) continue;
            if (line.startsWith("%")) {
                directive(line.substring(1).split(" "));
            } else {
                tool(line);
            }
        }
    }

    private void ended(int code) {
        if (exit == null) exit = code;
        throw new Ended();
    }

    private List<String> block() {
        List<String> all = new ArrayList<>();
        while (!lines.peek().equals("%end")) all.add(lines.poll());
        lines.poll();
        return all;
    }

    private void directive(String[] words) throws Exception {
        switch (words[0]) {
            case "file" -> Files.write(folder.resolve(words[1]), block());
            case "stdin" -> input = new ByteArrayInputStream((String.join("\n", block()) + "\n").getBytes(StandardCharsets.UTF_8));
            // %member GROUP TOPIC PROTOCOL: a consumer that polls until %leave GROUP
            case "member" -> members.put(words[1], new Member(properties(), words[1], words[2], words[3]));
            case "leave" -> members.remove(words[1]).leave();
            // %transaction ID TOPIC: one that stays open until %abort ID
            case "transaction" -> {
                Properties config = properties();
                config.put("transactional.id", words[1]);
                config.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
                config.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
                var producer = new KafkaProducer<String, String>(config);
                producer.initTransactions();
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(words[2], 0, "k", "in a transaction")).get();
                open.put(words[1], producer);
            }
            case "abort" -> {
                try (var producer = open.remove(words[1])) {
                    producer.abortTransaction();
                } catch (RuntimeException e) {
                    OUT.println("# " + e.getClass().getSimpleName());
                }
            }
            // %empty GROUP: waits until it has no member
            case "empty" -> {
                try (var admin = Admin.create(properties())) {
                    long until = System.nanoTime() + 20_000_000_000L;
                    while (System.nanoTime() < until) {
                        var group = admin.listGroups().all().get().stream().filter(g -> g.groupId().equals(words[1])).findFirst();
                        if (group.isEmpty() || group.get().groupState().map(Object::toString).orElse("Empty").equals("Empty")) break;
                        Thread.sleep(50);
                    }
                }
            }
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private Properties properties() {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        return config;
    }

    private static final class Member {
        private final KafkaConsumer<String, String> consumer;
        private final Thread thread;

        Member(Properties config, String group, String topic, String protocol) throws InterruptedException {
            config.put("group.id", group);
            config.put("client.id", "member-of-" + group);
            config.put("group.protocol", protocol);
            config.put("auto.offset.reset", "earliest");
            config.put("enable.auto.commit", "false");
            config.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
            config.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
            consumer = new KafkaConsumer<>(config);
            consumer.subscribe(List.of(topic));
            CountDownLatch ready = new CountDownLatch(1);
            thread = new Thread(() -> {
                try (consumer) {
                    while (true) {
                        consumer.poll(Duration.ofMillis(50));
                        if (ready.getCount() > 0 && atTheEnd()) {
                            consumer.commitSync();
                            ready.countDown();
                        }
                    }
                } catch (WakeupException e) {
                    // It is told to leave.
                }
            });
            thread.setDaemon(true);
            thread.start();
            if (!ready.await(30, TimeUnit.SECONDS)) OUT.println("# no assignment");
        }

        private boolean atTheEnd() {
            var assigned = consumer.assignment();
            return !assigned.isEmpty() && consumer.endOffsets(assigned).entrySet().stream().allMatch(e -> consumer.position(e.getKey()) >= e.getValue());
        }

        void leave() throws InterruptedException {
            consumer.wakeup();
            thread.join(20_000);
        }
    }

    private static List<String> words(String line) {
        List<String> all = new ArrayList<>();
        Matcher matcher = Pattern.compile("'([^']*)'|(\\S+)").matcher(line);
        while (matcher.find()) all.add(matcher.group(1) != null ? matcher.group(1) : matcher.group(2));
        return all;
    }

    private void tool(String line) throws Exception {
        String flags = line.replaceFirst("^([~^!]*).*", "$1");
        List<String> arguments = new ArrayList<>();
        for (String word : words(line.substring(flags.length()))) {
            if (word.equals("BS")) {
                arguments.add("--bootstrap-server");
                arguments.add(bootstrap);
            } else {
                arguments.add(word.replace("BOOT", bootstrap).replace("DIR", folder.toString()));
            }
        }
        String name = arguments.remove(0);
        OUT.println("$ " + line.substring(flags.length()));
        var bytes = new ByteArrayOutputStream();
        var capture = new PrintStream(bytes, true, StandardCharsets.UTF_8);
        exit = null;
        hooks.clear();
        Thread thread = new Thread(() -> main(name, arguments.toArray(new String[0])), name);
        thread.setDaemon(true);
        InputStream before = System.in;
        System.setIn(input);
        input = InputStream.nullInputStream();
        System.setOut(capture);
        System.setErr(capture);
        long begin = System.nanoTime();
        thread.start();
        thread.join(SECONDS * 1000L);
        boolean hangs = thread.isAlive();
        if (hangs) for (StackTraceElement at : thread.getStackTrace()) ERR.println("    at " + at);
        for (Runnable hook : hooks) hook.run();
        thread.join(10_000);
        System.setOut(OUT);
        System.setErr(ERR);
        System.setIn(before);
        ERR.printf("%s: %d ms%n", line, (System.nanoTime() - begin) / 1_000_000);
        String text = bytes.toString(StandardCharsets.UTF_8);
        if (!flags.contains("!")) for (String one : normal(text, flags)) OUT.println("  " + one);
        OUT.println("  " + (hangs ? "HANGS" : "exit " + (exit == null ? 0 : exit)));
        OUT.flush();
    }

    private void main(String name, String[] arguments) {
        try {
            Class.forName(CLASSES.get(name)).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException e) {
            if (e.getCause() instanceof Ended) return;
            System.err.println("thrown: " + e.getCause());
            if (exit == null) exit = 1;
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    private List<String> normal(String text, String flags) {
        List<String> all = new ArrayList<>();
        for (String line : text.replace(bootstrap, "BOOT").replace(folder.toString(), "DIR").split("\n")) {
            if (line.isBlank() || line.startsWith("\tat ") || line.startsWith("\t... ") || line.contains("producer_send_success") || line.startsWith("SLF4J") || line.equals("null")
                    || line.equals("Tools$Ended")) continue;
            String one = line.strip().replaceAll("[ \t]+", " ")
                    .replaceAll("\\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\b", "<uuid>")
                    .replaceAll("(?<![A-Za-z0-9_-])(?=[A-Z0-9_-]*[a-z])(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])", "<id>")
                    .replaceAll("(\"logDir\": ?\"|\"log_dirs\":\\[\")/[^\"]*", "$1<dir>")
                    .replaceAll(": \\d+( to \\d+)? \\[usable: (\\d+)\\]", " usable $2")
                    .replaceAll(" Epoch: \\d+$", "")
                    .replaceAll("/?127\\.0\\.0\\.1(:\\d+)?", "HOST")
                    .replaceAll("\\d{4}-\\d\\d-\\d\\d[T ]\\d\\d:\\d\\d:\\d\\d([.,:]\\d+)?Z?", "<time>")
                    .replaceAll("\\b1[67]\\d{11}\\b", "<ms>").replaceAll("(\"timestamp\":)\\d+", "$1<ms>");
            if (flags.contains("~")) one = one.replaceAll("\\d+([.,]\\d+)?", "N");
            all.add(one);
        }
        if (flags.contains("^")) all.sort(null);
        return all;
    }
}
