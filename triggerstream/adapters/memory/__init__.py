"""In-memory adapters of all ports, for tests and experiments. Nothing outlasts the process.

A :class:`MemoryDatabase` holds durable data: an engine that is restarted on it finds exactly what the
previous one made durable. A :class:`MemoryPartition` is the same for a partition of a shared log.
"""

from triggerstream.adapters.memory.archive import InMemoryRecords, MemoryArchive
from triggerstream.adapters.memory.clock import ManualClock
from triggerstream.adapters.memory.database import MemoryDatabase, OutboxEntry
from triggerstream.adapters.memory.dispatcher import MemoryDispatcher
from triggerstream.adapters.memory.index import MemoryIndex
from triggerstream.adapters.memory.ledger import MemoryAppender, MemoryLedger
from triggerstream.adapters.memory.log import MemoryLog
from triggerstream.adapters.memory.owners import MemoryFencing, MemoryOwnersTopic
from triggerstream.adapters.memory.partition import MemoryPartition
from triggerstream.adapters.memory.reader import MemoryReader
from triggerstream.adapters.memory.snapshot import MemorySnapshot
from triggerstream.adapters.memory.state_store import MemoryStateFiles, MemoryStateStore
from triggerstream.adapters.memory.store import MemoryStore

__all__ = [
    "InMemoryRecords",
    "ManualClock",
    "MemoryAppender",
    "MemoryArchive",
    "MemoryDatabase",
    "MemoryDispatcher",
    "MemoryFencing",
    "MemoryIndex",
    "MemoryLedger",
    "MemoryLog",
    "MemoryOwnersTopic",
    "MemoryPartition",
    "MemoryReader",
    "MemorySnapshot",
    "MemoryStateFiles",
    "MemoryStateStore",
    "MemoryStore",
    "OutboxEntry",
]
