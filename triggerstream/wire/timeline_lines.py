"""A long timeline in a state: each entry is a line of JSON after the head."""

from __future__ import annotations

import msgspec

from triggerstream.core.errors import DecodeError
from triggerstream.core.state import TimelineEntry
from triggerstream.core.timeline_lines import Timeline, TimelineLines
from triggerstream.wire import blocks
from triggerstream.wire.stored_state import Lines, PositionLines

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TimelineEntry)


class _Timeline(TimelineLines):
    __slots__ = ()

    def decode(self, lines: bytes, count: int) -> list[TimelineEntry]:
        entries = blocks.decode_lines(_decoder, lines, "/positionLines")
        if len(entries) != count or lines.count(b"\n") != count:
            raise DecodeError(f"/positionLines: {count} entries are not as many lines")
        return entries


def pack_timeline(timeline: Timeline) -> Timeline:
    """A timeline in the form in which it is stored: a long one as lines."""
    count = len(timeline)
    if isinstance(timeline, list):
        few = count <= blocks.MOST_INLINE
        return timeline if few else _Timeline(_encoder.encode_lines(timeline), count)
    if count <= blocks.MOST_INLINE:
        return timeline.entries()
    if not timeline.added:
        return timeline
    return _Timeline(timeline.lines + _encoder.encode_lines(timeline.added), count)


def columns_of(timeline: TimelineLines) -> PositionLines:
    """The number of entries of a packed timeline, and the length of their lines."""
    return PositionLines(len(timeline), len(timeline.lines))


def read_timeline(columns: PositionLines, lines: Lines) -> TimelineLines:
    """A timeline that is stored as lines.

    Raises:
        DecodeError: fewer bytes are left than the columns say.
    """
    return _Timeline(lines.take(columns.bytes, "/positionLines"), columns.count)
