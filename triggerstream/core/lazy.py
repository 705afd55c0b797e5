"""Lazy decoding: values of a state that stay encoded until they are looked at.

A session may have hundreds of open instances, of which an event looks at few. So a state that was read from a
store holds them in blocks: per block the keys, and a line of JSON for each value. ``wire`` makes the blocks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from typing import Generic, Self, TypeAlias, TypeVar

from triggerstream.core.errors import DecodeError

K = TypeVar("K")
V = TypeVar("V")
_MARGIN = 1 / 16
"""A search begins so far before the expected place of a line, as a part of the piece's length."""
FEW = 4
"""Changes up to which each is looked up in the list of a block's keys: making an index takes longer."""


COPIED = 8192
"""Bytes from which on lines are written from a view: to make one takes longer than to copy fewer."""


Piece: TypeAlias = tuple[bytes, int, int]
"""Lines, each with a newline at its end: a text, and where they start and end in it.

Pieces of one state share its bytes. With copies, an event of a session with 900 open instances allocated
three times as much as it wrote: 200 KB more, of which the allocator gave pages back and took them again.
"""
Buffer: TypeAlias = bytes | memoryview


def whole_piece(lines: bytes) -> Piece:
    """All of ``lines``, each with a newline at its end."""
    return lines, 0, len(lines)


def views_of(pieces: Iterable[Piece]) -> list[Buffer]:
    """The lines of pieces, without a copy if they are long."""
    return [
        text[start:end] if end - start < COPIED else memoryview(text)[start:end]
        for text, start, end in pieces
    ]


class Block(Generic[K, V]):
    """Encoded values by key, in order. It is never modified: states share it.

    A value is decoded once, and found again by the next state that has the block. ``length`` is the number of
    keys.
    """

    __slots__ = ("_decoded", "_index", "_keys", "_lines", "_located", "_looked_up", "_pieces", "length")

    def __init__(
        self, keys: list[K], *, pieces: tuple[Piece, ...] = (), lines: list[bytes] | None = None
    ) -> None:
        """``pieces`` together have a line for each key, with a newline at its end; or ``lines`` are given."""
        self._keys = keys
        self.length = len(keys)
        self._pieces = pieces
        self._lines = lines
        self._index: dict[K, int] | None = None
        self._looked_up = 0
        self._decoded: dict[K, V] = {}
        self._located: tuple[K, tuple[int, int, int] | None] | None = None

    @abstractmethod
    def decode(self, key: K, line: bytes, at: int) -> V:
        """Decode the value of ``key``, whose place is ``at``.

        Raises:
            DecodeError: its line is damaged.
        """

    def begin(self, _: K, /) -> bytes | None:
        """The beginning of the line of a key, which no other line has; None if it has none."""
        return None

    @property
    def keys(self) -> list[K]:
        """The keys, in the order of the lines."""
        return self._keys

    @property
    def lines(self) -> list[bytes]:
        """The encoded values, without newlines.

        Raises:
            DecodeError: there are more lines than keys, or fewer.
        """
        if self._lines is None:
            self._lines = split_lines(self.views, self.length)
        return self._lines

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The encoded values as lines, in pieces."""
        if not self._pieces:
            self._pieces = (whole_piece(b"\n".join([*(self._lines or ()), b""])),)
        return self._pieces

    @property
    def views(self) -> Sequence[Buffer]:
        """The encoded values as lines, in pieces, without a copy."""
        return views_of(self.pieces)

    @property
    def index(self) -> dict[K, int]:
        """The places of the keys."""
        if self._index is None:
            self._index = dict(zip(self.keys, range(len(self.keys)), strict=True))
        return self._index

    def __contains__(self, key: object) -> bool:
        # To look one key up, an index takes longer than the list.
        return key in (self.keys if self._index is None else self._index)

    def get(self, key: K) -> V | None:
        """The value of ``key``, decoded; None if it is in no line of this block.

        Raises:
            DecodeError: see ``decode``.
        """
        value = self._decoded.get(key)
        if value is None:
            at = self.place(key)
            if at is None:
                return None
            value = self._decoded[key] = self.decode(key, self._line(key, at), at)
        return value

    def place(self, key: K) -> int | None:
        """The place of ``key``; None if it has none."""
        self._looked_up += 1
        if self._index is None and self._looked_up <= FEW:
            return self.keys.index(key) if key in self.keys else None
        return self.index.get(key)

    def find_line(self, pieces: Sequence[Piece], key: K, at: int) -> tuple[int, int, int] | None:
        """The place of a key's line in ``pieces``, see :func:`locate`; None if its bytes do not tell it.

        ``at`` is the number of lines before it.
        """
        begin = self.begin(key)
        return None if begin is None else locate(pieces, begin, at / max(1, self.length))

    def locate(self, key: K, at: int) -> tuple[int, int, int] | None:
        """The place of a key's line, see ``find_line``.

        A line that was decoded is mostly changed next, and not searched again.
        """
        if self._located is None or self._located[0] != key:
            self._located = key, self.find_line(self._pieces, key, at)
        return self._located[1]

    def _line(self, key: K, at: int) -> bytes:
        if self._lines is None and self._looked_up <= FEW:
            found = self.locate(key, at)
            if found is not None:
                number, start, end = found
                return self._pieces[number][0][start : end - 1]
        return self.lines[at]


def locate(pieces: Sequence[Piece], begin: bytes, near: float = 0) -> tuple[int, int, int] | None:
    """The line that begins so: the number of its piece, and there its start, and the end behind its newline.

    It takes a tenth of the time of splitting a long piece into lines. ``near``: the part of all lines that
    comes before it, from 0 to 1, for :func:`find_near`.
    """
    for number, piece in enumerate(pieces):
        text, start, end = piece
        if not text.startswith(begin, start, end):
            start = find_near(piece, b"\n" + begin, near if len(pieces) == 1 else 0) + 1
            if not start:
                continue
        return number, start, text.find(b"\n", start, end) + 1
    return None


def find_near(piece: Piece, wanted: bytes, near: float) -> int:
    """Index in the text of ``wanted``, which is at most once in ``piece``; -1 if absent.

    ``near``: the expected place as a part of the piece's length, from 0 to 1. The search begins a little
    before it, and at the start of the piece only if that fails: a search of 200 KB takes 25 µs.
    """
    text, begin, end = piece
    start = begin + max(0, int((near - _MARGIN) * (end - begin)))
    found = text.find(wanted, start, end)
    return text.find(wanted, begin, min(start + len(wanted), end)) if found < 0 and start > begin else found


def split_lines(pieces: Sequence[Buffer], count: int) -> list[bytes]:
    """The ``count`` lines that are in ``pieces``, without newlines.

    Raises:
        DecodeError: there are more, or fewer.
    """
    lines = b"".join(pieces).split(b"\n")
    if len(lines) != count + 1 or lines.pop():
        raise DecodeError(f"{count} values of the state are not as many lines")
    return lines


class LazyDict(MutableMapping[K, V]):
    """A dict whose values are decoded when they are looked at; like a dict in all else.

    ``blocks`` have the values as they were read, ``changed`` those that replace them or are new, ``gone`` the
    keys that were deleted. A copy shares the blocks, so it costs as much as what was changed.

    Looking at a value raises ``DecodeError`` if its line is damaged.
    """

    __slots__ = ("_count", "blocks", "changed", "gone")

    def __init__(self, blocks: tuple[Block[K, V], ...], changed: dict[K, V] | None = None) -> None:
        """``changed`` has keys that are in none of the blocks; the blocks have none in common."""
        self.blocks = blocks
        self.changed: dict[K, V] = {} if changed is None else changed
        self.gone: set[K] = set()
        self._count = len(self.changed)
        for block in blocks:
            self._count += block.length

    def copy(self) -> Self:
        """A copy with the same values."""
        copied = object.__new__(type(self))
        copied.blocks = self.blocks
        copied.changed = self.changed.copy()
        copied.gone = self.gone.copy()
        copied._count = self._count
        return copied

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: object) -> bool:
        if key in self.changed:
            return True
        if key not in self.gone:
            for block in self.blocks:  # `any` takes twice as long
                if key in block:
                    return True
        return False

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]  # no other default
        """The value of ``key``, or ``default``. That of the base class takes longer: it catches an error."""
        value = self.changed.get(key)
        if value is None and key not in self.gone:
            for block in self.blocks:
                value = block.get(key)
                if value is not None:
                    break
        return default if value is None else value

    def __getitem__(self, key: K) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._count += key not in self
        self.changed[key] = value

    def __delitem__(self, key: K) -> None:
        if key not in self:
            raise KeyError(key)
        self.changed.pop(key, None)
        if any(key in one for one in self.blocks):
            self.gone.add(key)
        self._count -= 1

    def __iter__(self) -> Iterator[K]:
        """The keys in the order of a dict: by block, then the new ones."""
        gone = self.gone
        for block in self.blocks:
            for key in block.keys:
                if key in self.changed or key not in gone:
                    yield key
        for key in self.changed:
            if not any(key in one.index for one in self.blocks):
                yield key

    def __repr__(self) -> str:
        return repr(dict(self))

    def keys_beside(self, keys: set[K]) -> list[K]:
        """The keys of this dict that ``keys`` does not have."""
        if self.changed or self.gone:
            return [key for key in self if key not in keys]
        # In Python, a loop over a thousand keys takes ten times as long.
        return [key for block in self.blocks for key in set(block.keys).difference(keys)]

    def is_within(self, keys: set[K]) -> bool:
        """True if ``keys`` has all keys of this dict."""
        if self.changed or self.gone:
            return keys.issuperset(self)
        return all(keys.issuperset(block.keys) for block in self.blocks)

    def is_intact(self, block: Block[K, V]) -> bool:
        """True if each value of one of the blocks is as it was read."""
        if len(self.changed) + len(self.gone) > FEW:
            index = block.index.keys()
            return index.isdisjoint(self.changed) and index.isdisjoint(self.gone)
        return not any(key in block for key in self.changed) and not any(key in block for key in self.gone)

    def changed_in(self, block: Block[K, V]) -> list[tuple[int, K]]:
        """The places and keys in one of the blocks whose values were changed or deleted, ascending."""
        keys = self.changed.keys() | self.gone
        place = block.place if len(keys) <= FEW else block.index.get
        found = [(at, key) for key in keys if (at := place(key)) is not None]
        if len(found) > 1:
            found.sort()
        return found

    def left_in(self, block: Block[K, V]) -> list[int]:
        """The places in one of the blocks whose values are as they were read."""
        changed, gone = self.changed, self.gone
        return [at for at, key in enumerate(block.keys) if key not in changed and key not in gone]
