"""The bridge's progress in a partition, as the metadata of its group's offset.

The offset is below the first command that is not done. While commands wait for a refused destination, later
ones are handed over; the metadata says which, so that they are not handed over again after a restart::

    TOPIC_ID                nothing above the offset is known to be done
    TOPIC_ID 120:0,3,1      below offset + 120 all is done but for +0, +3 and +4

Each number behind the colon is the distance from the one before.
"""

from __future__ import annotations

import re

from triggerstream.engine.handover.shared_log import HandOverProgress

TEXT_CHARS = 3_500
"""Brokers take 4,096 bytes (`offset.metadata.max.bytes`)."""
_SEPARATOR = " "
_TEXT = re.compile(r"(?P<length>[0-9]{1,18}):(?P<distances>([0-9]{1,18}(,[0-9]{1,18})*)?)")


def metadata_of(topic_id: str, reached: HandOverProgress) -> tuple[str, HandOverProgress]:
    """The metadata, and the part of ``reached`` that it contains."""
    if reached.upto == reached.position:
        return topic_id, reached
    size = len(topic_id) + len(f"{_SEPARATOR}{reached.upto - reached.position}:")
    upto, before = reached.upto, reached.position
    distances: list[str] = []
    for count, offset in enumerate(reached.open):
        distance = f"{offset - before}"
        size += len(distance) + 1
        if size > TEXT_CHARS:
            upto = offset
            reached = HandOverProgress(position=reached.position, upto=upto, open=reached.open[:count])
            break
        distances.append(distance)
        before = offset
    return f"{topic_id}{_SEPARATOR}{upto - reached.position}:{','.join(distances)}", reached


def topic_in(metadata: str | None) -> str:
    """The id of the topic that the offset was committed for; empty: none is known."""
    return (metadata or "").partition(_SEPARATOR)[0]


def reached_in(offset: int, metadata: str | None) -> HandOverProgress:
    """The committed progress. If the metadata cannot be read, no later command counts as done."""
    unknown = HandOverProgress(position=offset, upto=offset)
    _, _, text = (metadata or "").partition(_SEPARATOR)
    found = _TEXT.fullmatch(text)
    if found is None:
        return unknown
    upto, at = offset + int(found["length"]), offset
    open_ = []
    for distance in filter(None, found["distances"].split(",")):
        at += int(distance)
        open_.append(at)
    return HandOverProgress(position=offset, upto=upto, open=tuple(open_)) if at < upto else unknown
