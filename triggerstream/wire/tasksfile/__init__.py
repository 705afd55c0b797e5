"""The tasks file: text to configuration, with all that is wrong or doubtful about it, and back.

``schemas/tasks.schema.json`` is the published form.
"""

from triggerstream.wire.tasksfile.encoder import encode, encode_after, encode_list
from triggerstream.wire.tasksfile.executor import Parameters, check_executor
from triggerstream.wire.tasksfile.names import check_seen
from triggerstream.wire.tasksfile.reader import Check, check, read

__all__ = [
    "Check",
    "Parameters",
    "check",
    "check_executor",
    "check_seen",
    "encode",
    "encode_after",
    "encode_list",
    "read",
]
