"""Compares the members of an app's groups with what an app needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from triggerstream.engine.operations.administration import GroupMember, GroupOfMembers
from triggerstream.wire.instants import format_instant

_STABLE = "Stable"
"""Kafka's word for a group that is not changing hands."""


class Knock(StrEnum):
    """Result of a connection to the address of a process's pages.

    ``SILENT``: no answer in time. ``NO_ADDRESS``: no address that can be reached from here.
    """

    ANSWERS = "answers"
    REFUSED = "refused"
    SILENT = "silent"
    NO_ADDRESS = "no address"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFinding:
    """A sentence about a group; ``well`` false: somebody should act."""

    well: bool
    says: str


def check_group(
    group: GroupOfMembers,
    *,
    partitions: int,
    wanted: int = 1,
    knocks: Mapping[str, Knock] | None = None,
) -> Sequence[GroupFinding]:
    """Findings about a group of workers or bridges; ``knocks`` by the id of a member."""
    kind, knocks = group.kind, knocks or {}
    found = [_of_member(kind, one, knocks.get(one.id, Knock.NO_ADDRESS)) for one in group.members]
    names = {member.name for member in group.members}
    found += [
        GroupFinding(
            well=False,
            says=f"{kind} {name} is missing: it last had a partition at {format_instant(at_s * 1_000_000)}",
        )
        for name, at_s in sorted(group.seen.items())
        if name not in names
    ]
    if len(group.members) < wanted:
        need = "" if wanted == 1 else f", --workers {wanted} are wanted"
        count = "no" if not group.members else f"{len(group.members)}"
        runs = f"{kind} runs" if len(group.members) <= 1 else f"{kind}s run"
        found.append(GroupFinding(well=False, says=f"{count} {runs}{need}"))
    if group.members and group.state != _STABLE:
        says = "partitions change hands: ask again in a moment"
        found.append(GroupFinding(well=False, says=says))
    if not group.members:
        return found
    owned = {number for member in group.members for number in member.partitions}
    ownerless = sorted(set(range(partitions)) - owned)
    if ownerless:
        says = f"without an owner: {_partitions(ownerless, partitions)}"
        found.append(GroupFinding(well=False, says=says))
    return found


def _of_member(kind: str, member: GroupMember, knock: Knock) -> GroupFinding:
    name = member.name or member.id
    says = f"{kind} {name} at {member.host}: partitions {', '.join(map(str, member.partitions)) or 'none'}"
    match knock:
        case Knock.REFUSED:
            says += "; nothing listens at the address of its pages: it has probably died, and its partitions "
            return GroupFinding(well=False, says=says + "wait until its session times out")
        case Knock.SILENT:
            return GroupFinding(well=False, says=says + "; its pages do not answer within 2 s")
        case Knock.NO_ADDRESS:
            # Many installations have no pages, so this must not count as a fault.
            says += "; whether it lives cannot be seen from here: Kafka knows only that its session lasts"
            return GroupFinding(well=True, says=says)
        case Knock.ANSWERS:
            return GroupFinding(well=True, says=f"{says}; it answers")


def _partitions(numbers: Collection[int], count: int) -> str:
    if len(numbers) == count:
        return "all partitions"
    return f"partition{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
