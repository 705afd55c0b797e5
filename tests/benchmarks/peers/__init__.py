"""The peers of the worker on Kafka: ``python -m tests.benchmarks.peers.NAME``, and a program in Java.

All have the arguments ``HOST:PORT APP PARTITIONS DIRECTORY COMMANDS CONTENT COMMIT_MS``, read
``<app>.events``, and write a command to ``<app>.commands`` under the key of each session that has its events.
"""
