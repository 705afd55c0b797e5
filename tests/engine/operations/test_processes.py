"""Members of the groups compared with what an app needs."""

from __future__ import annotations

from triggerstream.engine.operations.administration import GroupMember, GroupOfMembers
from triggerstream.engine.operations.executor_workers import HeardWorker, tasks_without_worker
from triggerstream.engine.operations.processes import Knock, check_group


def member(name: str, *partitions: int) -> GroupMember:
    return GroupMember(name=name, id=f"id-{name}", client="c", host="h", partitions=partitions)


def workers(*members: GroupMember, state: str = "Stable") -> GroupOfMembers:
    return GroupOfMembers(kind="worker", state=state, members=members)


def wrong(group: GroupOfMembers, *, wanted: int = 1, knocks: dict[str, Knock] | None = None) -> list[str]:
    found = check_group(group, partitions=4, wanted=wanted, knocks=knocks)
    return [one.says for one in found if not one.well]


def test_members_that_have_all_partitions_are_well() -> None:
    group = workers(member("a", 0, 2), member("b", 1, 3))
    assert wrong(group, wanted=2) == []
    first, second = check_group(group, partitions=4, knocks={"id-a": Knock.ANSWERS})
    assert first.says == "worker a at h: partitions 0, 2; it answers"
    assert second.says.startswith("worker b at h: partitions 1, 3; whether it lives cannot be seen from here")


def test_partitions_without_an_owner_too_few_members_and_a_rebalance_are_named() -> None:
    assert wrong(workers(member("a", 0, 2)), wanted=2) == [
        "1 worker runs, --workers 2 are wanted",
        "without an owner: partitions 1, 3",
    ]
    assert wrong(workers(member("a", 0, 1, 2))) == ["without an owner: partition 3"]
    assert wrong(workers(), wanted=2) == ["no worker runs, --workers 2 are wanted"]
    assert wrong(workers()) == ["no worker runs"]
    moving = workers(member("a"), member("b"), state="PreparingRebalance")
    assert wrong(moving) == [
        "partitions change hands: ask again in a moment",
        "without an owner: all partitions",
    ]


def test_a_named_worker_of_the_last_day_that_is_no_member_is_missing() -> None:
    group = GroupOfMembers(
        kind="worker",
        state="Stable",
        members=[member("a", 0, 1, 2, 3)],
        seen={"b": 1_764_390_000, "a": 1_764_390_000},
    )
    assert wrong(group) == ["worker b is missing: it last had a partition at 2025-11-29T04:20:00Z"]


def test_a_member_whose_pages_have_nobody_listening_has_probably_died() -> None:
    group = workers(member("a", 0, 1), member("b", 2, 3))
    for knock, count in ((Knock.REFUSED, 1), (Knock.SILENT, 1), (Knock.ANSWERS, 0), (Knock.NO_ADDRESS, 0)):
        found = wrong(group, knocks={"id-b": knock})
        assert len(found) == count, knock
        assert all(says.startswith("worker b at h: partitions 2, 3; ") for says in found)


def test_a_celery_worker_is_silent_about_tasks_that_it_has_and_does_not_report() -> None:
    one = HeardWorker(name="a", tasks=frozenset({"x", "y", "z"}), reporting=frozenset({"y"}))
    assert one.silent({"x", "y", "w"}) == ["x"]
    assert tasks_without_worker([one], {"x", "w"}) == ["w"]
    assert tasks_without_worker([], {"x", "w"}) == ["w", "x"]
