import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Properties;
import java.util.UUID;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The light job (tests/bench/job.py) as Kafka Streams does it, exactly once v2: each event's identity and each member's
 * state in a RocksDB store with its changelog, one event written for each read, all in one Kafka transaction a commit.
 *
 * Arguments: bootstrap servers, topic read, topic written, application id, folder for the stores.
 */
public final class StreamsPeer {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[3]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put("auto.offset.reset", "earliest");

        Topology topology = new Topology();
        topology.addSource("events", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), args[1]);
        topology.addProcessor("fold", Fold::new, "events");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore("inbox"), Serdes.String(), Serdes.ByteArray()), "fold");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore("states"), Serdes.String(), Serdes.ByteArray()), "fold");
        topology.addSink("told", args[2], Serdes.String().serializer(), Serdes.ByteArray().serializer(), "fold");

        KafkaStreams streams = new KafkaStreams(topology, settings);
        streams.setUncaughtExceptionHandler(failure -> {
            failure.printStackTrace();
            System.exit(1);
            return null;
        });
        streams.start();
    }

    /** De-duplicate, fold, tell. */
    private static final class Fold implements Processor<String, byte[], String, byte[]> {
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, byte[]> inbox;
        private KeyValueStore<String, byte[]> states;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            inbox = context.getStateStore("inbox");
            states = context.getStateStore("states");
        }

        @Override
        public void process(Record<String, byte[]> record) {
            try {
                JsonNode event = JSON.readTree(record.value());
                String identity = event.get("source").asText() + '\0' + event.get("id").asText();
                if (inbox.putIfAbsent(identity, new byte[] {1}) != null) {
                    return;
                }
                int pain = event.get("data").get("pain_during").asInt();
                byte[] stored = states.get(record.key());
                ByteBuffer state = stored == null ? ByteBuffer.allocate(12) : ByteBuffer.wrap(stored);
                int sessions = state.getInt(0) + 1;
                int sum = state.getInt(4) + pain;
                state.putInt(0, sessions).putInt(4, sum).putInt(8, Math.max(state.getInt(8), pain));
                states.put(record.key(), state.array());
                context.forward(record.withValue(told(event, record.key(), pain, (double) sum / sessions)));
            } catch (IOException failure) {
                throw new UncheckedIOException(failure);
            }
        }

        private static byte[] told(JsonNode cause, String member, int score, double baseline) throws IOException {
            String id = cause.get("id").asText();
            ObjectNode event = JSON.createObjectNode();
            event.put("specversion", "1.0");
            event.put("id", UUID.nameUUIDFromBytes(id.getBytes(StandardCharsets.UTF_8)).toString());
            event.put("source", "urn:careloop:bench");
            event.put("type", "org.careloop.pain.settled.v1");
            event.put("time", Instant.now().toString());
            event.put("subject", member);
            event.put("datacontenttype", "application/json");
            event.put("correlationid", id);
            event.put("causationid", id);
            event.put("causationsource", cause.get("source").asText());
            ObjectNode data = event.putObject("data");
            data.put("episode_id", member).put("score", score).put("baseline", baseline);
            data.putObject("decision").put("rule_id", "bench").put("rule_version", 1).put("reason", "bench");
            return JSON.writeValueAsBytes(event);
        }
    }
}
