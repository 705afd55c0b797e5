"""The events of the benchmarks: complete, in the promised order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest

from tests.benchmarks.loads import Bursts, Load, Pair, Returning, Scattered, shuffled
from tests.benchmarks.peers.arguments import PARTS
from triggerstream.core.placement import partition_of


def keys(pairs: Iterable[Pair]) -> list[bytes]:
    return [key for key, _ in pairs]


def complete(pairs: Iterable[Pair]) -> set[bytes]:
    return {key for key, count in Counter(keys(pairs)).items() if count == len(PARTS)}


@pytest.mark.parametrize("load", [Bursts(sessions=700), Scattered(sessions=700)])
def test_each_half_completes_sessions_of_its_own(load: Load) -> None:
    first, second = list(load.warm_up()), list(load.measured())
    assert len(second) == load.events == load.commands * len(PARTS)
    assert len(complete(first)) == load.warm_up_commands
    assert len(complete(second)) == load.commands
    assert complete(first).isdisjoint(complete(second))


def test_no_event_is_there_twice() -> None:
    load = Scattered(sessions=300)
    pairs = [*load.warm_up(), *load.measured()]
    assert len(set(pairs)) == len(pairs)


def test_scattered_events_of_a_session_are_as_far_apart_as_there_are_sessions() -> None:
    places: dict[bytes, list[int]] = {}
    for place, key in enumerate(keys(Scattered(sessions=500).measured())):
        places.setdefault(key, []).append(place)
    for found in places.values():
        assert [later - earlier for earlier, later in pairwise(found)] == [500, 500, 500]


def test_scattered_sessions_do_not_come_in_the_order_of_their_keys() -> None:
    found = keys(Scattered(sessions=500).measured())[:500]
    neighbours = sum(abs(int(a[-9:]) - int(b[-9:])) == 1 for a, b in pairwise(found))
    assert neighbours < 10


@pytest.mark.parametrize("count", [1, 2, 7, 1_000, 2_654_435_761 // 1_000])
def test_shuffled_numbers_are_all_there_once(count: int) -> None:
    some = min(count, 5_000)
    found = {shuffled(number, count) for number in range(some)}
    assert len(found) == some
    assert all(0 <= number < count for number in found)


def test_sessions_that_return_have_begun_in_the_first_half() -> None:
    load = Returning(sessions=640, stride=32, partitions=3)
    first, second = list(load.warm_up()), list(load.measured())
    assert load.commands == 20
    assert len(second) == load.events == 60
    assert set(keys(second)) <= set(keys(first[:640]))
    assert len(complete([*first, *second])) == load.commands + load.warm_up_commands


def test_the_last_events_of_the_first_half_are_in_every_partition() -> None:
    load = Returning(sessions=100, stride=10, partitions=5)
    last = complete(load.warm_up())
    assert {partition_of(key, 5) for key in last} == set(range(5))


def test_a_load_of_another_size_has_about_so_many_events() -> None:
    for load in (Bursts(sessions=1), Scattered(sessions=1)):
        resized = load.resized(504_000)
        assert 2 * resized.events == 504_000
