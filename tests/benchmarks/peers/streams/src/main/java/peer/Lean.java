package peer;

import com.fasterxml.jackson.core.type.TypeReference;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Keeps the data of each trigger that a session has seen; with the fourth, the command has them all. */
final class Lean implements Processor<String, Event, String, Lean.Command> {
    record Command(String session, Map<String, Map<String, Object>> seen) {}

    static final Serde<Map<String, Map<String, Object>>> STATES =
            Json.serde(new TypeReference<LinkedHashMap<String, Map<String, Object>>>() {}.getType());
    static final Serde<Command> COMMANDS = Json.serde(Command.class);
    private static final int TRIGGERS = 4;

    private ProcessorContext<String, Command> context;
    private KeyValueStore<String, Map<String, Map<String, Object>>> sessions;

    @Override
    public void init(ProcessorContext<String, Command> context) {
        this.context = context;
        this.sessions = context.getStateStore(Main.STORE);
    }

    @Override
    public void process(Record<String, Event> record) {
        Map<String, Map<String, Object>> seen = sessions.get(record.key());
        if (seen == null) {
            seen = new LinkedHashMap<>();
        }
        seen.put(record.value().type(), record.value().data());
        sessions.put(record.key(), seen);
        if (seen.size() == TRIGGERS) {
            context.forward(record.withValue(new Command(record.key(), seen)));
        }
    }
}
