from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support import order
from tests.support.order import mixed

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Collected:
    """A test as pytest collects it."""

    nodeid: str
    marks: tuple[str, ...] = ()

    def get_closest_marker(self, name: str, /) -> bool | None:
        return True if name in self.marks else None


def file(name: str, count: int, *marks: str) -> list[Collected]:
    return [Collected(f"tests/{name}.py::test_{number}", marks) for number in range(count)]


def files(tests: Iterable[Collected]) -> list[str]:
    """The files of ``tests`` in their order; each has its tests together."""
    names = list(dict.fromkeys(test.nodeid.partition("::")[0] for test in tests))
    return [name.removeprefix("tests/").removesuffix(".py") for name in names]


def test_long_files_begin_and_files_that_wait_and_calculate_take_turns() -> None:
    tests = [
        *file("core/test_few", 2),
        *file("core/test_many", 90),
        *file("adapters/test_broker", 2, "kafka", "slow"),
        *file("adapters/test_brokers", 7, "kafka"),
        *file("acceptance/test_slow_brokers", 1, "slow"),
        *file("core/test_some", 20),
        *file("core/test_laws_of_time", 1),
    ]
    found = mixed(tests)
    assert sorted(found, key=tests.index) == tests
    assert files(found) == [
        "acceptance/test_slow_brokers",
        "core/test_laws_of_time",
        "core/test_many",
        "adapters/test_brokers",
        "core/test_some",
        "adapters/test_broker",
        "core/test_few",
    ]
    assert found[-4 - 20 - 7 : -4 - 20] == file("adapters/test_brokers", 7, "kafka")  # in their own order


def test_each_long_file_is_there() -> None:
    assert [name for name in order._LONG if not (TESTS / name).exists()] == []  # noqa: SLF001 - nothing else reads it
