"""The stored forms of what a leaf of an instance holds (docs/semantics.md, R3.6 to R3.11).

Each value says by itself which events it refers to and which shape its argument has, so that a state can be
read without the tasks file under which it was made. The rules are in :mod:`triggerstream.core.slots`.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from triggerstream.core.ids import LeafName, TriggerName

Ref: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""The offset of an event. A trigger and a ref name one event."""
EventTime: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Microseconds since the Unix epoch; negative for an event that happened before 1970."""


class One(Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="one", kw_only=True):
    """The event of a plain leaf, if its name is not its trigger or its time must be known."""

    of: TriggerName
    ref: Ref
    time: EventTime | None = None


class Several(Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="several", kw_only=True):
    """The events of a leaf with ``count``, in log order."""

    of: TriggerName
    at: list[Ref]
    times: list[EventTime] | None = None


class Keyed(Struct, frozen=True, tag_field="holds", tag="keyed", kw_only=True):
    """The events of a leaf with ``count`` and ``key``: the first of each key, in log order."""

    of: TriggerName
    by: dict[str, Ref]


class Members(Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="members", kw_only=True):
    """The events of a leaf with ``each``: the first of each key, or None for an element that is missing.

    ``left`` is the number of missing elements; None: the list has not arrived.
    """

    of: TriggerName
    by: dict[str, Ref | None]
    left: Ref | None = None


class InSequence(Struct, frozen=True, omit_defaults=True, tag_field="holds", tag="sequence", kw_only=True):
    """The events of a leaf in a sequence, in log order, with their event times.

    ``met`` holds the events that meet the leaf: one of a plain leaf, a list for ``count``.
    """

    of: TriggerName
    at: list[Ref]
    times: list[EventTime]
    met: Ref | list[Ref] | None = None


Held: TypeAlias = One | Several | Keyed | Members | InSequence
Holding: TypeAlias = Ref | Held
"""A ref alone is the event of a plain leaf that has its trigger's name."""


class Remembered(Struct, omit_defaults=True, kw_only=True):
    """The latest matches of a task's leaves, where these are not the latest events of their triggers."""

    after: dict[LeafName, Holding] = {}
    unless: dict[LeafName, Holding] = {}
