"""The tree in which answers show a condition of an instance, in the form of the file.

Fields are named as in the JSON that users see, but for units; :mod:`triggerstream.wire.answers` converts
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TypeAlias, assert_never

from msgspec import Struct

from triggerstream.core.ids import InstanceId, Instant, JsonObject, LeafName, TriggerName
from triggerstream.core.state import Status


class TakenEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"time_us": "time"}):
    """An event that a leaf holds, with its ``key`` where the leaf has one.

    An event that a timer fired has no ``offset``. One of ``unless`` that is no longer kept has only its
    offset, and its time while the timeline has it.
    """

    offset: int | None = None
    time_us: Instant | None = None
    id: str | None = None
    source: str | None = None
    key: str | None = None
    data: JsonObject | None = None


class NotTaken(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The latest event of a leaf's trigger, which the leaf did not take; ``says`` why.

    ``late``: it came when the instance was decided already, or had ended. ``offset`` None: a timer fired it.
    """

    offset: int | None = None
    says: str
    late: bool = False


class TaskInstance(Struct, frozen=True, kw_only=True):
    """An instance of a task on whose name a leaf waits."""

    instance: InstanceId
    status: Status


class LeafTree(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A leaf of a condition, and the events that it holds.

    ``need`` None: not known yet how many, because the list of an ``each`` has not arrived. ``by`` are the
    events that count, ``missing`` the elements of a list without an event. ``became``: the trigger is a
    task's name, and these are the task's newest instances in the session.
    """

    leaf: LeafName
    trigger: TriggerName
    where: str | None = None
    met: bool
    need: int | None = None
    have: int
    by: list[TakenEvent] = []
    missing: list[str] = []
    last: NotTaken | None = None
    became: list[TaskInstance] | None = None


class GroupKind(StrEnum):
    """How a group combines its members; the key of the group in JSON, as in the tasks file."""

    ALL = "all"
    ANY = "any"
    AT_LEAST = "atLeast"
    SEQUENCE = "sequence"


class GroupTree(Struct, frozen=True, kw_only=True):
    """A group of conditions: met if at least ``need`` members are; ``have`` of them are.

    In JSON, ``members`` stand under the kind.
    """

    kind: GroupKind
    members: list[TreeNode]
    need: int
    have: int
    met: bool


TreeNode: TypeAlias = GroupTree | LeafTree
"""A condition, or a part of one, in the form of the file."""


class ConditionTree:
    """A condition in the form of the file, with the events that meet it.

    A plain class: in JSON, nodes differ by their keys, so :mod:`triggerstream.wire.answers` converts it.
    """

    __slots__ = ("root",)

    def __init__(self, root: TreeNode) -> None:
        self.root = root

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConditionTree) and other.root == self.root

    def __hash__(self) -> int:
        return hash((self.root.need, self.root.have))

    def __repr__(self) -> str:
        return f"ConditionTree({self.root!r})"

    @property
    def met(self) -> bool:
        """True if the condition is satisfied."""
        return self.root.met

    def leaves(self) -> Iterator[LeafTree]:
        """The leaves, in the order of the file; one in two places comes twice."""
        nodes = [self.root]
        while nodes:
            node = nodes.pop()
            match node:
                case LeafTree():
                    yield node
                case GroupTree(members=members):
                    nodes.extend(reversed(members))
                case _ as never:
                    assert_never(never)
