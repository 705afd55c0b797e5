package peer;

import java.util.Map;
import org.apache.kafka.common.serialization.Serde;

/** An event of a session: a trigger, an id, and data. */
record Event(String type, String id, Map<String, Object> data) {
    static final Serde<Event> SERDE = Json.serde(Event.class);
}
