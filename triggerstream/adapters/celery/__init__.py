"""Celery as the executor: commands are sent as messages, and workers report outcomes as events.

delivery   the header that a command travels under, both ways
dispatch   the Dispatcher port: hands commands to Celery's broker
context    what a running task can ask for and say: `current()`, skip, retry, fire
outcomes   outcome events, and what can be one
reporting  an outcome is durable, or the process ends
execution  runs one command: claim, started, body, record, report
request    the worker's main process: revoked, expired, timed out, lost
checks     settings under which a worker could lose a task
worker     `install`: ties all of it to one Celery app
task       `TriggerTask`
tracebacks the application's frames of a traceback, without those around them
inventory  the tasks of an app, and the queues that its routes can choose
guards     claims on a command id: SQL and Redis/Valkey
"""
