"""SQL guard: the claim is a separate transaction; effect and record are one transaction.

Two tables. ``triggerstream_claims`` holds leases: who runs a command, until when, taken over how often. It is
written in short transactions of its own, so it survives a crash and a renewal never meets the effect's
transaction. ``triggerstream_outcomes`` holds what is settled, and its primary key is the fence: effect and
row are inserted in one transaction, so of any number of runs of one command only one can commit.

The order, and what a crash leaves behind:

1. the claim is committed. After a crash it expires, and is taken over.
2. the body runs; with the first use of ``connection`` the effect's transaction begins. A crash rolls it back.
3. the outcome's row is inserted and the transaction committed. After a crash both effect and row are there.
4. the outcome is reported. After a crash the repeat finds the row and reports it.

SQLite has one writer at a time and refuses to write after a read when another connection wrote in between.
There the effect's transaction begins with a write, and holds the database until it ends; the lease is not
renewed in the meantime, since nobody can take it over without the same lock.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Engine,
    Insert,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from triggerstream.adapters.celery.guards import (
    DEFAULT_KEEP_S,
    DEFAULT_LEASE_S,
    MAX_TAKEOVERS,
    Busy,
    Claim,
    EffectRefusedError,
    Exhausted,
    Granted,
    GuardUnavailableError,
    Settled,
)
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import CommandId

logger = logging.getLogger(__name__)

metadata = MetaData()
"""For a migration tool. The guard itself makes the tables that are not there."""

claims = Table(
    "triggerstream_claims",
    metadata,
    Column("command", String(64), primary_key=True),
    Column("token", String(64), nullable=False),
    Column("holder", String(255), nullable=False),
    Column("expires", Double, nullable=False, index=True),
    Column("takeovers", Integer, nullable=False),
)
outcomes = Table(
    "triggerstream_outcomes",
    metadata,
    Column("command", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    Column("recorded", Double, nullable=False, index=True),
)

# Seconds since the epoch by the clock of the database, which all workers share.
_NOW = {
    "sqlite": literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double),
    "postgresql": literal_column("extract(epoch from clock_timestamp())::double precision", Double),
}
_PRUNE_EACH_S = 3_600.0
_UNREACHABLE = (OperationalError, InterfaceError, PoolTimeout)


class SqlGuard:
    """A :class:`triggerstream.adapters.celery.guards.Guard` in an SQLite or PostgreSQL database.

    A task's effect and the record of it commit as one.

    The task writes through ``current().connection``. The tables are made when they are missing.

    Args:
        database: an SQLAlchemy engine, or a URL such as ``postgresql+psycopg://app@db/shop``.
        lease_s: how long, after a worker died, no other worker runs its command.
        keep_s: how long a record is kept. It must be longer than any message of the command can exist.
    """

    def __init__(
        self, database: Engine | str, *, lease_s: float = DEFAULT_LEASE_S, keep_s: float = DEFAULT_KEEP_S
    ) -> None:
        url = make_url(database) if isinstance(database, str) else database.url
        dialect = url.get_backend_name()
        if dialect not in _NOW:
            raise UsageError(f"SqlGuard: must be SQLite or PostgreSQL, is {dialect}")
        if dialect == "sqlite" and url.database in {None, "", ":memory:"}:
            raise UsageError("SqlGuard: an SQLite database must be a file: workers are processes")
        self.engine = create_engine(url, pool_pre_ping=True) if isinstance(database, str) else database
        self.lease_s = lease_s
        self._keep_s = keep_s
        self._now = _NOW[dialect]
        self._one_writer = dialect == "sqlite"
        self._pid: int | None = None
        self._pruned: float | None = None

    def claim(self, command: CommandId, *, holder: str) -> Claim:
        token = uuid4().hex
        with self._transaction() as connection:
            granted = self._upsert(connection, command, token=token, holder=holder)
            # Read after the claim: a settlement was committed before the lease could be taken over.
            value = connection.scalar(select(outcomes.c.value).where(outcomes.c.command == command))
            if value is not None:
                connection.rollback()
                return Settled(value=value.encode())
            why = None if granted else self._refusal_of(connection, command)
        if why is not None:
            return why
        self._prune()
        return Granted(held=_SqlHeld(self, command, token))

    def conclude(self, command: CommandId, value: bytes) -> bytes:
        try:
            with self._transaction() as connection:
                connection.execute(self.record(command, value))
        except GuardUnavailableError as exc:
            if not isinstance(exc.__cause__, IntegrityError):
                raise
        else:
            return value
        found = self.recorded(command)
        if found is None:
            raise GuardUnavailableError(f"no outcome of {command} could be recorded, and none is on record")
        return found

    def recorded(self, command: CommandId) -> bytes | None:
        with self._transaction() as connection:
            value = connection.scalar(select(outcomes.c.value).where(outcomes.c.command == command))
        return None if value is None else value.encode()

    def lost(self, command: CommandId, *, holder: str) -> None:
        with self._transaction() as connection:
            connection.execute(
                update(claims)
                .where(claims.c.command == command, claims.c.holder == holder)
                .values(expires=0.0)
            )

    # ---- used by the claims it grants ----

    def connect(self) -> Connection:
        """A connection of this process."""
        return self._engine_of_process().connect()

    def holds_whole_database(self) -> bool:
        """True if a transaction that writes prevents all other transactions from writing."""
        return self._one_writer

    def record(self, command: CommandId, value: bytes) -> Insert:
        """The statement that settles ``command``."""
        return insert(outcomes).values(command=command, value=value.decode(), recorded=self._now)

    def renew(self, command: CommandId, *, token: str) -> bool:
        """Extend the lease of the claim with ``token``."""
        with self._transaction() as connection:
            result = connection.execute(
                update(claims)
                .where(claims.c.command == command, claims.c.token == token)
                .values(expires=self._now + self.lease_s)
            )
        return result.rowcount == 1

    def give_back(self, command: CommandId, *, token: str, forget: bool) -> None:
        """End the lease of the claim with ``token``.

        Unless ``forget``, the next claim counts as a take-over.
        """
        mine = (claims.c.command == command, claims.c.token == token)
        with self._transaction() as connection:
            connection.execute(
                delete(claims).where(*mine) if forget else update(claims).where(*mine).values(expires=0.0)
            )

    # ---- inside ----

    def _upsert(self, connection: Connection, command: CommandId, *, token: str, holder: str) -> bool:
        dialect = sqlite if self._one_writer else postgresql
        statement = dialect.insert(claims).values(
            command=command, token=token, holder=holder[:255], expires=self._now + self.lease_s, takeovers=0
        )
        result = connection.execute(
            statement.on_conflict_do_update(
                index_elements=[claims.c.command],
                set_={
                    "token": statement.excluded.token,
                    "holder": statement.excluded.holder,
                    "expires": statement.excluded.expires,
                    "takeovers": claims.c.takeovers + 1,
                },
                where=(claims.c.expires <= self._now) & (claims.c.takeovers < MAX_TAKEOVERS),
            ).returning(claims.c.command)
        )
        return result.first() is not None

    def _refusal_of(self, connection: Connection, command: CommandId) -> Busy | Exhausted:
        left_s, takeovers = connection.execute(
            select(claims.c.expires - self._now, claims.c.takeovers).where(claims.c.command == command)
        ).one_or_none() or (0.0, 0)  # given back this moment
        if left_s <= 0 and takeovers >= MAX_TAKEOVERS:
            return Exhausted()
        return Busy(for_s=max(0.0, left_s))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine_of_process().connect() as connection:
                yield connection
                connection.commit()
        except SQLAlchemyError as exc:
            raise GuardUnavailableError(f"the SQL guard: {exc}") from exc

    def _engine_of_process(self) -> Engine:
        """The engine, with no connection that another process made, and with its tables."""
        pid = os.getpid()
        if self._pid != pid:
            if self._pid is not None:
                self.engine.dispose(close=False)
            try:
                metadata.create_all(self.engine)
            except SQLAlchemyError:
                # Another process made them between the look and the making.
                metadata.create_all(self.engine)
            self._pid = pid
        return self.engine

    def _prune(self) -> None:
        now = time.monotonic()
        if self._pruned is not None and now - self._pruned < _PRUNE_EACH_S:
            return
        self._pruned = now
        with suppress(GuardUnavailableError), self._transaction() as connection:
            connection.execute(delete(outcomes).where(outcomes.c.recorded < self._now - self._keep_s))
            connection.execute(
                delete(claims).where(claims.c.expires < self._now - self._keep_s, claims.c.expires > 0)
            )


class _SqlHeld:
    fatal_when_lost = False

    def __init__(self, guard: SqlGuard, command: CommandId, token: str) -> None:
        self.token = token
        self._guard = guard
        self._command = command
        self._open: Connection | None = None
        self._may_commit = False
        self._broken = False

    def connection(self) -> Connection:
        if self._open is None:
            try:
                self._open = self._begin()
            except SQLAlchemyError as exc:
                raise GuardUnavailableError(f"the SQL guard: {exc}") from exc
        return self._open

    def renew(self) -> bool:
        if self._open is not None and self._guard.holds_whole_database():
            return True
        return self._guard.renew(self._command, token=self.token)

    def settle(self, value: bytes) -> bytes:
        try:
            connection = self.connection()
        except GuardUnavailableError:
            found = self._guard.recorded(self._command)
            if found is None:
                raise
            return found
        try:
            try:
                connection.execute(self._guard.record(self._command, value))
            except IntegrityError as exc:
                return self._winning_outcome(exc)
            self._may_commit = True
            connection.commit()
        except _UNREACHABLE as exc:
            # The commit may have succeeded although its answer was lost.
            self._close()
            if self._guard.recorded(self._command) == value:
                return value
            raise GuardUnavailableError(f"the SQL guard: {exc}") from exc
        except SQLAlchemyError as exc:
            raise EffectRefusedError(f"the effect was not committed: {exc}") from exc
        finally:
            self._may_commit = False
        self._close()
        return value

    def undo(self, value: bytes) -> bytes:
        self._close()
        return self._guard.conclude(self._command, value)

    def release(self) -> None:
        self._close()
        with suppress(GuardUnavailableError):
            self._guard.give_back(self._command, token=self.token, forget=True)

    def abandon(self) -> None:
        self._close()
        with suppress(GuardUnavailableError):
            self._guard.give_back(self._command, token=self.token, forget=False)

    def _begin(self) -> Connection:
        connection = self._guard.connect()
        event.listen(connection, "commit", self._refuse_commit)
        if self._guard.holds_whole_database():
            mine = (claims.c.command == self._command, claims.c.token == self.token)
            try:
                result = connection.execute(update(claims).where(*mine).values(expires=claims.c.expires))
            except SQLAlchemyError:
                connection.close()
                raise
            if result.rowcount != 1:
                connection.close()
                raise GuardUnavailableError("the lease of this command is somebody else's by now")
        return connection

    def _refuse_commit(self, _connection: Connection) -> None:
        if not self._may_commit:
            self._broken = True
            raise UsageError(
                "the guard commits current().connection itself, with the record that the task is done: "
                "use connection.begin_nested() for a part that may fail"
            )

    def _winning_outcome(self, exc: IntegrityError) -> bytes:
        self._close()
        found = self._guard.recorded(self._command)
        if found is None:
            raise GuardUnavailableError(f"the SQL guard: {exc}") from exc
        return found

    def _close(self) -> None:
        connection, self._open = self._open, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                if self._broken:
                    connection.invalidate()
                connection.close()
