import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** {@code Fire BOOTSTRAP APP TRIGGER SESSION...} fires the trigger for each session. */
public final class Fire {
    public static void main(String[] args) throws Exception {
        var settings = Map.<String, Object>of(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        var strings = new StringSerializer();
        try (var producer = new KafkaProducer<>(settings, strings, strings)) {
            for (var session : List.of(args).subList(3, args.length)) {
                var record = new ProducerRecord<>(args[1] + ".events", session, "{\"client\": \"kafka-clients\"}");
                record.headers().add("ce_type", args[2].getBytes(UTF_8)); // the value is the event's data alone then
                producer.send(record).get();
            }
        }
    }
}
