"""Reads the keys of a task that hold more than one duration: ``debounce``, ``repeat`` and ``retry``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, assert_never, get_args

from triggerstream.core.tasks import Debounce, Repeat, Retry
from triggerstream.wire.tasksfile.nodes import Node, listed, unknown_key
from triggerstream.wire.tasksfile.values import describe_number, read_duration, read_integer

RetryKey: TypeAlias = Literal["max", "backoff", "factor", "maxBackoff"]
RETRY_KEYS: Final[tuple[RetryKey, ...]] = get_args(RetryKey)
DebounceKey: TypeAlias = Literal["quiet", "atMost"]
DEBOUNCE_KEYS: Final[tuple[DebounceKey, ...]] = get_args(DebounceKey)
RepeatKey: TypeAlias = Literal["every", "max"]
REPEAT_KEYS: Final[tuple[RepeatKey, ...]] = get_args(RepeatKey)
MOST_RETRIES: Final = 1_000_000
"""Far beyond use; JSON alone would allow numbers that no 64-bit integer holds."""
MOST_ROUNDS: Final = 1_000
"""``max`` of ``repeat``: after a long silence all rounds are made by one event."""


def read_debounce(node: Node) -> Debounce | None:
    """A duration without events, or an object with that and the longest wait."""
    if not node.is_object:
        if node.text is None and node.number is None:
            message = f'must be a duration, `"5m"`, or `{{"quiet": "5m", "atMost": "1h"}}`, not {node.kind}'
            node.error("wrong-type", message)
            return None
        quiet_us = read_duration(node)
        return None if quiet_us is None else Debounce(quiet_us=quiet_us)
    given = _members(node, DEBOUNCE_KEYS, of="debounce")
    if "quiet" not in given:
        if node.is_whole:
            message = '`quiet` is missing: how long no event may come, `{"quiet": "5m", "atMost": "1h"}`'
            node.error("missing-key", message)
        return None
    quiet_us = read_duration(given["quiet"])
    at_most_us = read_duration(given["atMost"]) if "atMost" in given else None
    if quiet_us is None:
        return None
    if at_most_us is not None and at_most_us <= quiet_us:
        how = "as long as" if at_most_us == quiet_us else "shorter than"
        message = f"is {how} `quiet`, so every wait is this long, and no event restarts it: `delay` says that"
        given["atMost"].warn("no-effect", message)
    return Debounce(quiet_us=quiet_us, at_most_us=at_most_us)


def read_repeat(node: Node) -> Repeat | None:
    """An object with the time between two rounds and their number."""
    if not node.is_object:
        node.error("wrong-type", f'must be an object, `{{"every": "1d", "max": 3}}`, not {node.kind}')
        return None
    given = _members(node, REPEAT_KEYS, of="repeat")
    if node.is_whole:
        if "every" not in given:
            node.error("missing-key", '`every` is missing: the time between two rounds, such as `"1d"`')
        if "max" not in given:
            message = "`max` is missing: how many further rounds there may be after the first"
            node.error("missing-key", message)
    every_us = read_duration(given["every"]) if "every" in given else None
    most = read_integer(given["max"], least=1, most=MOST_ROUNDS) if "max" in given else None
    return None if every_us is None or most is None else Repeat(every_us=every_us, max=most)


def read_retry(node: Node) -> Retry | None:
    """An object with the number of further attempts and the waits before them."""
    if not node.is_object:
        node.error("wrong-type", f'must be an object, `{{"max": 3, "backoff": "10s"}}`, not {node.kind}')
        return None
    most, backoff_us, factor = 0, 0, 1.0
    longest_us: int | None = None
    given: dict[str, Node] = {}
    for key, value in node.members():
        if key.text not in RETRY_KEYS:
            message = unknown_key(key.text, RETRY_KEYS, f"the keys of `retry` are {listed(RETRY_KEYS)}")
            key.error(node.findings, "unknown-key", message)
            continue
        if value.is_null and key.text != "max":
            continue  # equals leaving the key out
        given[key.text] = value
        match key.text:
            case "max":
                most = _read_max(value)
            case "backoff":
                backoff_us = read_duration(value) or 0
            case "factor":
                factor = _read_factor(value)
            case "maxBackoff":
                longest_us = read_duration(value)
            case _:
                assert_never(key.text)
    if "max" not in given and node.is_whole:
        node.error("missing-key", "`max` is missing: how many further attempts there may be")
    _check_retry(given, backoff_us=backoff_us, longest_us=longest_us)
    return Retry(max=most, backoff_us=backoff_us, factor=factor, max_backoff_us=longest_us)


def _members(node: Node, keys: tuple[str, ...], *, of: str) -> dict[str, Node]:
    """The values of an object that are not null; other keys than ``keys`` are reported."""
    given: dict[str, Node] = {}
    for key, value in node.members():
        if key.text not in keys:
            message = unknown_key(key.text, keys, f"the keys of `{of}` are {listed(keys)}")
            key.error(node.findings, "unknown-key", message)
        elif not value.is_null:
            given[key.text] = value
    return given


def _read_max(node: Node) -> int:
    number = node.number
    if not isinstance(number, int):
        node.error("wrong-type", f"must be an integer, 0 or more, not {describe_number(node)}")
        return 0
    if not 0 <= number <= MOST_RETRIES:
        node.error("wrong-value", f"must be from 0 to {MOST_RETRIES}, not {number}")
    return number


def _read_factor(node: Node) -> float:
    number = node.number
    if number is None:
        node.error("wrong-type", f"must be a number, 1 or more, not {node.kind}")
        return 1.0
    if number < 1:
        node.error("wrong-value", f"must be 1 or more, not {number}: waits do not shrink")
    return float(number)


def _check_retry(given: Mapping[str, Node], *, backoff_us: int, longest_us: int | None) -> None:
    """Warn of members of a ``retry`` that have no effect beside the others."""
    if "backoff" not in given:
        for key in ("factor", "maxBackoff"):
            if key in given:
                given[key].warn("no-effect", "has no effect without `backoff`: every attempt is made at once")
    elif longest_us is not None and longest_us < backoff_us:
        given["maxBackoff"].warn("no-effect", "is shorter than `backoff`, so every wait is this long")
