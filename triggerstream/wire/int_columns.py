"""Columns of whole numbers in a state, which stay JSON until all of their values are needed.

An event of a session with 900 open instances asks whether a column has a number, removes one and appends one.
To decode and encode 900 numbers takes 20 µs, and their objects 30 kB; to search them as bytes takes 0.5 µs.
Shorter columns are lists.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from triggerstream.core.blocks import LongColumn
from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Ref
from triggerstream.core.lazy import FEW

LONG = 256
"""Numbers from which on a column stays JSON. Decoding fewer takes less time than searching them: as JSON, an
outcome took 37 % more instructions with 20 open instances, and 6 % more processor time with 200."""
_MOST_DIGITS = 20
_UNUSUAL = (b" ", b"\t", b"\r", b".", b"e", b"E", b"l", b'"', b"{")
"""Bytes of which a list has one if it is written in another way than ours, or has other values than whole
numbers. To search each of them takes a quarter of the time of one pass that translates."""
_FAR = 8
"""Commas to walk along to a place in a column. For more, decoding it takes less time."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Ref])
_NOWHERE: tuple[int | None, tuple[int, int] | None] = (None, None)


class IntColumn(LongColumn):
    """Whole numbers: ``text`` as JSON, or ``values``; the one is made from the other once. Never modified."""

    __slots__ = ("_length", "_searched", "_spanned", "_text", "_values")

    def __init__(
        self, *, text: bytes | None = None, values: list[int] | None = None, length: int | None = None
    ) -> None:
        """``text`` is a list as we write it, not empty. ``length``: the number of values, if it is known."""
        self._text = text
        self._values = values
        self._length = length if values is None else len(values)
        self._searched, self._spanned = 0, _NOWHERE

    @property
    def text(self) -> bytes:
        if self._text is None:
            self._text = _encoder.encode(self._values)
        return self._text

    @property
    def values(self) -> list[int]:
        if self._values is None:
            self._values = _decoded(self.text)
        return self._values

    def __len__(self) -> int:
        if self._length is None:
            self._length = (self._text or self.text).count(b",") + 1
        return self._length

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if self._values is None and isinstance(at, int):
            span = self._span(at)
            if span is not None:
                return int(self.text[span[0] : span[1]])
        return self.values[at]

    def __iter__(self) -> Iterator[int]:
        return iter(self.values)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self._start(value) >= 0

    def place(self, value: int) -> int | None:
        if self._values is not None:
            at = bisect_left(self._values, value)
            return at if at < len(self._values) and self._values[at] == value else None
        start = self._start(value)
        return None if start < 0 else self.text.count(b",", 0, start)

    def part_before(self, value: int) -> float:
        return max(0, self._start(value)) / len(self.text)

    def extended(self, values: Sequence[int]) -> IntColumn:
        added = [*values]
        length = len(self)
        if self._text is None or not length:
            return IntColumn(values=[*self.values, *added])
        text = b"%b,%b" % (self._text[:-1], _encoder.encode(added)[1:])
        return IntColumn(text=text, length=length + len(added))

    def without(self, at: int) -> IntColumn:
        length = len(self)
        span = self._span(at) if self._text is not None and length > 1 else None
        if span is None:
            values = [*self.values]
            del values[at]
            return IntColumn(values=values)
        return self._cut(*span)

    def without_value(self, value: int) -> IntColumn:
        if self._text is None or len(self) == 1:
            at = self.place(value)
            assert at is not None  # noqa: S101 - as the caller says
            return self.without(at)
        start = self._start(value)
        return self._cut(start, start + len(b"%d" % value))

    def _cut(self, start: int, end: int) -> IntColumn:
        """The column without the value between two places in the text."""
        text, length = self._text or self.text, len(self)
        # With the comma after it, or before it if it is the last.
        is_last = end == len(text) - 1
        before, after = (text[: start - 1], text[end:]) if is_last else (text[:start], text[end + 1 :])
        return IntColumn(text=before + after, length=length - 1)

    def _start(self, value: int) -> int:
        """The index in the text at which a value begins; -1 if it is not there."""
        text = self._text or self.text
        end = b",%d]" % value  # mostly it is the latest
        if text.endswith(end):
            return len(text) - len(end) + 1
        found = text.find(b",%d," % value)
        if found >= 0:
            return found + 1
        return 1 if text.startswith((b"[%d," % value, b"[%d]" % value)) else -1

    def _span(self, at: int) -> tuple[int, int] | None:
        """Begin and end in the text of the value at a place; None if decoding it takes less time."""
        # An outcome asks three times for that of its instance.
        if self._spanned[0] != at:
            self._searched += 1
            self._spanned = at, self._search(at) if self._searched <= FEW else None
        return self._spanned[1]

    def _search(self, at: int) -> tuple[int, int] | None:
        text = self._text or self.text
        if at == -1:
            return max(1, text.rfind(b",") + 1), len(text) - 1
        begin = 1
        if at:
            length = len(self)
            if not 0 < at < length:
                return None
            comma = len(text) * at // length
            missing = at - text.count(b",", 0, comma)
            if missing:
                # Digits are not spread evenly, but those nearby are as many.
                comma = min(max(comma + missing * _width(text, comma), 0), len(text))
                missing = at - text.count(b",", 0, comma)
            if abs(missing) > _FAR:
                return None
            if missing > 0:
                comma -= 1
                for _ in range(missing):
                    comma = text.find(b",", comma + 1)
            else:
                for _ in range(1 - missing):
                    comma = text.rfind(b",", 0, comma)
            begin = comma + 1
        end = text.find(b",", begin)
        return begin, end if end >= 0 else len(text) - 1


def _width(text: bytes, near: int) -> int:
    """The length of a value and its comma near a place."""
    end = text.find(b",", near)
    return end - text.rfind(b",", 0, end) if end > 0 else 1


def is_long(raw: msgspec.Raw) -> bool:
    """True if a column should stay JSON."""
    text = bytes(raw)
    return len(text) > _MOST_DIGITS * LONG or text.count(b",") >= LONG - 1


def read_column(raw: msgspec.Raw) -> IntColumn:
    """A column of a state, for now as JSON if it is as we write it.

    Raises:
        DecodeError: it is not, and is no list of whole numbers.
    """
    text = bytes(raw)
    if not text.startswith(b"[") or text.find(b"[", 1) >= 0:
        raise DecodeError("must be a list of whole numbers")
    if max(map(text.find, _UNUSUAL)) >= 0:
        return IntColumn(values=_decoded(text))
    return IntColumn(values=[]) if text == b"[]" else IntColumn(text=text)


def _decoded(text: bytes) -> list[int]:
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise DecodeError(f"a column of the state: {exc}") from exc
