"""The Kafka adapter, on a real Kafka."""
