"""How long a session's parts are on the wire, for the bounds in bytes.

A state's bound counts what the session still needs. Resolved instances, and the events that only they
captured, have a bound of their own, so that a long history never keeps a session from going on.
"""

from __future__ import annotations

import json
from typing import Protocol

from triggerstream.core.commands import Command
from triggerstream.core.ids import TriggerName
from triggerstream.core.state import Arrival, Instance, SessionState

TEXT_BYTES = 4096
"""An error, a reason or a note is cut to this, as JSON: up to 1,000 failed instances have one each."""
SHORT_TEXT = TEXT_BYTES // 6
"""Characters that need no look: one takes six bytes of JSON at most, as ``\\u0001``."""
_ELLIPSIS = "…"


class Sizes(Protocol):
    """Measures in bytes of encoded JSON."""

    def command(self, command: Command) -> int:
        """A command as a record's value."""

    def instance(self, instance: Instance) -> int:
        """An instance, without the events that it captured."""

    def arrival(self, arrival: Arrival) -> int:
        """An event as a session keeps it."""

    def state(self, state: SessionState) -> int:
        """A state without its resolved instances, and without what only they captured."""


def cut_text(text: str) -> str:
    """``text``, cut where it is longer than ``TEXT_BYTES`` as JSON; an ellipsis says so."""
    if len(text) <= SHORT_TEXT or _json_bytes(text) <= TEXT_BYTES:
        return text
    left = TEXT_BYTES - _json_bytes(_ELLIPSIS)
    for place, character in enumerate(text):
        left -= _json_bytes(character)
        if left < 0:
            return text[:place] + _ELLIPSIS
    return text


def _json_bytes(text: str) -> int:
    """Without the quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")) - 2


def held_by_resolved_alone(state: SessionState) -> dict[tuple[TriggerName, int], int]:
    """The held events that resolved instances captured and no open one did: how many captured each."""
    if not state.held:
        return {}
    open_ones = {
        event
        for record in state.tasks.values()
        for instance in record.open.values()
        for event in instance.captured.items()
    }
    counts: dict[tuple[TriggerName, int], int] = {}
    for record in state.tasks.values():
        for instance in record.resolved.values():
            for event in instance.captured.items():
                name, offset = event
                if event not in open_ones and offset in state.held.get(name, ()):
                    counts[event] = counts.get(event, 0) + 1
    return counts


def resolved_bytes(state: SessionState, sizes: Sizes) -> int:
    """What the resolved instances take, with the events that only they captured."""
    instances = sum(
        sizes.instance(instance) for record in state.tasks.values() for instance in record.resolved.values()
    )
    return instances + sum(
        sizes.arrival(state.held[name][offset]) for name, offset in held_by_resolved_alone(state)
    )
