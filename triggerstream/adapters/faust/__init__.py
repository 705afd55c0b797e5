"""The Kafka engine: Faust's application, group and table around :mod:`triggerstream.engine.partitioned`."""
