"""Sessions with all their instances: the state, and the entries of those that have left it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import SessionId
from triggerstream.core.retired import retired_numbers, with_retired
from triggerstream.core.state import SessionState
from triggerstream.engine.stored_states import SOMEWHERE, StateDecoder
from triggerstream.wire.retired import RetiredKey, decode


class RetiredSource(Protocol):
    """Reads entries of retired instances."""

    async def retired(self, keys: Collection[RetiredKey]) -> Mapping[RetiredKey, bytes]:
        """The entries of ``keys`` that there are."""


def retired_keys(session: SessionId, state: SessionState) -> list[RetiredKey]:
    """The keys of the entries that a session has according to its state."""
    return [
        RetiredKey(session, task, number)
        for task, numbers in retired_numbers(state).items()
        for number in numbers
    ]


def add_retired(
    session: SessionId,
    state: SessionState,
    entries: Mapping[RetiredKey, bytes],
    *,
    decoder: StateDecoder = SOMEWHERE,
) -> SessionState:
    """``state`` with the instances of ``entries``, for readers.

    An entry that is missing was deleted after the state was read: the instance counts as forgotten.

    Raises:
        UnreadableStateError: an entry cannot be read.
    """
    try:
        found = [decode(key.task, entries[key]) for key in retired_keys(session, state) if key in entries]
    except DecodeError as exc:
        raise decoder.unreadable(session, exc) from exc
    return with_retired(state, found)


async def whole_session(
    source: RetiredSource, session: SessionId, state: SessionState, *, decoder: StateDecoder = SOMEWHERE
) -> SessionState:
    """``state`` with all instances of the session, for readers.

    Raises:
        UnreadableStateError: an entry cannot be read.
        LogError: the source cannot be read.
    """
    keys = retired_keys(session, state)
    if not keys:
        return state
    return add_retired(session, state, await source.retired(keys), decoder=decoder)
