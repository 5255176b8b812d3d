import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;

/** Owns the normal form in which outcomes are printed: one line per step, the same on every server that behaves alike. */
final class Out {
    /** What a step does; its result is printed, or the class of what it throws. */
    interface Body {
        Object run() throws Exception;
    }

    /** Answers that are another number, name or time on every run; only whether there is one is told. */
    private static final Set<String> VARIES = Set.of("host", "port", "memberId", "consumerId", "producerId", "clusterId",
            "transactionStartTimeMs", "lastTimestamp", "size", "totalBytes", "usableBytes", "logEndOffset",
            "lastFetchTimestamp", "lastCaughtUpTimestamp", "directoryId", "replicaDirectoryId", "topicId", "incarnationId",
            "highWatermark", "leaderEpoch", "offsetLag", "finalizedFeaturesEpoch", "groupEpoch", "memberEpoch", "targetAssignmentEpoch", "listener", "idString");
    private static final int DEPTH_MAX = 8;
    private static final long STEP_SECONDS = 120;

    private static String area = "";

    private Out() {}

    static void area(String name) {
        area = name;
    }

    /** Runs a step on a thread of its own, so that a hang costs that step only. */
    static void step(String name, Body body) {
        long begin = System.nanoTime();
        FutureTask<String> task = new FutureTask<>(() -> render(body.run()));
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        thread.start();
        String text;
        try {
            text = task.get(STEP_SECONDS, TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            text = failure(e.getCause());
            System.err.println(area + "." + name + ": " + e.getCause());
        } catch (TimeoutException | InterruptedException e) {
            text = "HANGS";
            for (StackTraceElement at : thread.getStackTrace()) System.err.println("    at " + at);
            thread.interrupt();
        }
        System.err.printf("%s.%s: %d ms%n", area, name, (System.nanoTime() - begin) / 1_000_000);
        for (String line : text.split("\n")) System.out.println(area + "." + name + ": " + line);
        System.out.flush();
    }

    /** The class of an error, and of what it wraps where that is Kafka's too. */
    static String failure(Throwable error) {
        Throwable e = error;
        while ((e instanceof ExecutionException || e instanceof CompletionException) && e.getCause() != null) e = e.getCause();
        String text = "!" + e.getClass().getSimpleName();
        if (e instanceof Unmet) text += " " + e.getMessage();
        Throwable cause = e.getCause();
        if (cause != null && cause != e && cause.getClass().getName().startsWith("org.apache.kafka")) text += "<" + failure(cause);
        return text;
    }

    /** The outcome of one call inside of a step. */
    static String tried(Body body) {
        try {
            return render(body.run());
        } catch (Exception e) {
            System.err.println("  " + e);
            return failure(e);
        }
    }

    static String render(Object what) throws Exception {
        return render("", what, 0);
    }

    private static String render(String name, Object what, int depth) throws Exception {
        if (what == null) return "null";
        if (depth > DEPTH_MAX) return "...";
        if (VARIES.contains(name)) return varies(what);
        if (what instanceof CharSequence || what instanceof Boolean || what instanceof Number || what instanceof Character) {
            return what.toString();
        }
        if (what instanceof Enum<?> e) return e.name();
        if (what instanceof Throwable e) return failure(e);
        if (what instanceof Uuid id) return id.equals(Uuid.ZERO_UUID) ? "zero-id" : "some-id";
        if (what instanceof Node node) return node.isEmpty() ? "no-node" : "node(" + node.id() + rack(node) + ")";
        if (what instanceof TopicPartition p) return p.toString();
        if (what instanceof OffsetAndMetadata o) return o.offset() + (o.metadata().isEmpty() ? "" : "/" + o.metadata());
        if (what instanceof KafkaFuture<?> future) {
            try {
                return render(name, future.get(60, TimeUnit.SECONDS), depth);
            } catch (ExecutionException e) {
                System.err.println("  " + e.getCause());
                return failure(e);
            }
        }
        if (what instanceof Optional<?> o) return o.isPresent() ? render(name, o.get(), depth) : "none";
        if (what instanceof OptionalInt o) return o.isPresent() ? render(name, o.getAsInt(), depth) : "none";
        if (what instanceof OptionalLong o) return o.isPresent() ? render(name, o.getAsLong(), depth) : "none";
        if (what instanceof byte[] bytes) return bytes.length + " bytes";
        if (what instanceof Object[] many) return render(name, Arrays.asList(many), depth);
        if (what instanceof Map<?, ?> map) return map(map, depth);
        if (what instanceof Collection<?> many) return collection(many, depth);
        if (what.getClass().getName().startsWith("org.apache.kafka")) return object(what, depth);
        return what.toString();
    }

    private static String rack(Node node) {
        return (node.hasRack() ? "," + node.rack() : "") + (node.isFenced() ? ",fenced" : "");
    }

    private static String varies(Object what) {
        if (what instanceof Optional<?> o) return o.isPresent() ? "some" : "none";
        if (what instanceof OptionalInt o) return o.isPresent() ? "some" : "none";
        if (what instanceof OptionalLong o) return o.isPresent() ? "some" : "none";
        if (what instanceof Number n) return n.longValue() == -1 ? "-1" : "some";
        return what == null ? "null" : what.toString().isEmpty() ? "empty" : "some";
    }

    private static String map(Map<?, ?> map, int depth) throws Exception {
        TreeMap<String, String> sorted = new TreeMap<>();
        for (Map.Entry<?, ?> e : map.entrySet()) sorted.put(render("", e.getKey(), depth + 1), render("", e.getValue(), depth + 1));
        return sorted.toString();
    }

    private static String collection(Collection<?> many, int depth) throws Exception {
        List<String> texts = new ArrayList<>();
        for (Object one : many) texts.add(render("", one, depth + 1));
        if (!(many instanceof List<?>)) texts.sort(Comparator.naturalOrder());
        return texts.toString();
    }

    /** Every getter of one of Kafka's own classes, by name. */
    private static String object(Object what, int depth) throws Exception {
        TreeMap<String, String> fields = new TreeMap<>();
        for (Method method : what.getClass().getMethods()) {
            if (!isGetter(method)) continue;
            method.setAccessible(true);
            Object value;
            try {
                value = method.invoke(what);
            } catch (java.lang.reflect.InvocationTargetException e) {
                value = e.getCause();
            }
            fields.put(method.getName(), render(method.getName(), value, depth + 1));
        }
        if (fields.isEmpty()) return what.toString();
        return what.getClass().getSimpleName() + fields;
    }

    private static boolean isGetter(Method method) {
        return method.getParameterCount() == 0 && !Modifier.isStatic(method.getModifiers()) && method.getReturnType() != void.class
                && method.getDeclaringClass() != Object.class && !method.isAnnotationPresent(Deprecated.class)
                && Modifier.isPublic(method.getDeclaringClass().getModifiers())
                && !Set.of("toString", "hashCode", "getClass", "toBuilder").contains(method.getName());
    }

    /** A condition that did not come true in its time. */
    static final class Unmet extends Exception {
        private static final long serialVersionUID = 1L;

        Unmet(String what) {
            super(what);
        }
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Asks again and again until the condition holds. */
    static void await(String what, int seconds, Condition condition) throws Exception {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!condition.holds()) {
            if (System.nanoTime() > until) throw new Unmet(what);
            Thread.sleep(20);
        }
    }
}
