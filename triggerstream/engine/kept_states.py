"""Where states are kept, so that one that cannot be read is named with what puts it right."""

from __future__ import annotations

from dataclasses import dataclass

from triggerstream.core import advice
from triggerstream.core.errors import DecodeError, UsageError
from triggerstream.core.ids import SessionId
from triggerstream.core.state import SessionState
from triggerstream.wire import state


class UnreadableStateError(UsageError):
    """A state that is kept and cannot be read. ``session`` is the one whose state it is."""

    def __init__(self, message: str, *, session: SessionId) -> None:
        self.session = session
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """What keeps states: ``name`` says it in messages, ``address`` is what ``--at`` calls the app."""

    name: str = "what is kept"
    address: str = advice.ANY_APP

    def read(self, session: SessionId, value: bytes) -> SessionState:
        """The state of ``session``.

        Raises:
            UnreadableStateError: ``value`` is none, or of a newer release.
        """
        try:
            return state.decode(value)
        except DecodeError as exc:
            raise UnreadableStateError(
                f"{self.name}: the state of session {session!r} cannot be read ({exc}); "
                f"{advice.rebuild(self.address)}",
                session=session,
            ) from exc


SOMEWHERE = Keeper()
"""For states of which it is not known where they are kept."""
