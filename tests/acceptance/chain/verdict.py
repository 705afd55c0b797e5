"""The effects of a hostile producer's records: each dead letter, each log line, each printed line."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.chain.hostile_tasks import EVIL, FORGED
from tests.acceptance.chain.rig import PARTITIONS, Rig
from tests.adapters.faust.workers import read_all
from triggerstream.adapters.kafka.deadletters import read_dead_letter
from triggerstream.core.printable import escape
from triggerstream.wire.commands import decode
from triggerstream.wire.events import origin_of
from triggerstream.wire.records import Record

_ENDED = re.compile(r"\(supervisor\): .* ended")
_BEGINS = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ |    |triggerstream [a-z]+ \d+( \(supervisor\))?: "
)
"""Beginning of a log line of workers and bridge: its time, a traceback's indent, or the process's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A line of the ledger."""

    kind: str
    place: tuple[int, int]
    last: int | None
    refused: bool | None


def ledger(path: Path) -> list[Noted]:
    """The records that the hostile producer has appended."""
    rows = map(json.loads, path.read_text().splitlines())
    return [
        Noted(
            kind=row["kind"],
            place=(row["partition"], row["offset"]),
            last=row["last"],
            refused=row["refused"],
        )
        for row in rows
    ]


def misjudged(rig: Rig, noted: Sequence[Noted]) -> Counter[str]:
    """Kinds of records that have no dead letter and must have one, have one and must not, or have two."""
    found = asyncio.run(read_all(rig.connection, rig.topics.dead_letters, PARTITIONS))
    letters = [
        read_dead_letter(record.value, key=record.key, headers=tuple(record.headers))
        for records in found.values()
        for record in records
    ]
    known = {one.place for one in noted}
    whole = Counter(_place(one.record, known) for one in letters if one.left_out is None)
    ranges = {_place(one.record, known): one.last for one in letters if one.left_out is None}
    wrong: Counter[str] = Counter()
    for one in noted:
        count = whole.pop(one.place, 0)
        if count > 1 or (one.refused is not None and count != one.refused):
            wrong[f"{one.kind}: {count}"] += 1
        if count and ranges[one.place] != one.last:
            wrong[f"{one.kind}: up to {ranges[one.place]}"] += 1
    for place, count in whole.items():
        wrong[f"of an unknown record, {place}"] += count
    left_out = Counter(
        (one.record.partition, one.record.offset, one.left_out) for one in letters if one.left_out is not None
    )
    return wrong + Counter({f"left out {place}": n for place, n in left_out.items() if n > 1})


def _place(record: Record, known: AbstractSet[tuple[int, int]]) -> tuple[int, int]:
    """Where ``record`` was appended; of a copy that the engine has made of another, where that one was."""
    place = (record.partition, record.offset)
    return place if place in known else origin_of(record.headers) or place


def left_out_count(rig: Rig) -> int:
    """How many dead letters are triggers of outcomes that had no room."""
    found = asyncio.run(read_all(rig.connection, rig.topics.dead_letters, PARTITIONS))
    return sum(
        read_dead_letter(record.value, key=record.key, headers=tuple(record.headers)).left_out is not None
        for records in found.values()
        for record in records
    )


def evil_commands(rig: Rig) -> list[str]:
    """Sessions in which a task of a forged configuration was decided."""
    found = asyncio.run(read_all(rig.connection, rig.topics.commands, PARTITIONS))
    decided = [decode(record.value) for records in found.values() for record in records]
    return [one.session for one in decided if getattr(one, "run", None) == EVIL]


def ends_of_their_own(rig: Rig) -> list[str]:
    """Lines with which a supervisor says that the process below it has ended, which no killer leaves."""
    lines = (line for _, line in _lines(rig) if _ENDED.search(line))
    return list(lines)


def forged_lines(rig: Rig) -> list[str]:
    """Lines of the workers' and the bridge's logs that do not begin as one of theirs, or steer a terminal."""
    return [
        f"{name}: {line!r}"
        for name, line in _lines(rig)
        if not _BEGINS.match(line) or line.lstrip().startswith(FORGED) or escape(line) != line
    ]


def _lines(rig: Rig) -> Iterable[tuple[str, str]]:
    for member in (*rig.workers, rig.bridge):
        if member.output.exists():
            text = member.output.read_bytes().decode()
            yield from ((member.name, line) for line in text.split("\n") if line)


def steers(printed: str) -> bool:
    """Whether what a command printed has a control character, or a line that is forged."""
    lines = printed.splitlines()
    return any(escape(line) != line or line.lstrip().startswith(FORGED) for line in lines) or len(
        lines
    ) != printed.count("\n")
