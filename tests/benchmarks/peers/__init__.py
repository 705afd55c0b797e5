"""The peers of the worker on Kafka, each a process: ``python -m tests.benchmarks.peers.NAME``.

All have the arguments ``HOST:PORT APP PARTITIONS DIRECTORY SESSIONS``, read ``<app>.events``, and write a
command to ``<app>.commands`` under the key of each session that has its four events. They say ``ready`` on
standard error with the first record that they get.
"""
