"""The tasks file: text to configuration, with all that is wrong or doubtful about it, and back.

``schemas/tasks.schema.json`` is the published form.
"""

from triggerstream.wire.tasksfile.reader import check, encode, read

__all__ = ["check", "encode", "read"]
