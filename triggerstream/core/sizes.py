"""Encoded sizes of a session's parts, for the bounds in bytes (docs/semantics.md, R10.2).

A state's bound counts only data that the session still needs. Resolved instances, and the events that only
they captured, have a separate bound, so that a long history never blocks a session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import compress
from operator import is_not
from typing import Protocol

from triggerstream.core.commands import Command
from triggerstream.core.held import Ref, Remembered
from triggerstream.core.ids import TaskName, TriggerName
from triggerstream.core.retired import Retired
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import Arrival, Instance, Instances, SessionState

TEXT_BYTES = 4096
"""Maximum size of an error, a reason or a note as JSON: up to 1,000 failed instances have one each."""
SHORT_TEXT = TEXT_BYTES // 6
"""Characters that always fit: one takes at most six bytes of JSON, as in ``\\u0001``."""
_ELLIPSIS = "…"


class Sizes(Protocol):
    """Measures parts of a session in bytes of encoded JSON."""

    def text(self, text: str) -> int:
        """Size of a text."""

    def command(self, command: Command) -> int:
        """Size of a command as a record's value."""

    def instance(self, instance: Instance) -> int:
        """Size of an instance without the events that it captured."""

    def arrival(self, arrival: Arrival) -> int:
        """Size of an event as a session stores it."""

    def remembered(self, remembered: Remembered) -> int:
        """Size of what the leaves of a task remember."""

    def retired(self, retired: Retired) -> int:
        """Size of the entry of an instance that leaves the state."""

    def state(self, state: SessionState) -> int:
        """Size of a state without its resolved instances and the events that only they captured."""


def cut_text(text: str) -> str:
    """``text``, cut to ``TEXT_BYTES`` as JSON, with an ellipsis if it was cut (R10.8)."""
    if len(text) <= SHORT_TEXT or _json_bytes(text) <= TEXT_BYTES:
        return text
    left = TEXT_BYTES - _json_bytes(_ELLIPSIS)
    for place, character in enumerate(text):
        left -= _json_bytes(character)
        if left < 0:
            return text[:place] + _ELLIPSIS
    return text


def _json_bytes(text: str) -> int:
    """Size of ``text`` as JSON, without the quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")) - 2


def captured_by_resolved_alone(state: SessionState) -> dict[tuple[TriggerName, Ref], int]:
    """Stored events captured by resolved instances only, with the number of instances that captured each."""
    kept = state.needed_events()
    if not kept:
        return {}
    needed = {(name, ref) for name, refs in state.captured_by_open() for ref in refs}
    needed.update(state.referenced_by_leaves())
    counts: dict[tuple[TriggerName, Ref], int] = {}
    for record in state.tasks.values():
        for instance in record.resolved.values():
            for event in set(captured_refs(instance.captured)):
                name, ref = event
                if event not in needed and ref in kept.get(name, ()):
                    counts[event] = counts.get(event, 0) + 1
    return counts


_RECORD_BYTES = 128
"""Most bytes of a task's record in a state beside its instances and its name, and of the names around it."""


def changed_bytes(
    before: SessionState | None, after: SessionState, tasks: Iterable[TaskName], sizes: Sizes
) -> int:
    """The most by which a state grew by an event, without the event itself and its entry in the timeline.

    It adds what changed in the instances of ``tasks`` and in the memory of leaves. Resolved instances that
    the event changed are counted whole.
    """
    size = 0
    for name in tasks:
        record = after.tasks.get(name)
        if record is None:
            continue
        known = None if before is None else before.tasks.get(name)
        size += _RECORD_BYTES + (sizes.text(name) if known is None else 0)
        was_open, was_resolved = ({}, {}) if known is None else (known.open, known.resolved)
        for number, instance in _differing(record.open, was_open):
            old = was_open.get(number)
            size += 1 + sizes.instance(instance) - (0 if old is None else sizes.instance(old))
        for _, instance in _differing(record.resolved, was_resolved):
            size += 1 + sizes.instance(instance)
    memory = {} if before is None else before.remembered
    if after.remembered is not memory:
        for name, remembered in after.remembered.items():
            if memory.get(name) is not remembered:
                size += _RECORD_BYTES + sizes.text(name) + sizes.remembered(remembered)
    return size


def _differing(now: Instances, before: Instances) -> Iterable[tuple[int, Instance]]:
    """The instances of ``now`` that are not the same objects in ``before``, of which it is a changed copy.

    Without a loop in Python: of a thousand timeouts, each compares up to a thousand instances.
    """
    if not isinstance(now, dict):
        now = now.changed
    return compress(now.items(), map(is_not, now.values(), map(before.get, now)))


def captured_by_resolved(state: SessionState) -> set[tuple[TriggerName, Ref]]:
    """The events that a resolved instance captured, whatever else needs them."""
    return {
        event
        for record in state.tasks.values()
        for instance in record.resolved.values()
        for event in captured_refs(instance.captured)
    }


def resolved_bytes(state: SessionState, sizes: Sizes) -> int:
    """Size of the resolved instances and the events that only they captured."""
    return resolved_sizes(state, sizes)[0]


def resolved_sizes(state: SessionState, sizes: Sizes) -> tuple[int, int]:
    """Size of the resolved instances with the events that only they captured, and with all that they did.

    The second is the size once nothing else needs these events.
    """
    instances = sum(
        sizes.instance(instance) for record in state.tasks.values() for instance in record.resolved.values()
    )
    alone = captured_by_resolved_alone(state)
    own = shared = 0
    for event in captured_by_resolved(state):
        size = sizes.arrival(state.arrival(*event))
        if event in alone:
            own += size
        else:
            shared += size
    return instances + own, instances + own + shared
