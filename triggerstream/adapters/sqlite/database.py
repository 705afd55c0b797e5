"""The database file: its location, its schema, opening it, and appending to it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from triggerstream import variables
from triggerstream.core import advice
from triggerstream.core.errors import LogError, UsageError
from triggerstream.engine.database_file import DATABASE, database_file
from triggerstream.engine.private_files import make_private_directory, make_private_file
from triggerstream.engine.stored_states import StateDecoder
from triggerstream.wire.records import Headers, NewRecord, Record

SCHEMA = 4
NOT_LEFT_OUT = -1
"""Value of ``left_out`` for a dead letter that is a record or a command; see
``engine.rows.DeadLetterRow``."""
_APPLICATION_ID = 0x7472_6967
"""``trig``: marks the file as ours (``PRAGMA application_id``)."""

_BUSY_S = 10.0
"""Maximum time that SQLite itself waits for a lock, for example while a file is recovered after a crash."""
_RETRY_S = 0.001
"""SQLite's own waiting backs off to 100 ms: under load, who waits is asleep when the lock is free."""
PAGE_BYTES = 8192
"""Most states fit in a page. Upserts of 600-byte states: 6.6 µs, with SQLite's default of 4,096 10.2 µs."""

# Offsets are assigned in the appending transaction, so they have no gaps and follow commit order.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('offset', 0), ('scanned', -1);
CREATE TABLE log (
    offset INTEGER PRIMARY KEY, arrival_us INTEGER NOT NULL, key BLOB, value BLOB, headers TEXT
);
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state BLOB NOT NULL,
    due_us INTEGER, config INTEGER NOT NULL
);
CREATE TABLE retired (
    session TEXT NOT NULL, task TEXT NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (session, task, number)
);
CREATE INDEX sessions_due ON sessions (due_us) WHERE due_us IS NOT NULL;
CREATE INDEX sessions_config ON sessions (config);
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY, command TEXT NOT NULL, revoke INTEGER NOT NULL, session TEXT NOT NULL,
    value BLOB NOT NULL, sent_us INTEGER, settled INTEGER NOT NULL DEFAULT 0,
    published_us INTEGER
);
CREATE INDEX outbox_command ON outbox (command);
CREATE INDEX outbox_sent ON outbox (sent_us) WHERE sent_us IS NOT NULL;
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, offset INTEGER,
    left_out INTEGER NOT NULL DEFAULT -1, key BLOB, value BLOB, reason TEXT NOT NULL,
    UNIQUE (offset, left_out)
);
CREATE TABLE configurations (
    offset INTEGER PRIMARY KEY, arrival_us INTEGER NOT NULL, hash TEXT NOT NULL, text TEXT NOT NULL,
    number INTEGER NOT NULL
);
"""
_UPGRADES = {
    1: """
ALTER TABLE dead_letters RENAME TO older;
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, offset INTEGER,
    left_out INTEGER NOT NULL DEFAULT -1, key BLOB, value BLOB, reason TEXT NOT NULL,
    UNIQUE (offset, left_out)
);
INSERT INTO dead_letters (number, at_us, offset, key, value, reason)
    SELECT number, at_us, offset, key, value, reason FROM older;
DROP TABLE older;
ALTER TABLE configurations ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE configurations AS one SET number = (SELECT count(*) FROM configurations WHERE offset <= one.offset);
""",
    2: """
ALTER TABLE outbox ADD COLUMN published_us INTEGER;
""",
    3: """
CREATE TABLE retired (
    session TEXT NOT NULL, task TEXT NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (session, task, number)
);
""",
}
"""Migration script from each schema version to the next."""


def locate(path: Path | str) -> Path:
    """The database file for ``path``: a file, or the database in a directory."""
    return database_file(Path(path).expanduser().absolute())


def decoder_of(file: Path) -> StateDecoder:
    """The decoder for the states in ``file``."""
    return StateDecoder(name=str(file), address=str(file.parent if file.name == DATABASE else file))


def connect(file: Path, *, create: bool = False, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode to a database of this release's schema.

    Raises:
        UsageError: there is no database, it is not triggerstream's, or it is from a newer release.
        LogError: the file system or SQLite failed.
    """
    try:
        if not file.exists():
            if not create:
                raise UsageError(f"{file}: not there: {advice.begin_directory(variables.AT)}")
            _create(file)
        connection = _open(file, mode="ro" if read_only else "rw")
    except (sqlite3.Error, OSError) as exc:
        raise LogError(f"{file}: cannot be opened: {exc}") from exc
    try:
        if _check(connection, file) < SCHEMA:
            if read_only:
                _open_and_upgrade(file)
            else:
                _upgrade(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # else macOS returns before the data is on the disk
    except sqlite3.Error as exc:
        connection.close()
        raise _not_ours(file, exc) from exc
    except UsageError:
        connection.close()
        raise
    return connection


def _open(file: Path, *, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{file.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_S,
    )


def _create(file: Path) -> None:
    """Create an empty database, unless another process does so first.

    It is created under another name and then renamed, because two processes cannot create the same SQLite
    file.
    """
    make_private_directory(file.parent)
    orphan = file.with_name(f"{file.name}-wal")
    if orphan.exists() and not file.exists():
        raise UsageError(f"{orphan}: its database is gone: {advice.put_database_back(str(orphan))}")
    draft = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        # SQLite gives the files beside it, -wal and -shm, the mode of the database.
        make_private_file(draft)
        connection = _open(draft, mode="rw")
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_TABLES)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        finally:
            connection.close()
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # else a power failure could lose the file's name, and all events with it
    finally:
        os.close(directory)


def _open_and_upgrade(file: Path) -> None:
    connection = _open(file, mode="rw")
    try:
        _upgrade(connection)
    finally:
        connection.close()


def _upgrade(connection: sqlite3.Connection) -> None:
    """Migrate a database of an older release to the current schema; another process may do so meanwhile."""
    with transaction(connection, timeout_s=_BUSY_S):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for older in range(version, SCHEMA):
            for statement in filter(str.strip, _UPGRADES[older].split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _check(connection: sqlite3.Connection, file: Path) -> int:
    """The schema version of the database."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise UsageError(f"{file}: is no triggerstream database, but empty or a database of something else")
    if version > SCHEMA:
        raise UsageError(
            f"{file}: has schema {version}, of a newer triggerstream; this one knows {SCHEMA} at most: "
            "upgrade it"
        )
    return int(version)


def _not_ours(file: Path, exc: sqlite3.Error) -> UsageError | LogError:
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return UsageError(f"{file}: is no triggerstream database")
    return LogError(f"{file}: {exc}")


@contextmanager
def transaction(connection: sqlite3.Connection, *, timeout_s: float) -> Iterator[None]:
    """A write transaction: durable when the block has ended, undone if the block raises."""
    _begin(connection, timeout_s)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _begin(connection: sqlite3.Connection, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def append(connection: sqlite3.Connection, records: Sequence[NewRecord], now_us: int) -> int:
    """Append ``records`` inside the transaction; the offset after the last one.

    They arrive at ``now_us``, also if the clock stepped back since the last record: only a session's own
    clock never goes back, as with a log in Kafka.
    """
    start = end(connection)
    connection.executemany(
        "INSERT INTO log (offset, arrival_us, key, value, headers) VALUES (?, ?, ?, ?, ?)",
        [
            (offset, now_us, record.key, record.value, _headers_text(record.headers))
            for offset, record in enumerate(records, start)
        ],
    )
    return start + len(records)


def end(connection: sqlite3.Connection) -> int:
    """The offset that the next record will take."""
    row = connection.execute("SELECT max(offset) FROM log").fetchone()
    if row[0] is None:
        row = connection.execute("SELECT value - 1 FROM meta WHERE name = 'offset'").fetchone()
    return int(row[0]) + 1


def to_record(row: tuple[int, int, bytes | None, bytes | None, str | None]) -> Record:
    """A row ``offset, arrival_us, key, value, headers`` of the log as a record."""
    offset, arrival_us, key, value, headers = row
    return Record(
        partition=0,
        offset=offset,
        arrival_us=arrival_us,
        key=key,
        value=value,
        headers=() if headers is None else to_headers(headers),
    )


def _headers_text(headers: Headers) -> str | None:
    return (
        json.dumps([[name, None if value is None else value.hex()] for name, value in headers])
        if headers
        else None
    )


def to_headers(text: str) -> Headers:
    """The headers as stored in the log: names, and values in hex or null, as JSON."""
    return tuple((name, None if value is None else bytes.fromhex(value)) for name, value in json.loads(text))
