"""The table of sessions: Faust's name, changelog, view and routing over the states of owned partitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from faust.app.router import Router as FaustRouter
from faust.stores.base import Store
from faust.tables import Table
from faust.types import TP
from faust.types.core import K
from faust.web.exceptions import ServiceUnavailable
from yarl import URL

from triggerstream.adapters.faust.consumer_thread import ConsumerHost
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import SessionId
from triggerstream.core.placement import partition_of

TABLE = "sessions"
_READ_ONLY = "the table of sessions is written by checkpoints alone"


class OwnedStore(Store[bytes, bytes]):
    """The states of the partitions that this process owns. Read-only."""

    def __getitem__(self, key: bytes) -> bytes:
        value = self._value(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._value(key) is not None

    def __setitem__(self, key: bytes, value: bytes) -> None:
        raise TypeError(_READ_ONLY)

    def __delitem__(self, key: bytes) -> None:
        raise TypeError(_READ_ONLY)

    def __iter__(self) -> Iterator[bytes]:
        raise TypeError("the table of sessions is not walked through: read one session at a time")

    def __len__(self) -> int:
        raise TypeError("the table of sessions is not counted")

    def clear(self) -> None:
        raise TypeError(_READ_ONLY)

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:  # noqa: ANN401, ARG002 - Faust's
        raise TypeError(_READ_ONLY)

    def reset_state(self) -> None:
        """Nothing is kept here."""

    async def backup_partition(
        self,
        tp: TP | int,  # noqa: ARG002 - Faust's signature
        flush: bool = True,  # noqa: ARG002, FBT001, FBT002 - Faust's signature
        purge: bool = False,  # noqa: ARG002, FBT001, FBT002 - Faust's signature
        keep: int = 1,  # noqa: ARG002 - Faust's signature
    ) -> None:
        raise TypeError("the changelog is the backup")

    def restore_backup(self, tp: TP | int, latest: bool = True, backup_id: int = 0) -> None:  # noqa: ARG002, FBT001, FBT002 - Faust's signature
        raise TypeError("the changelog is the backup")

    def _value(self, key: bytes) -> bytes | None:
        host = cast("ConsumerHost", self.app)
        partition = host.owner.get(partition_of(key, host.partitions))
        if partition is None:
            return None
        try:
            return partition.state(SessionId(key.decode()))
        except (UsageError, UnicodeDecodeError):
            return None


class SessionTable(Table[bytes, bytes]):
    """``<app>-sessions-changelog`` as a Faust table. An agent that writes to it is refused."""

    def _new_store(self) -> Any:  # noqa: ANN401 - the base class says no more
        return OwnedStore("memory://", self.app, self, table_name=self.name, key_type=bytes, value_type=bytes)

    def on_key_set(self, key: Any, value: Any) -> None:  # noqa: ANN401, ARG002 - Faust's signature
        raise TypeError(_READ_ONLY)

    def on_key_del(self, key: Any) -> None:  # noqa: ANN401, ARG002 - Faust's signature
        raise TypeError(_READ_ONLY)


class Router(FaustRouter):
    """Finds the worker that owns a session.

    Faust's own asks its producer for the topic's partitions, which fails until something was written there.
    """

    def key_store(self, table_name: str, key: K) -> URL:
        """The web address of the worker that owns ``key``.

        Raises:
            ServiceUnavailable: none does at the moment.
        """
        table = self._get_table(table_name)
        serialized = key if isinstance(key, bytes) else str(key).encode()
        partitions = cast("ConsumerHost", self.app).partitions
        place = TP(self._get_table_topic(table), partition_of(serialized, partitions))
        url = self._assignor._tps_url.get(place)  # type: ignore[attr-defined] # noqa: SLF001 - only the concrete class has it
        if url is None:
            raise ServiceUnavailable("no worker owns this session at the moment")
        return URL(url)
