import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/**
 * Owns processes that are stopped (SIGSTOP), continued and killed in the middle of a transaction or of a rebalance. Each is
 * this program again: Zombies KIND BOOTSTRAP ARGUMENT..., which does what the lines of its standard input say.
 */
final class Zombies {
    private Zombies() {}

    static void run() {
        Out.step("paused-producer", Zombies::pausedProducer);
        Out.step("paused-without-successor", Zombies::pausedAlone);
        Out.step("paused-in-commit", Zombies::pausedInCommit);
        for (String protocol : List.of("classic", "consumer")) Out.step("paused-copier-" + protocol, () -> pausedCopier(protocol));
    }

    // --- the child --------------------------------------------------------------------------------------------------

    public static void main(String[] args) throws Exception {
        Env.open(args[1]);
        try (var in = new BufferedReader(new InputStreamReader(System.in))) {
            if (args[0].equals("producer")) producer(in, args[2], args[3], args[4]);
            else copier(in, args[2], args[3], args[4], args[5], args[6]);
        }
    }

    private static void answer(Out.Body body) {
        System.out.println(Out.tried(body));
        System.out.flush();
    }

    private static void producer(BufferedReader in, String id, String topic, String timeout) throws Exception {
        KafkaProducer<String, String> producer = Transactions.open(id, "transaction.timeout.ms", timeout);
        producer.initTransactions();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String value = line;
            answer(() -> {
                switch (value) {
                    case "begin" -> producer.beginTransaction();
                    case "commit" -> producer.commitTransaction();
                    default -> producer.send(new ProducerRecord<>(topic, value)).get();
                }
                return "done";
            });
        }
        Runtime.getRuntime().halt(0);
    }

    /** "copy" reads some records and copies them in a transaction with their offsets, "commit" commits it. */
    private static void copier(BufferedReader in, String id, String group, String protocol, String from, String to) throws Exception {
        List<String> pairs = new ArrayList<>(List.of("group.id", group, "group.protocol", protocol, "isolation.level", "read_committed", "max.poll.records", "5"));
        if (protocol.equals("classic")) pairs.addAll(List.of("session.timeout.ms", "6000", "heartbeat.interval.ms", "300"));
        KafkaProducer<String, String> producer = Transactions.open(id, "transaction.timeout.ms", "60000");
        producer.initTransactions();
        KafkaConsumer<String, String> consumer = Env.consumer(pairs.toArray(new String[0]));
        consumer.subscribe(List.of(from));
        Map<TopicPartition, OffsetAndMetadata> offsets = new java.util.HashMap<>();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String word = line;
            answer(() -> {
                if (word.equals("copy")) {
                    offsets.clear();
                    Out.await("records", 90, () -> {
                        for (var record : consumer.poll(Env.TICK)) {
                            if (offsets.isEmpty()) producer.beginTransaction();
                            producer.send(new ProducerRecord<>(to, id + " copies " + record.value()));
                            offsets.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                        }
                        return !offsets.isEmpty();
                    });
                    producer.flush();
                    return "copied";
                }
                try {
                    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                    producer.commitTransaction();
                } catch (RuntimeException e) {
                    // As a program does that means to go on; what is open would hold readers up.
                    Out.tried(() -> {
                        producer.abortTransaction();
                        return "aborted";
                    });
                    throw e;
                }
                return "committed";
            });
        }
        Runtime.getRuntime().halt(0);
    }

    // --- the parent -------------------------------------------------------------------------------------------------

    private static final class Child implements AutoCloseable {
        private final Process process;
        private final PrintStream to;
        private final BufferedReader from;

        Child(String... args) throws Exception {
            List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx128m", "-XX:+UseSerialGC",
                    "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", System.getProperty("java.class.path"), "Zombies"));
            command.addAll(List.of(args));
            process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            to = new PrintStream(process.getOutputStream(), true);
            from = new BufferedReader(new InputStreamReader(process.getInputStream()));
        }

        void tell(String line) {
            to.println(line);
        }

        String answer() throws Exception {
            String line = from.readLine();
            if (line == null) throw new Out.Unmet("an answer: the process has ended");
            return line;
        }

        String ask(String line) throws Exception {
            tell(line);
            return answer();
        }

        private void signal(String name) throws Exception {
            if (new ProcessBuilder("kill", "-" + name, String.valueOf(process.pid())).inheritIO().start().waitFor() != 0) throw new Out.Unmet("a signal");
        }

        /** Stops the process and waits until the kernel says so. */
        void pause() throws Exception {
            signal("STOP");
            Path stat = Path.of("/proc", String.valueOf(process.pid()), "stat");
            Out.await("the process is stopped", 10, () -> Files.readString(stat).replaceFirst(".*\\) ", "").startsWith("T"));
        }

        void resume() throws Exception {
            signal("CONT");
        }

        @Override
        public void close() {
            process.destroyForcibly();
        }
    }

    private static String committed(String topic) throws Exception {
        return "committed " + Env.brief(Env.values(topic, "read_committed"));
    }

    /** Waits until the time of an open transaction is over and it has been aborted. */
    private static void timedOut(String id) throws Exception {
        Out.await("the transaction is over", 60, () -> {
            TransactionState state = Env.admin.describeTransactions(List.of(id)).description(id).get().state();
            return state != TransactionState.ONGOING && state != TransactionState.PREPARE_ABORT && state != TransactionState.PREPARE_EPOCH_FENCE;
        });
    }

    /** A successor has gone on with the same transactional id: nothing of the zombie counts, and what the successor did does. */
    private static String pausedProducer() throws Exception {
        String topic = Env.topic("z-producer", 1);
        try (var zombie = new Child("producer", Env.bootstrap, "z-producer", topic, "3000"); var successor = Transactions.open("z-producer")) {
            String told = zombie.ask("begin") + " " + zombie.ask("of the zombie");
            zombie.pause();
            timedOut("z-producer");
            successor.initTransactions();
            successor.beginTransaction();
            Future<?> sent = successor.send(new ProducerRecord<>(topic, "of the successor"));
            sent.get();
            zombie.resume();
            told += "; then " + zombie.ask("more of the zombie") + " " + zombie.ask("commit");
            successor.commitTransaction();
            Out.await("the marker", 10, () -> committed(topic).contains("successor"));
            return told + "; " + committed(topic) + ", all " + Env.brief(Env.values(topic, "read_uncommitted"));
        }
    }

    private static String pausedAlone() throws Exception {
        String topic = Env.topic("z-alone", 1);
        try (var zombie = new Child("producer", Env.bootstrap, "z-alone", topic, "3000")) {
            zombie.ask("begin");
            zombie.ask("of the zombie");
            zombie.pause();
            timedOut("z-alone");
            Env.fill(topic, 0, 0, 1);
            String before = committed(topic);
            zombie.resume();
            return before + "; then " + zombie.ask("commit") + "; " + committed(topic);
        }
    }

    /** The commit is the first that the zombie does when it is continued. */
    private static String pausedInCommit() throws Exception {
        String topic = Env.topic("z-in-commit", 1);
        try (var zombie = new Child("producer", Env.bootstrap, "z-in-commit", topic, "60000"); var successor = Transactions.open("z-in-commit")) {
            zombie.ask("begin");
            zombie.ask("of the zombie");
            zombie.pause();
            zombie.tell("commit");
            successor.initTransactions();
            successor.beginTransaction();
            successor.send(new ProducerRecord<>(topic, "of the successor")).get();
            successor.commitTransaction();
            zombie.resume();
            String told = zombie.answer();
            Out.await("the marker", 10, () -> committed(topic).contains("successor"));
            return told + "; " + committed(topic);
        }
    }

    /** The zombie has an id of its own and loses its partition to another member: only the group can tell what it is. */
    private static String pausedCopier(String protocol) throws Exception {
        String from = Env.topic("z-from-" + protocol, 1);
        String to = Env.topic("z-to-" + protocol, 1);
        String group = "z-copiers-" + protocol;
        Env.fill(from, 0, 0, 3);
        try (var zombie = new Child("copier", Env.bootstrap, "zombie-" + protocol, group, protocol, from, to)) {
            zombie.ask("copy");
            zombie.pause();
            zombie.tell("commit");
            try (var other = new Child("copier", Env.bootstrap, "other-" + protocol, group, protocol, from, to)) {
                String told = other.ask("copy") + " " + other.ask("commit");
                zombie.resume();
                boolean refused = !zombie.answer().equals("committed");
                Out.await("the marker", 10, () -> Env.values(to, "read_committed").size() >= 3);
                var partition = new TopicPartition(from, 0);
                Object offset = Env.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition);
                return told + "; the zombie is refused: " + refused + "; " + committed(to) + " " + Out.render(offset);
            }
        }
    }
}
