"""The tasks file: text to configuration, with all that is wrong or doubtful about it, and back.

``schemas/tasks.schema.json`` is the published form.
"""

from triggerstream.wire.tasksfile.names import check_seen
from triggerstream.wire.tasksfile.reader import Check, check, encode, read

__all__ = ["Check", "check", "check_seen", "encode", "read"]
