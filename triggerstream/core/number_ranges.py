"""Sets of instance numbers as ranges: ascending pairs of a first and a last number, never adjacent.

A task's numbers grow one by one, and its instances mostly end in that order. So a hundred numbers are one or
two pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Numbers: TypeAlias = tuple[tuple[int, int], ...]


def count_of(numbers: Numbers) -> int:
    """The number of members."""
    count = 0
    for first, last in numbers:
        count += last - first + 1
    return count


def is_among(number: int, numbers: Numbers) -> bool:
    """True if ``number`` is a member."""
    for first, last in numbers:  # noqa: SIM110 - `any` takes four times as long for one pair
        if first <= number <= last:
            return True
    return False


def each_of(numbers: Numbers) -> Iterator[int]:
    """The members, ascending."""
    for first, last in numbers:
        yield from range(first, last + 1)


def with_number(numbers: Numbers, number: int) -> Numbers:
    """``numbers`` and ``number``, which is no member."""
    before = tuple(pair for pair in numbers if pair[1] < number)
    after = numbers[len(before) :]
    first = last = number
    if before and before[-1][1] == number - 1:
        first = before[-1][0]
        before = before[:-1]
    if after and after[0][0] == number + 1:
        last = after[0][1]
        after = after[1:]
    return (*before, (first, last), *after)


def ranges_of(numbers: Iterable[int]) -> Numbers:
    """The set of ``numbers``, which are ascending."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return tuple(ranges)


def without_first(numbers: Numbers) -> Numbers:
    """``numbers`` without the least one."""
    (first, last), *others = numbers
    return tuple(others) if first == last else ((first + 1, last), *others)


def are_valid(numbers: Numbers, *, below: int) -> bool:
    """True if the pairs are as this module makes them, and every member is less than ``below``."""
    previous = -2
    for first, last in numbers:
        if not previous + 1 < first <= last < below:
            return False
        previous = last
    return True
