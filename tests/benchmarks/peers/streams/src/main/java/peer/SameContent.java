package peer;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Keeps and writes what the worker does for this one task; the rules of any other are not here. */
final class SameContent implements Processor<String, Event, String, Session.Command> {
    static final Serde<Session> STATES = Json.serde(Session.class);
    static final Serde<Session.Command> COMMANDS = Json.serde(Session.Command.class);
    private static final String TASK = "t_report";
    private static final String RUN = "bench.tasks.report";
    private static final String CONFIG = "085c9c5cbda36fe235b64e71c17c4522cc43589a3f6162b1604d45c25302143a";
    private static final List<String> TRIGGERS = List.of("t1", "t2", "t3", "t4");
    private static final int TIMELINE = 50;
    private static final int DIGEST_BYTES = 8;

    private final String app;
    private final MessageDigest sha1 = digest("SHA-1");
    private final MessageDigest sha256 = digest("SHA-256");
    private ProcessorContext<String, Session.Command> context;
    private KeyValueStore<String, Session> sessions;

    SameContent(String app) {
        this.app = app;
    }

    @Override
    public void init(ProcessorContext<String, Session.Command> context) {
        this.context = context;
        this.sessions = context.getStateStore(Main.STORE);
    }

    @Override
    public void process(Record<String, Event> record) {
        Event event = record.value();
        long offset = context.recordMetadata().orElseThrow().offset();
        long time = record.timestamp() * 1_000;
        Session session = sessions.get(record.key());
        if (session == null) {
            session = new Session();
        }
        byte[] identity = Arrays.copyOf(
                sha256.digest(("0:" + event.id()).getBytes(StandardCharsets.UTF_8)), DIGEST_BYTES);
        boolean repeated = Arrays.equals(identity, session.digests.get(event.type()));
        session.offset = offset;
        session.clock = Math.max(session.clock, time);
        session.positions.add(new Object[] {offset, event.type(), time, repeated ? "ignored" : null});
        if (session.positions.size() > TIMELINE) {
            session.positions.remove(0);
        }
        Session.Command command = null;
        if (!repeated) {
            session.digests.put(event.type(), identity);
            command = take(record.key(), session, event, offset, time);
        }
        sessions.put(record.key(), session);
        if (command != null) {
            context.forward(record.withValue(command));
        }
    }

    /** Note the event in state and instance; the command, if the instance now has all that it needs. */
    private Session.Command take(String key, Session session, Event event, long offset, long time) {
        Session.Arrival arrival = new Session.Arrival();
        arrival.data = event.data();
        arrival.offset = offset;
        arrival.time = time;
        arrival.id = event.id();
        session.seen.put(event.type(), arrival);
        if (!TRIGGERS.contains(event.type())) {
            return null;
        }
        Session.Task task = session.tasks.computeIfAbsent(TASK, name -> new Session.Task());
        if (task.next == 0) {
            Session.Instance begun = new Session.Instance();
            begun.number = task.next++;
            begun.created = time;
            task.open.add(begun);
        }
        Session.Instance instance = task.open.get(0);
        if (!instance.status.equals("unstarted")) {
            return null;
        }
        instance.changed = time;
        instance.captured.putIfAbsent(event.type(), offset);
        return instance.captured.size() == TRIGGERS.size() ? decide(key, session, instance, offset, time) : null;
    }

    private Session.Command decide(
            String key, Session session, Session.Instance instance, long offset, long time) {
        instance.status = "scheduled";
        instance.decided = time;
        instance.decidedAt = offset;
        instance.sent = new Session.Sent();
        instance.sent.run = RUN;
        Map<String, Object> kwargs = new LinkedHashMap<>();
        List<Session.Cause> causes = new ArrayList<>();
        for (String trigger : instance.captured.keySet()) {
            Session.Arrival arrival = session.seen.get(trigger);
            kwargs.put(trigger, arrival.data);
            causes.add(new Session.Cause(trigger, arrival.offset, arrival.id));
        }
        String decided = Instant.ofEpochSecond(time / 1_000_000, time % 1_000_000 * 1_000).toString();
        return new Session.Command(
                "run", commandId(key, session.generation, instance.number), key, TASK,
                TASK + "#" + instance.number, 0, 0, RUN, kwargs, CONFIG, causes, decided, offset);
    }

    /** A UUID of version 5 from the parts that name the instance. */
    private String commandId(String session, int generation, int number) {
        String name = app + "/" + session + "/" + generation + "/" + TASK + "/" + number;
        byte[] hash = sha1.digest(name.getBytes(StandardCharsets.UTF_8));
        long high = 0;
        long low = 0;
        for (int at = 0; at < 8; at++) {
            high = high << 8 | hash[at] & 0xff;
            low = low << 8 | hash[at + 8] & 0xff;
        }
        return new UUID(high & ~0xf000L | 0x5000L, low & 0x3fffffffffffffffL | 0x8000000000000000L).toString();
    }

    private static MessageDigest digest(String algorithm) {
        try {
            return MessageDigest.getInstance(algorithm);
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }
}
