"""Bounds in bytes while an event is folded (docs/semantics.md, section 10)."""

from __future__ import annotations

from triggerstream.core.commands import Command, Decision
from triggerstream.core.results import LeftOut, TooLong
from triggerstream.core.retired import Retired
from triggerstream.core.sizes import Sizes
from triggerstream.core.state import (
    SessionState,
)
from triggerstream.core.tasks import Bounds

_MEASURED = 16
"""Most measurements of the state in one event, which can fire 1,000 timeouts: each takes 10 ms for 4 MiB."""


class BoundError(Exception):
    """The trigger being folded breaks a bound (``in_bytes``: one in bytes); caught in ``step``."""

    def __init__(self, reason: str, *, in_bytes: bool = False) -> None:
        super().__init__(reason)
        self.in_bytes = in_bytes


class BoundEffects:
    """Effects of bounds: a trigger left out, prevented effects, texts for the timeline (R10.6, R10.7).

    ``left_out_bytes`` is the size of the data of left-out timeouts. ``forgotten_ids`` counts identities of
    events that are no longer compared (R4.1).
    """

    __slots__ = ("forgotten_ids", "left_out", "left_out_bytes", "prevented", "remarks")

    def __init__(self) -> None:
        self.left_out: tuple[LeftOut, ...] = ()
        self.left_out_bytes = 0
        self.prevented = 0
        self.forgotten_ids = 0
        self.remarks: list[str] = []

    def copy(self) -> BoundEffects:
        """A copy that does not change with this one."""
        copied = BoundEffects()
        copied.left_out, copied.prevented = self.left_out, self.prevented
        copied.left_out_bytes = self.left_out_bytes
        copied.forgotten_ids, copied.remarks = self.forgotten_ids, self.remarks.copy()
        return copied


class Meter:
    """Checks the bounds in bytes while an event is folded (R10.4, R10.6).

    While a trigger is ``firing``, breaking a bound raises ``BoundError``; all other code respects the
    bounds.
    """

    __slots__ = ("_bytes", "_latest", "_measured", "_retired", "_stale", "decided", "firing", "sizes")

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.firing = False
        self.decided = 0
        """Bytes of all commands that the event has decided."""
        self._bytes: int | None = None
        self._stale = False
        self._measured = 0
        self._retired = 0
        """Bytes of the entries of all instances that have left the state by this event."""
        self._latest: tuple[Decision, int] | None = None
        """The command that was measured last, which is mostly checked and then counted, and its size."""

    def forget(self) -> None:
        """Discard the known size, so that the state is measured again."""
        self._bytes = None

    def shrunk(self) -> None:
        """Note that the state may be smaller than its known size."""
        self._stale = True

    def takes(self, state: SessionState, grown: int, limit: int) -> bool:
        """True if ``state`` has room for the bytes just added; if not, the caller must remove them.

        Measures again only if the known size is not enough: up to 1,000 instances may be decided at once.
        """
        if self._bytes is None or (self._stale and self._bytes + grown > limit):
            self._bytes = self.sizes.state(state)
            self._stale = False
        else:
            self._bytes += grown
        if grown <= 0 or self._bytes <= limit:
            return True
        self._bytes -= grown
        return False

    def fits(self, state: SessionState, grown: int, limit: int) -> bool:
        """True if ``state``, which a trigger made larger by at most ``grown``, is within ``limit`` (R10.10).

        It is measured only if the sum of known sizes is beyond the limit, at most ``_MEASURED`` times for an
        event.
        """
        if self._bytes is not None:
            self._bytes += grown
        if self._bytes is None or (self._bytes > limit and self._measured < _MEASURED):
            self._bytes = self.sizes.state(state)
            self._measured += 1
            self._stale = False
        return self._bytes <= limit

    def too_long(self, command: Decision, bounds: Bounds) -> TooLong | None:
        """Why ``command``, the last decided one, is too long; None if it can be sent."""
        size = self._size(command)
        if size > bounds.command_bytes:
            limit = f"at most {bounds.command_bytes:,} ($bounds.commandBytes)"
            return TooLong(
                reason=f"a command would have {size:,} bytes: {limit}",
                error="its command would be too long ($bounds.commandBytes)",
            )
        if self.decided + size > bounds.decided_bytes:
            limit = f"at most {bounds.decided_bytes:,} ($bounds.decidedBytes)"
            return TooLong(
                reason=f"one event would decide {self.decided + size:,} bytes of commands: {limit}",
                error="one event would decide too many bytes of commands ($bounds.decidedBytes)",
            )
        return None

    def count(self, command: Decision) -> None:
        """Add the bytes of a command that is sent."""
        self.decided += self._size(command)

    def has_room_for_entry(self, retired: Retired, bounds: Bounds) -> bool:
        """Count the entry of an instance that leaves the state; False if it does not fit (R10.11)."""
        size = self.sizes.retired(retired)
        if self._retired + size > bounds.resolved_bytes:
            return False
        self._retired += size
        return True

    def _size(self, command: Decision) -> int:
        if not isinstance(command, Command):
            return 0
        if self._latest is None or self._latest[0] is not command:
            self._latest = command, self.sizes.command(command)
        return self._latest[1]
