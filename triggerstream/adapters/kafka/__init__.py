"""Kafka as the log: topics, producers, the configuration in force, dead letters. The engine is elsewhere."""
