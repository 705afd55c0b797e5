"""Answers to questions about a worker and its log; see also :mod:`triggerstream.core.answers`.

Each field is in the JSON that users see; None: not known, or there is none.
"""

from __future__ import annotations

from msgspec import Struct

from triggerstream.core.answers import OwnerRow
from triggerstream.core.ids import ConfigHash, Instant, Json, TaskName


class WorkerRow(Struct, frozen=True, kw_only=True):
    """A worker: the ``url`` of its pages, whether it is this process, and why it does not answer, if so."""

    url: str | None
    own: bool
    says: str | None


class PartitionRow(
    Struct,
    frozen=True,
    kw_only=True,
    rename={"events_per_second": "eventsPerSecond", "dead_letters": "deadLetters"},
):
    """A partition with its owner. ``recovered`` is a percentage, ``events`` the next offset to be folded."""

    partition: int
    owner: str | None
    own: bool
    phase: str
    recovered: int | None = None
    lag: int | None = None
    events: int | None = None
    events_per_second: float | None = None
    dead_letters: int | None = None
    outbox: int | None = None


class Overview(Struct, frozen=True, kw_only=True):
    """An app's workers and partitions. ``owners``: who has claimed partitions in the owners topic."""

    app: str
    workers: list[WorkerRow]
    partitions: list[PartitionRow]
    owners: list[OwnerRow] = []


class TaskRow(Struct, frozen=True, kw_only=True, rename={"and_every": "andEvery"}):
    """A task of a configuration, with its conditions as they stand in the file.

    ``time`` and ``places`` are its keys of time, and those that limit its places, in words.
    """

    task: TaskName
    run: str
    after: list[Json]
    and_every: Json
    unless: list[Json]
    time: list[str] = []
    places: list[str] = []


class ShownConfiguration(Struct, frozen=True, kw_only=True, rename={"arrival_us": "arrival"}):
    """A configuration in force since ``arrival_us``; without ``hash``, another process says that none is."""

    hash: ConfigHash | None
    arrival_us: Instant | None
    text: str
    tasks: list[TaskRow]


class ShownDeadLetter(
    Struct,
    frozen=True,
    kw_only=True,
    rename={"at_us": "at", "last_offset": "lastOffset", "left_out": "leftOut"},
):
    """A :class:`triggerstream.engine.rows.DeadLetterRow`; bytes that are not UTF-8 are replaced."""

    number: int
    at_us: Instant
    partition: int
    offset: int | None
    last_offset: int | None
    left_out: int | None
    key: str | None
    value: str | None
    headers: list[list[str | None]]
    reason: str


class DeadLettersPage(Struct, frozen=True, kw_only=True, rename={"dead_letters": "deadLetters"}):
    """A page of dead letters. ``after``: the next page comes after it; None: this is the last one."""

    dead_letters: list[ShownDeadLetter]
    after: int | None
