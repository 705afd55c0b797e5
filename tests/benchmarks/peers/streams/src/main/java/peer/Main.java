package peer;

import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams with the Processor API, a store on RocksDB with a changelog, and exactly_once_v2.
 *
 * <p>Arguments: HOST:PORT APP PARTITIONS DIRECTORY SESSIONS CONTENT COMMIT_MS. CONTENT is `lean` or `same`;
 * COMMIT_MS is `default` or a number. It ends in order at SIGTERM.
 */
public final class Main {
    static final String STORE = "sessions";
    private static final Duration CLOSE = Duration.ofSeconds(20);

    private Main() {}

    public static void main(String[] arguments) throws InterruptedException {
        String app = arguments[1];
        boolean same = arguments[5].equals("same");
        Topology topology = same ? topology(app, SameContent.STATES, SameContent.COMMANDS, () -> new SameContent(app))
                : topology(app, Lean.STATES, Lean.COMMANDS, Lean::new);
        CountDownLatch ended = new CountDownLatch(1);
        KafkaStreams streams = new KafkaStreams(topology, settings(arguments));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            ended.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(CLOSE)));
        streams.start();
        ended.await();
        System.exit(1);
    }

    /** Read events, fold each with the processor, write commands. */
    private static <S, C> Topology topology(
            String app, Serde<S> states, Serde<C> commands, ProcessorSupplier<String, Event, String, C> fold) {
        Topology topology = new Topology();
        topology.addSource("events", Serdes.String().deserializer(), Event.SERDE.deserializer(), app + ".events");
        topology.addProcessor("fold", fold, "events");
        // With its cache, as the DSL has it by default: a state is written once in a commit, not with each event.
        topology.addStateStore(
                Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STORE), Serdes.String(), states)
                        .withCachingEnabled(),
                "fold");
        topology.addSink("commands", app + ".commands", Serdes.String().serializer(), commands.serializer(), "fold");
        return topology;
    }

    /** All but what the arguments say is as Kafka Streams has it by default. */
    private static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1); // the cluster has one broker
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        if (!arguments[6].equals("default")) {
            settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[6]);
        }
        return settings;
    }
}
