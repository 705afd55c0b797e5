"""A partition's local states, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from triggerstream.core.errors import UsageError


@dataclass(slots=True)
class MemoryStateFiles:
    """The content that a state store leaves behind when it is closed, as files on a disk."""

    entries: dict[bytes, bytes] = field(default_factory=dict)
    position: int | None = None
    changelog: str | None = None
    is_open: bool = False


class MemoryStateStore:
    """A :class:`triggerstream.engine.partitioned.ports.StateStore`.

    ``files`` has the data of the previous store. ``changelog`` names the changelog that the store is a copy
    of; files of another one are wiped.

    Raises:
        UsageError: another store has the files open.
    """

    def __init__(self, files: MemoryStateFiles | None = None, *, changelog: str = "changelog") -> None:
        self._files = MemoryStateFiles() if files is None else files
        if self._files.is_open:
            raise UsageError("another process has this store open")
        if self._files.changelog != changelog:
            self.wipe()
        self._files.changelog = changelog
        self._files.is_open = True

    @classmethod
    async def open(cls) -> Self:
        """Open a new store, in the form in which a partition asks for it."""
        return cls()

    @property
    def entries(self) -> Mapping[bytes, bytes]:
        """All entries, by key."""
        return self._files.entries

    def position(self) -> int | None:
        return self._files.position

    def get(self, key: bytes) -> bytes | None:
        return self._files.entries.get(key)

    def write(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        for key, value in entries.items():
            if value is None:
                self._files.entries.pop(key, None)
            else:
                self._files.entries[key] = value
        self._files.position = position

    async def restore(self, entries: Mapping[bytes, bytes | None], *, position: int) -> None:
        self.write(entries, position=position)

    async def end_restore(self) -> None:
        pass

    def page(self, *, after: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        entries = self._files.entries
        return [(key, entries[key]) for key in sorted(entries) if key > after][:limit]

    def wipe(self) -> None:
        self._files.entries.clear()
        self._files.position = None

    async def make_room(self) -> None:
        """Do nothing: its memory has no bound."""

    async def close(self) -> None:
        """Leave the files to the next store."""
        self._files.is_open = False
