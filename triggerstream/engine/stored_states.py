"""Reads stored session states; the error for an unreadable one names its place and the repair."""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import SessionId
from triggerstream.core.state import SessionState
from triggerstream.wire import state


class UnreadableStateError(UsageError):
    """A stored state cannot be read. ``session`` is the session of the state."""

    def __init__(self, message: str, *, session: SessionId) -> None:
        self.session = session
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDecoder:
    """Decodes the states of one store.

    Error messages contain ``name`` (of the store) and ``address`` (for ``--at``).
    """

    name: str = "what is kept"
    address: str = advice.ANY_APP

    def read(self, session: SessionId, value: bytes) -> SessionState:
        """Decode the state of ``session``.

        Raises:
            UnreadableStateError: ``value`` is not a state, or is from a newer release.
        """
        try:
            return state.decode(value)
        except DecodeError as exc:
            raise self.unreadable(session, exc) from exc

    def read_lazily(self, session: SessionId, value: bytes) -> SessionState:
        """Decode the state of ``session``, but many open instances and events when they are looked at.

        Whatever is done with the state may raise DecodeError, which :meth:`unreadable` translates.

        Raises:
            UnreadableStateError: ``value`` is not a state, or is from a newer release.
        """
        try:
            return state.decode_lazily(value)
        except DecodeError as exc:
            raise self.unreadable(session, exc) from exc

    def unreadable(self, session: SessionId, exc: DecodeError) -> UnreadableStateError:
        """The error for a part of a session's state that cannot be read."""
        return UnreadableStateError(
            f"{self.name}: the state of session {session!r} cannot be read ({exc}); "
            f"{advice.rebuild(self.address)}",
            session=session,
        )


SOMEWHERE = StateDecoder()
"""Decoder for states whose store is unknown."""
