"""Dead letters as records: the original key, bytes and headers, plus headers for the reason and the origin.

========================  ====================================================================================
``triggerstream-reason``  why the record was not processed
``triggerstream-place``   ``topic:partition:offset:arrival`` of the original record, arrival in microseconds;
                          with ``:number`` added, that record was folded, and the dead letter is a trigger
                          that follows from it and was left out, as an event; numbers begin at 0
``triggerstream-lost``    only for a lost range of the log: the last offset of the range
``triggerstream-cut``     only for a record that was too long: ``bytes:sha256`` of the whole value
``triggerstream-own``     only where the record's own headers begin with one of the last three: what follows
                          is the record's, whatever it says
========================  ====================================================================================

These headers are before the record's own, so that a record with headers of the same names keeps them.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from hashlib import sha256

from aiokafka import AIOKafkaProducer

from triggerstream.adapters.kafka.connection import Connection, translate_errors
from triggerstream.adapters.kafka.stopping import stop
from triggerstream.core.errors import DecodeError
from triggerstream.engine.checkpoint import DeadLetter
from triggerstream.wire.records import Headers, NewRecord, Record, headers_bytes

REASON_HEADER = "triggerstream-reason"
PLACE_HEADER = "triggerstream-place"
LOST_HEADER = "triggerstream-lost"
CUT_HEADER = "triggerstream-cut"
OWN_HEADER = "triggerstream-own"
_OPTIONAL = frozenset({LOST_HEADER, CUT_HEADER, OWN_HEADER})

WHOLE_BYTES = 1024 * 1024
"""Key, value and headers up to this are kept as they are: the longest record that anything of ours writes."""
_HEAD_BYTES = 64 * 1024
_KEY_HEAD_BYTES = 1024
_REASON_BYTES = 4096

_PLACE = re.compile(rb"([A-Za-z0-9._-]+):([0-9]{1,10}):([0-9]{1,19}):([0-9]{1,18})(?::([0-9]{1,9}))?")
_OFFSET = re.compile(rb"[0-9]{1,19}")
_CUT = re.compile(rb"([0-9]{1,19}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeadLetter:
    """A dead letter read from its topic. ``record`` is the original of ``topic``, unless it was ``cut``.

    ``left_out``: the dead letter is a trigger that was left out when the original record was folded.

    ``cut`` is the length and the SHA-256 of the whole value; ``record`` then has only the beginning of the
    value, and no headers. ``last``: the dead letter is for all offsets from the record's to this one, which
    cannot be read.
    """

    topic: str
    record: Record
    reason: str
    cut: tuple[int, str] | None = None
    last: int | None = None
    left_out: int | None = None


def dead_letter_record(letter: DeadLetter, *, topic: str) -> NewRecord:
    """The dead letter for a record of ``topic`` that could not be processed. It keeps its partition.

    If the original has no value, it has an empty one.
    """
    record = letter.record
    value = record.value or b""
    key, headers = record.key, record.headers
    place = f"{topic}:{record.partition}:{record.offset}:{record.arrival_us}"
    if letter.left_out is not None:
        place += f":{letter.left_out}"
    ours: list[tuple[str, bytes | None]] = [
        (REASON_HEADER, letter.reason.encode()[:_REASON_BYTES]),
        (PLACE_HEADER, place.encode()),
    ]
    if letter.last is not None:
        ours.append((LOST_HEADER, str(letter.last).encode()))
    if len(key or b"") + len(value) + headers_bytes(headers) > WHOLE_BYTES:
        ours.append((CUT_HEADER, f"{len(value)}:{sha256(value).hexdigest()}".encode()))
        key, value, headers = key and key[:_KEY_HEAD_BYTES], value[:_HEAD_BYTES], ()
    if headers and headers[0][0] in _OPTIONAL:
        # Otherwise the program that appended the record could make it look like a lost range of the log.
        ours.append((OWN_HEADER, None))
    return NewRecord(key=key, value=value, headers=(*ours, *headers))


def read_dead_letter(value: bytes | None, *, key: bytes | None, headers: Headers) -> StoredDeadLetter:
    """The dead letter that a record of the dead-letter topic holds.

    Raises:
        DecodeError: triggerstream did not write it.
    """
    added = dict(headers[:2])
    place = _PLACE.fullmatch(added.get(PLACE_HEADER) or b"")
    if REASON_HEADER not in added or place is None:
        raise DecodeError(f"no dead letter: it begins with the headers {REASON_HEADER} and {PLACE_HEADER}")
    rest = headers[2:]
    cut = last = None
    if rest and rest[0][0] == LOST_HEADER and _OFFSET.fullmatch(rest[0][1] or b""):
        last, rest = int(rest[0][1] or b""), rest[1:]
    if rest and rest[0][0] == CUT_HEADER and (match := _CUT.fullmatch(rest[0][1] or b"")) is not None:
        cut, rest = (int(match[1]), match[2].decode()), rest[1:]
    if rest and rest[0][0] == OWN_HEADER:
        rest = rest[1:]
    return StoredDeadLetter(
        topic=place[1].decode(),
        record=Record(
            partition=int(place[2]),
            offset=int(place[3]),
            arrival_us=int(place[4]),
            key=key,
            value=value,
            headers=rest,
        ),
        reason=(added[REASON_HEADER] or b"").decode(errors="replace"),
        cut=cut,
        last=last,
        left_out=None if place[5] is None else int(place[5]),
    )


class DeadLetterTopic:
    """Appends dead letters to their topic, one at a time, outside any transaction.

    A producer that failed is replaced.
    """

    def __init__(self, connection: Connection, *, topic: str, timeout_s: float = 10.0) -> None:
        self._connection = connection
        self._topic = topic
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None

    async def append(self, letter: DeadLetter, *, topic: str) -> None:
        """Append a dead letter for a record of ``topic``. It is durable when this returns.

        Raises:
            LogError: not known to be durable. Safe to call again.
        """
        new = dead_letter_record(letter, topic=topic)
        async with self._lock:
            try:
                async with translate_errors(
                    f"{self._topic} did not take a record", timeout_s=self._timeout_s
                ):
                    if self._producer is None:
                        self._producer = self._connection.producer()
                        await self._connection.start(self._producer)
                    await self._producer.send_and_wait(
                        self._topic,
                        new.value,
                        key=new.key,
                        partition=letter.record.partition,
                        headers=list(new.headers),
                    )
            except BaseException:
                await self._stop_producer()
                raise

    async def close(self) -> None:
        """Close the connections."""
        async with self._lock:
            await self._stop_producer()

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)
