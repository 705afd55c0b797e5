"""The lines of a block while it is changed: as few of them as possible are split from the others."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from triggerstream.core.lazy import Block, Piece, split_lines, views_of, whole_piece

_MOST_PIECES = 64
"""Pieces of a block's lines before they are joined: with each event, a state in memory may add one."""

MANY = 8
"""Number of keys to look up from which on making a set first takes less time than searching the list."""

K = TypeVar("K")


class ChangedLines(Generic[K]):
    """The lines of a block while it is changed: ``pieces``, or ``lines`` once they must be split."""

    def __init__(self, block: Block[K, Any]) -> None:
        self._block = block
        self._changes = 0
        self.length = block.length
        self.pieces = [*block.pieces] if block.length else []
        self.lines: list[bytes] | None = None

    def remove(self, at: int, key: K) -> None:
        """Remove the line of a key, which is at a place."""
        found = self._locate(at, key)
        if found is None:
            del self.split()[at]
        else:
            cut_line(self.pieces, found)
        self.length -= 1

    def insert(self, at: int, line: bytes, before: K | None) -> None:
        """Insert a line at a place, ``before`` that of a key; None: at the end."""
        is_last = self.lines is None and before is None
        found = None if before is None else self._locate(at, before)
        if is_last:
            self.pieces.append(whole_piece(line + b"\n"))
        elif found is None:
            self.split().insert(at, line)
        else:
            number, start, _ = found
            text, first, last = self.pieces[number]
            parts = ((text, first, start), whole_piece(line + b"\n"), (text, start, last))
            self.pieces[number : number + 1] = filter(_has_lines, parts)
        self.pieces = joined_if_many(self.pieces)
        self.length += 1

    def extend(self, count: int, lines: bytes) -> None:
        """Append the lines of several keys, each with a newline at its end."""
        if self.lines is None:
            self.pieces.append(whole_piece(lines))
            self.pieces = joined_if_many(self.pieces)
        else:
            self.lines += split_lines((lines,), count)
        self.length += count

    def _locate(self, at: int, key: K) -> tuple[int, int, int] | None:
        """The place in the pieces of the line of a key; None if the lines are, or should be, split."""
        self._changes += 1
        if self.lines is not None or self._changes > MANY:
            return None
        if self._changes == 1 and len(self.pieces) == len(self._block.pieces):
            # Those of the block, which has mostly decoded it.
            return self._block.locate(key, at)
        return self._block.find_line(self.pieces, key, at)

    def split(self) -> list[bytes]:
        """The lines, one by one."""
        if self.lines is None:
            views = views_of(self.pieces)
            self.lines = split_lines(views, self.length) if views else []
            self.pieces = []
        return self.lines


def cut_line(pieces: list[Piece], found: tuple[int, int, int]) -> None:
    """Remove a line from ``pieces``: the number of its piece, and where it begins and ends there."""
    number, start, end = found
    text, first, last = pieces[number]
    parts = [(text, first, start)] if first < start else []
    if end < last:
        parts.append((text, end, last))
    pieces[number : number + 1] = parts


def joined_if_many(pieces: list[Piece]) -> list[Piece]:
    """The same lines, joined if they are in many pieces."""
    if len(pieces) <= _MOST_PIECES:
        return pieces
    return [whole_piece(b"".join(views_of(pieces)))]


def _has_lines(piece: Piece) -> bool:
    return piece[1] < piece[2]
