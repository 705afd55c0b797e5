"""The configurations of a partition, in memory and in its store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from triggerstream.core.tasks import Rules
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.versions import (
    StoredHistory,
    configuration_reader,
    history_entries,
    stored_history,
)


@dataclass(slots=True)
class PartitionConfigurations:
    """The rules after the record folded last, and the history that is durable."""

    rules: Rules
    history: StoredHistory
    scanned: int
    """The configuration for which all sessions were evaluated."""
    cache: ConfigurationCache
    stored: Callable[[bytes], bytes | None]
    """The durable value of a key."""

    def entries(self, rules: Rules) -> dict[bytes, bytes | None]:
        """The changes that make the history of ``rules`` durable; empty if it is."""
        return history_entries(rules, self.history)

    def unload_past(self, durable: Rules) -> None:
        """Drop parsed past configurations whose text is in the store, from where they can be read again."""
        self.history = stored_history(durable, self.stored, self.cache)
        self.rules = self.rules.unload_past(
            lambda applied: configuration_reader(self.stored, self.cache, applied.hash),
            below=durable.current.offset + 1,
        )
