"""The bridge's progress in a partition, as the metadata of its group's offset.

The offset is below the first command that is not done. While commands wait for a refused destination, later
ones are handed over; the metadata says which, so that they are not handed over again after a restart::

    TOPIC_ID                nothing above the offset is known to be done
    TOPIC_ID 120:0,3,1      below offset + 120 all is done but for +0, +3 and +4
    TOPIC_ID@700            the hand-over began at offset 700: of earlier commands nothing is known

Each number behind the colon is the distance from the one before. The last form goes together with the others.
"""

from __future__ import annotations

import re
from dataclasses import replace

from triggerstream.engine.handover.shared_log import HandOverProgress

TEXT_CHARS = 3_500
"""Brokers take 4,096 bytes (`offset.metadata.max.bytes`)."""
_SEPARATOR = " "
_BEGUN = "@"
_NUMBER = re.compile("[0-9]{1,18}")
_TEXT = re.compile(r"(?P<length>[0-9]{1,18}):(?P<distances>([0-9]{1,18}(,[0-9]{1,18})*)?)")


def topic_metadata(topic_id: str, begun: int) -> str:
    """The metadata of an offset above which nothing is known to be done."""
    return f"{topic_id}{_BEGUN}{begun}" if begun else topic_id


def metadata_of(topic_id: str, reached: HandOverProgress) -> tuple[str, HandOverProgress]:
    """The metadata, and the part of ``reached`` that it contains."""
    head = topic_metadata(topic_id, reached.begun)
    if reached.upto == reached.position:
        return head, reached
    size = len(head) + len(f"{_SEPARATOR}{reached.upto - reached.position}:")
    upto, before = reached.upto, reached.position
    distances: list[str] = []
    for count, offset in enumerate(reached.open):
        distance = f"{offset - before}"
        size += len(distance) + 1
        if size > TEXT_CHARS:
            upto = offset
            reached = replace(reached, upto=upto, open=reached.open[:count])
            break
        distances.append(distance)
        before = offset
    return f"{head}{_SEPARATOR}{upto - reached.position}:{','.join(distances)}", reached


def topic_in(metadata: str | None) -> str:
    """The id of the topic that the offset was committed for; empty: none is known."""
    return (metadata or "").partition(_SEPARATOR)[0].partition(_BEGUN)[0]


def reached_in(offset: int, metadata: str | None) -> HandOverProgress:
    """The committed progress. If the metadata cannot be read, no later command counts as done."""
    head, _, text = (metadata or "").partition(_SEPARATOR)
    number = _NUMBER.fullmatch(head.partition(_BEGUN)[2])
    unknown = HandOverProgress(position=offset, upto=offset, begun=0 if number is None else int(number[0]))
    found = _TEXT.fullmatch(text)
    if found is None:
        return unknown
    upto, at = offset + int(found["length"]), offset
    open_ = []
    for distance in filter(None, found["distances"].split(",")):
        at += int(distance)
        open_.append(at)
    return replace(unknown, upto=upto, open=tuple(open_)) if at < upto else unknown
