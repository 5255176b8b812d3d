import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Owns the Kafka Streams applications: StreamsApp BOOTSTRAP STATE_DIR TOPOLOGY GUARANTEE. It runs until it is told to end
 * (a signal), and says RUNNING whenever it has come into that state.
 */
public final class StreamsApp {
    static final Duration WINDOW = Duration.ofSeconds(60);
    static final Duration JOIN = Duration.ofSeconds(2);
    private static final Duration GRACE = Duration.ofDays(1);

    private StreamsApp() {}

    public static void main(String[] args) throws Exception {
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[2]);
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[1]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, args[3]);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "2");
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "100");
        config.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "-1");
        // Every update goes out: without a cache the output of a word is 1, 2, 3 and so on, each once.
        config.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "0");
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.consumerPrefix("session.timeout.ms"), "8000");
        config.put(StreamsConfig.consumerPrefix("heartbeat.interval.ms"), "500");
        config.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        config.put(StreamsConfig.producerPrefix("delivery.timeout.ms"), "120000");

        KafkaStreams streams = new KafkaStreams(args[2].equals("words") ? words() : joins(), config);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            System.out.println(now);
            if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) ended.countDown();
        });
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            System.out.println("THREAD REPLACED");
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
        streams.start();
        ended.await();
    }

    /** Lines into words, words into counts: a repartition topic, a store and its changelog. */
    private static Topology words() {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream("lines")
                .flatMap((key, line) -> java.util.Arrays.stream(line.split(" ")).map(word -> KeyValue.pair(word, word)).toList())
                .groupByKey(Grouped.as("by-word"))
                .count(Named.as("count"), Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("counts"))
                .toStream()
                .mapValues(String::valueOf)
                .to("word-counts", Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    /** Orders and clicks by another key: windowed counts, a join of the two streams, a look-up in a global table. */
    private static Topology joins() {
        StreamsBuilder builder = new StreamsBuilder();
        var items = builder.globalTable("items", Consumed.with(Serdes.String(), Serdes.String()));
        KStream<String, String> orders = builder.<String, String>stream("orders").selectKey((user, order) -> order.split(":")[0]);
        KStream<String, String> clicks = builder.<String, String>stream("clicks").selectKey((user, click) -> click.split(":")[0]);
        orders.groupByKey(Grouped.as("orders-by-item"))
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
                .count()
                .toStream((window, count) -> window.key() + "@" + window.window().start())
                .mapValues(String::valueOf)
                .to("windowed-counts");
        orders.join(clicks, (order, click) -> order + "+" + click, JoinWindows.ofTimeDifferenceAndGrace(JOIN, GRACE),
                        StreamJoined.<String, String, String>as("joined"))
                .join(items, (item, pair) -> item, (pair, name) -> pair + "=" + name)
                .to("pairs");
        return builder.build();
    }
}
