"""The stored form of a state: its head, as msgspec reads and writes it, and the lines after it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from triggerstream.core.errors import DecodeError
from triggerstream.core.held import Ref, Remembered
from triggerstream.core.ids import LeafName, TaskName, TriggerName
from triggerstream.core.lazy import Piece
from triggerstream.core.state import Arrival, Count, Instance, Sent, Status, StoredInstant, TimelineEntry

STATE_VERSION = 3
"""The version that this release writes, and the latest that it reads."""

Offset: TypeAlias = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
"""The offset of a record, or -1: before the first."""


class SeenColumns(Struct):
    """The latest events of ``count`` triggers, each a line. ``bytes``: the length of these lines.

    Before them come three lines, of which this has the lengths: a list of the triggers, one of the events'
    refs, and a text with 16 hexadecimal digits for each: the only digest of the trigger, or zeros; it is
    empty if all are zeros.
    """

    count: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    triggers: Count
    offsets: Count
    digests: Count
    bytes: Count


class PositionLines(Struct):
    """The timeline, if it is long: ``count`` entries, each a line. ``bytes``: the length of these lines."""

    count: Count
    bytes: Count


class InstanceColumns(Struct, omit_defaults=True):
    """Open instances that have one shape, by number, ascending, each a line.

    ``captured`` and ``noted`` have a column of refs for each leaf that holds an event.
    """

    status: Status
    numbers: list[Count]
    bytes: Count
    captured: dict[LeafName, list[Ref]] = {}
    noted: dict[LeafName, list[Ref]] = {}
    sent: Sent | None = None


class RawColumns(InstanceColumns, omit_defaults=True):
    """The same, with columns that are still JSON."""

    numbers: Raw  # type: ignore[assignment]  # read in its place, and written
    captured: dict[LeafName, Raw] = {}  # type: ignore[assignment]
    noted: dict[LeafName, Raw] = {}  # type: ignore[assignment]


class StoredRecord(Struct, omit_defaults=True, rename={"open_lines": "openLines"}):
    """A task's instances, each group by number. ``open_lines``: those of the open ones that are lines.

    ``retired`` has the numbers of those that have entries of their own, as ranges. ``sent``: that of the
    decided ones in ``open`` and ``resolved`` that have none.
    """

    next: Count
    open: list[Instance] = []
    resolved: list[Instance] = []
    removed: bool = False
    open_lines: list[InstanceColumns] = []
    retired: tuple[tuple[Count, Count], ...] = ()
    undecided: bool = False
    sent: Sent | None = None


class StoredState(
    Struct,
    omit_defaults=True,
    kw_only=True,
    rename={
        "clock_us": "clock",
        "due_us": "due",
        "seen_lines": "seenLines",
        "kept_lines": "keptLines",
        "position_lines": "positionLines",
    },
):
    """The head of a stored state. Fields without a value are left out: an erased session is three numbers.

    The lines that follow it are those of ``seen_lines``, of ``kept_lines``, of the tasks, and of the
    timeline, in this order.
    """

    version: Annotated[int, Meta(ge=1)]
    generation: Count
    offset: Offset
    clock_us: StoredInstant = 0
    config: Offset | UnsetType = UNSET
    due_us: StoredInstant | None = None
    closed: bool = False
    unjudged: bool = False
    refused: Count = 0
    seen: dict[TriggerName, Arrival] = {}
    tasks: dict[TaskName, StoredRecord] = {}
    kept: dict[TriggerName, list[Arrival]] = {}
    remembered: dict[TaskName, Remembered] = {}
    digests: dict[TriggerName, bytes] = {}
    timeouts: Ref = 0
    holds: Count = 0
    positions: list[TimelineEntry] = []
    seen_lines: SeenColumns | None = None
    kept_lines: dict[TriggerName, Count] = {}
    """The length of the lines of a trigger's earlier events, if they are many: all that instances and leaves
    hold, in log order."""
    position_lines: PositionLines | None = None
    """In place of ``positions`` if the timeline is long."""


class _LongRecord(StoredRecord, omit_defaults=True):
    open_lines: list[RawColumns] = []  # type: ignore[assignment]


class LongState(StoredState, omit_defaults=True, kw_only=True):
    """A stored state whose columns of open instances are still JSON. It is only read."""

    tasks: dict[TaskName, _LongRecord] = {}  # type: ignore[assignment]


class Lines:
    """The lines after the head of a state, of which each block takes its part, in order."""

    __slots__ = ("_at", "_value")

    def __init__(self, value: bytes, begin: int) -> None:
        self._value = value
        self._at = begin

    def take(self, length: int, place: str) -> bytes:
        """The next lines, which have ``length`` bytes.

        Raises:
            DecodeError: so many are not there.
        """
        begin = self._at
        self._at = end = begin + length
        lines = self._value[begin:end]
        if len(lines) != length or not lines.endswith(b"\n"):
            raise DecodeError(f"{place}: lines of {length} bytes are not there")
        return lines

    def take_piece(self, length: int, place: str) -> Piece:
        """As :meth:`take`, without a copy of the lines.

        Raises:
            DecodeError: so many bytes of lines are not there.
        """
        begin = self._at
        self._at = end = begin + length
        if end > len(self._value) or not self._value.endswith(b"\n", begin, end):
            raise DecodeError(f"{place}: lines of {length} bytes are not there")
        return self._value, begin, end

    def end(self) -> None:
        """Check that no line is left.

        Raises:
            DecodeError: there is one.
        """
        if self._at != len(self._value):
            raise DecodeError("more lines than its blocks have")
