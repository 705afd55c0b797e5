"""The table of decisions that are not settled yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from triggerstream.core.answers import HandOver
from triggerstream.core.commands import Revoke
from triggerstream.core.ids import CommandId, SessionId
from triggerstream.engine.checkpoint import Decided
from triggerstream.engine.rows import NO_ROW, OutboxRow, PublishedRow, SentRow, hand_over_of_row


def read_outbox(
    connection: sqlite3.Connection, *, after: int, limit: int, sent_before_us: int | None = None
) -> Sequence[OutboxRow]:
    """Rows of the outbox with a number greater than ``after``, in order."""
    query = "SELECT number, command, session, value, sent_us FROM outbox"
    if sent_before_us is None:
        rows = connection.execute(f"{query} WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
    else:
        # The `+` makes SQLite search by `sent_us`, and sort the few rows that are so old.
        rows = connection.execute(
            f"{query} WHERE +number > ? AND sent_us < ? ORDER BY number LIMIT ?",
            (after, sent_before_us, limit),
        )
    return [
        OutboxRow(
            number=number,
            command=CommandId(command),
            session=SessionId(session),
            value=value,
            sent_us=sent_us,
        )
        for number, command, session, value, sent_us in rows
    ]


def read_hand_overs(
    connection: sqlite3.Connection, commands: Sequence[CommandId]
) -> Mapping[CommandId, HandOver]:
    """Progress of the hand-over of each of ``commands``."""
    found = {}
    for command in commands:
        row = connection.execute(
            "SELECT sent_us, published_us FROM outbox WHERE command = ? AND NOT revoke"
            " ORDER BY number DESC LIMIT 1",
            (command,),
        ).fetchone()
        found[command] = NO_ROW if row is None else hand_over_of_row(sent_us=row[0], published_us=row[1])
    return found


def add_decided(connection: sqlite3.Connection, decided: Sequence[Decided], first: int) -> None:
    """Add a row for each decision, numbered from ``first`` on, and drop the rows that it replaces."""
    connection.executemany(
        "DELETE FROM outbox WHERE command = ? AND (sent_us IS NULL OR NOT ?)",
        [
            (item.decision.id, isinstance(item.decision, Revoke))
            for item in decided
            if isinstance(item.decision, Revoke) or item.decision.attempt
        ],
    )
    # A command that the same checkpoint revokes or sends again was not handed over: it needs no row.
    last = {item.decision.id: number for number, item in enumerate(decided, first)}
    connection.executemany(
        "INSERT INTO outbox (number, command, revoke, session, value) VALUES (?, ?, ?, ?, ?)",
        [
            (
                number,
                item.decision.id,
                isinstance(item.decision, Revoke),
                item.decision.session,
                item.value,
            )
            for number, item in enumerate(decided, first)
            if last[item.decision.id] == number
        ],
    )


def settle(connection: sqlite3.Connection, settled: Sequence[CommandId]) -> None:
    """Note that the commands need no row any more: delete those handed over, and mark the others."""
    commands = [(command,) for command in settled]
    connection.executemany(
        "DELETE FROM outbox WHERE command = ? AND NOT revoke AND sent_us IS NOT NULL", commands
    )
    connection.executemany("UPDATE outbox SET settled = 1 WHERE command = ? AND NOT revoke", commands)


def note_published(connection: sqlite3.Connection, published: Sequence[PublishedRow]) -> None:
    """Note rows whose hand-over was tried and not confirmed."""
    connection.executemany(
        "UPDATE outbox SET published_us = ? WHERE number = ?",
        [(one.published_us, one.number) for one in published],
    )


def note_sent(connection: sqlite3.Connection, sent: Sequence[SentRow]) -> None:
    """Note what was handed over, and delete rows that are not needed any more."""
    connection.executemany(
        "DELETE FROM outbox WHERE number = ? AND (settled OR revoke)", [(one.number,) for one in sent]
    )
    connection.executemany(
        "UPDATE outbox SET sent_us = ? WHERE number = ?", [(one.sent_us, one.number) for one in sent]
    )
