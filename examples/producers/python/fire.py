"""``fire.py BOOTSTRAP APP TRIGGER SESSION...`` fires the trigger for each session."""

import json
import sys

from confluent_kafka import Producer

bootstrap, app, trigger, *sessions = sys.argv[1:]
value = json.dumps({"type": trigger, "data": {"client": "confluent-kafka"}})
errors = []
producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
for session in sessions:
    producer.produce(
        f"{app}.events", value, session, on_delivery=lambda error, _: errors.append(error) if error else None
    )
unacknowledged = producer.flush(60)
if errors or unacknowledged:
    sys.exit(f"{app}.events did not take it: {errors[0] if errors else 'no answer'}")
