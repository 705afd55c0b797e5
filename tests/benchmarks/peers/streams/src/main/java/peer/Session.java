package peer;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What a state of the worker holds of a session, under the same names. */
final class Session {
    public int version = 3;
    public int generation;
    public long offset;
    public long clock;
    public long config;
    public Map<String, Arrival> seen = new LinkedHashMap<>();
    public Map<String, Task> tasks = new LinkedHashMap<>();
    public Map<String, byte[]> digests = new LinkedHashMap<>();
    /** Offset, type, time and effect of each event; the newest 50. */
    public List<Object[]> positions = new ArrayList<>();

    static final class Arrival {
        public Map<String, Object> data;
        public long offset;
        public long time;
        public String id;
    }

    static final class Task {
        public int next;
        public List<Instance> open = new ArrayList<>();
    }

    static final class Instance {
        public int number;
        public String status = "unstarted";
        public long created;
        public long changed;
        public Map<String, Long> captured = new LinkedHashMap<>();
        public Long decided;
        public Long decidedAt;
        public Sent sent;
    }

    static final class Sent {
        public String run;
    }

    /** What a command of the worker holds, under the same names. */
    record Command(
            String kind,
            String id,
            String session,
            String task,
            String instance,
            int attempt,
            int retries,
            String run,
            Map<String, Object> kwargs,
            String config,
            List<Cause> causes,
            String decided,
            long decidedAt) {}

    record Cause(String trigger, long offset, String id) {}
}
