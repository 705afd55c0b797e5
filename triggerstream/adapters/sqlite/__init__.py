"""The embedded engine's log, store and view in one SQLite file, ``triggerstream.db``.

Where: a state directory, or the file in it. Beside it lie ``triggerstream.lock``, which the engine that owns
the directory holds, and ``triggerstream.wake``, a FIFO through which an append wakes that engine.
"""

from triggerstream.adapters.sqlite.log import SqliteLog
from triggerstream.adapters.sqlite.reader import SqliteReader
from triggerstream.adapters.sqlite.store import SqliteStore

__all__ = ["SqliteLog", "SqliteReader", "SqliteStore"]
