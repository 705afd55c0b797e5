"""Sentences about what time does to an instance: its wait, its round, its end."""

from __future__ import annotations

from typing import NamedTuple

from triggerstream.core.durations import duration_in_words
from triggerstream.core.effects import Reason
from triggerstream.core.state import Instance, Status
from triggerstream.core.tasks import Debounce, Retry, Task


class Round(NamedTuple):
    """The number of a round of a task with ``repeat``, from 1, and of how many; None: not known."""

    number: int
    of: int | None


def round_of(task: Task | None, instance: Instance) -> Round | None:
    """The round that an instance is; None if its task is not repeated, or it is a clone."""
    if instance.clone_of is not None:
        return None
    repeat = None if task is None else task.repeat
    if instance.repeat_of is None and (repeat is None or instance.decided_us is None):
        return None
    number = instance.repeats + 1
    most = None if repeat is None else repeat.max + 1
    return Round(number, most if most is not None and number <= most else None)


def numbered(number: int, most: int | None) -> str:
    """A number of a round or a retry: `2 of 4`; the number alone if it is not known of how many."""
    return str(number) if most is None else f"{number} of {most}"


def wait_words(task: Task | None, instance: Instance) -> str:
    """The wait of a delayed instance, in words."""
    if instance.clone_of is not None:
        most = max_retries(task, instance)
        number = f" (retry {numbered(instance.retries, most)})" if instance.retries else ""
        return f"waits to be tried again{number}"
    found = round_of(task, instance)
    if found is not None:
        return f"waits for round {numbered(*found)}"
    if task is not None and task.debounce is not None:
        return f"is satisfied, and waits {_until_quiet(task.debounce)} (`debounce`)"
    if task is not None and task.delay_us is not None:
        return f"is satisfied, and waits {duration_in_words(task.delay_us)} (`delay`)"
    return "is satisfied, and waits until it is due"


def _until_quiet(debounce: Debounce) -> str:
    quiet = f"until no event has come for {duration_in_words(debounce.quiet_us)}"
    if debounce.at_most_us is None:
        return quiet
    return f"{quiet}, at most {duration_in_words(debounce.at_most_us)}"


def max_retries(task: Task | None, clone: Instance) -> int | None:
    """The most retries of a retry's task; None if the file in force does not explain the retry."""
    most = None if task is None or task.retry is None else task.retry.max
    return most if most is not None and 0 < clone.retries <= most else None


def expiry_words(instance: Instance) -> str:
    """Why an instance expired."""
    if instance.reason is Reason.DEADLINE:
        begun_us = instance.opened_us or instance.created_us
        passed_us = (instance.ended_us or begun_us) - begun_us
        return f"not satisfied within {duration_in_words(passed_us)}: deadline"
    has_expires = instance.sent is not None and instance.sent.expires_us is not None
    return f"the worker dropped it: {'expires' if has_expires else 'revoked'}"


def time_keys(task: Task) -> list[str]:
    """The keys of time of a task in words, each by itself."""
    words: list[str] = []
    if task.within_us is not None:
        words.append(f"within {duration_in_words(task.within_us)}")
    if task.deadline_us is not None:
        words.append(f"deadline {duration_in_words(task.deadline_us)}")
    if task.delay_us is not None:
        words.append(f"delay {duration_in_words(task.delay_us)}")
    if task.debounce is not None:
        most_us = task.debounce.at_most_us
        most = "" if most_us is None else f", at most {duration_in_words(most_us)}"
        words.append(f"debounce {duration_in_words(task.debounce.quiet_us)}{most}")
    if task.repeat is not None:
        times = "once more" if task.repeat.max == 1 else f"{task.repeat.max:,} more times"
        words.append(f"every {duration_in_words(task.repeat.every_us)}, {times}")
    if task.retry is not None:
        words.append(_retry_words(task.retry))
    if task.expires_us is not None:
        words.append(f"expires {duration_in_words(task.expires_us)}")
    return words


def _retry_words(retry: Retry) -> str:
    times = "1 retry" if retry.max == 1 else f"{retry.max:,} retries"
    if not retry.backoff_us:
        return times
    grows = "" if retry.factor == 1 else f", each {retry.factor:g} times longer"
    return f"{times} after {duration_in_words(retry.backoff_us)}{grows if retry.max > 1 else ''}"


def has_expired(instance: Instance) -> bool:
    """True if the deadline of an instance has passed."""
    return instance.status is Status.EXPIRED and instance.reason is Reason.DEADLINE
