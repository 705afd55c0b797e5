"""The lines of a block while it is changed: as few of them as possible are split from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from triggerstream.core.lazy import Block, Piece, split_lines, whole_piece

_MOST_PIECES = 64
"""Pieces of a block's lines before they are joined: with each event, a state in memory may add one."""

MANY = 8
"""Number of keys to look up from which on making a set first takes less time than searching the list."""

K = TypeVar("K")


class ChangedLines(Generic[K]):
    """The keys and lines of a block while it is changed: ``pieces``, or ``lines`` once they must be split."""

    def __init__(self, block: Block[K, Any]) -> None:
        self._block = block
        self._changes = 0
        self.keys = [*block.keys]
        self.pieces = [*block.pieces] if block.keys else []
        self.lines: list[bytes] | None = None

    def remove(self, at: int) -> None:
        """Remove the line at a place."""
        found = self._locate(at)
        if found is None:
            del self.split()[at]
        else:
            number, start, end = found
            text, first, last = self.pieces[number]
            parts = (Piece(text, first, start), Piece(text, end, last))
            self.pieces[number : number + 1] = filter(_has_lines, parts)
        del self.keys[at]

    def insert(self, at: int, key: K, line: bytes) -> None:
        """Insert a line at a place."""
        is_last = self.lines is None and at == len(self.keys)
        found = None if is_last else self._locate(at)
        if is_last:
            self.pieces.append(whole_piece(line + b"\n"))
        elif found is None:
            self.split().insert(at, line)
        else:
            number, start, _ = found
            text, first, last = self.pieces[number]
            parts = (Piece(text, first, start), whole_piece(line + b"\n"), Piece(text, start, last))
            self.pieces[number : number + 1] = filter(_has_lines, parts)
        self._join_if_many()
        self.keys.insert(at, key)

    def extend(self, keys: Sequence[K], lines: bytes) -> None:
        """Append the lines of several keys, each with a newline at its end."""
        if self.lines is None:
            self.pieces.append(whole_piece(lines))
            self._join_if_many()
        else:
            self.lines += split_lines((lines,), len(keys))
        self.keys += keys

    def _join_if_many(self) -> None:
        if len(self.pieces) > _MOST_PIECES:
            self.pieces = [whole_piece(b"".join([piece.view for piece in self.pieces]))]

    def _locate(self, at: int) -> tuple[int, int, int] | None:
        """The place in the pieces of the line at a place; None if the lines are, or should be, split."""
        self._changes += 1
        if self.lines is not None or self._changes > MANY:
            return None
        if self._changes == 1 and len(self.pieces) == len(self._block.pieces):
            # Those of the block, which has mostly decoded it.
            return self._block.locate(self.keys[at], at)
        return self._block.find_line(self.pieces, self.keys[at], at)

    def split(self) -> list[bytes]:
        """The lines, one by one."""
        if self.lines is None:
            views = [piece.view for piece in self.pieces]
            self.lines = split_lines(views, len(self.keys)) if views else []
            self.pieces = []
        return self.lines


def _has_lines(piece: Piece) -> bool:
    return piece.start < piece.end
