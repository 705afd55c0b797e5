"""A real Apache Kafka for tests, demonstrations and benchmarks: see :mod:`tests.support.kafka.server`."""
