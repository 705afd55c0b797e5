"""The whole chain on a real Kafka and a real Valkey, what happens to it, and the oracle that counts."""
