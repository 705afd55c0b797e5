"""The stored configurations, and the fold version of the stored states."""

from __future__ import annotations

import sqlite3

from triggerstream.core import tasks
from triggerstream.core.ids import ConfigHash
from triggerstream.core.tasks import Rules
from triggerstream.engine.rows import ConfigurationText

_INSERT = "INSERT INTO configurations (offset, arrival_us, hash, text, number) VALUES (?, ?, ?, ?, ?)"


def read_configurations(connection: sqlite3.Connection) -> tuple[ConfigurationText, ...]:
    """The stored configurations, oldest first."""
    rows = connection.execute(
        "SELECT offset, arrival_us, hash, text, number FROM configurations ORDER BY offset"
    )
    return tuple(
        ConfigurationText(
            offset=offset, arrival_us=arrival_us, hash=ConfigHash(hash_), text=text, number=number
        )
        for offset, arrival_us, hash_, text, number in rows
    )


def add_configurations(connection: sqlite3.Connection, rules: Rules) -> None:
    """Store the configurations of ``rules`` that are newer than the stored ones."""
    (last,) = connection.execute("SELECT coalesce(max(offset), -1) FROM configurations").fetchone()
    connection.executemany(
        _INSERT,
        [
            (one.offset, one.arrival_us, one.hash, one.config.text, one.number)
            for one in rules.history
            if one.offset > last
        ],
    )


def note_fold(connection: sqlite3.Connection) -> None:
    """Store the oldest fold version of the sessions; a database without this entry has version 1."""
    (offset,) = connection.execute("SELECT value FROM meta WHERE name = 'offset'").fetchone()
    if offset > 0:
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('fold', 1)")
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('fold', ?)", (tasks.FOLD_VERSION,))
    connection.execute("UPDATE meta SET value = min(value, ?) WHERE name = 'fold'", (tasks.FOLD_VERSION,))
