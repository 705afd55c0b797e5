"""Sentences about an instance's status."""

from __future__ import annotations

from typing import assert_never

from triggerstream.core.answers import HandOver, HandOverState
from triggerstream.core.effects import Reason
from triggerstream.core.hold_sentences import hold_words
from triggerstream.core.joined_names import join_names
from triggerstream.core.lacking import missing_in_words
from triggerstream.core.places import Hold
from triggerstream.core.reruns import Rerun, rerun_words
from triggerstream.core.slots import captured_refs
from triggerstream.core.state import DECIDED, WAITING, Instance, Status
from triggerstream.core.tasks import Configuration, Task
from triggerstream.core.time_sentences import expiry_words, wait_words


def status_sentence(
    config: Configuration,
    task: Task | None,
    instance: Instance,
    hand_over: HandOver | None = None,
    *,
    rerun: Rerun | None = None,
    hold: Hold | None = None,
) -> str:
    """The status of the instance in one sentence; ``hand_over``: that of its command, if somebody looked.

    ``rerun``: the instance that took its place; ``hold``: why it is held.
    """
    blockers = None if task is None or task.unless is None else missing_in_words(task.unless, instance.noted)
    says = _status_says(task, instance, rerun, hold) if hand_over is None else _hand_over_says(hand_over)
    if instance.status in WAITING and instance.noted and blockers is not None:
        says += f"; abandoned once {blockers} arrives too"
    if instance.reason is Reason.UNLESS and instance.status is Status.FAILED:
        says += "; not tried again, because its `unless` was fulfilled"
    elif instance.note is not None and instance.status not in WAITING:
        says += f"{';' if instance.status is Status.FAILED else ':'} {instance.note}"
    elif instance.reason is not None and instance.status in {Status.FAILED, Status.CANCELLED}:
        says += f" ({instance.reason})"
    if task is not None and instance.status in DECIDED and instance.sent is not None:
        current = config.hash
        if instance.sent.config != current:
            says += "; decided under an earlier configuration"
    return says


def _status_says(task: Task | None, instance: Instance, rerun: Rerun | None, hold: Hold | None) -> str:
    """The instance's status in words."""
    match instance.status:
        case Status.UNSTARTED:
            missing = None if task is None else missing_in_words(task.after, instance.captured)
            if missing is not None:
                return f"waits for {missing}"
            return "has all its triggers; it is decided at the session's next event"
        case Status.DELAYED:
            return wait_words(task, instance)
        case Status.HELD:
            return hold_words(task, hold)
        case Status.SCHEDULED:
            return "was decided; no worker has started it yet"
        case Status.RUNNING:
            return "is running"
        case Status.FAILED:
            return f"failed: {instance.error or 'no error was given'}"
        case Status.FINISHED:
            return "finished"
        case Status.SKIPPED:
            return "was skipped"
        case Status.REPLAYED:
            return rerun_words(task, instance, rerun)
        case Status.ABANDONED:
            blockers = dict.fromkeys(of for of, _ in captured_refs(instance.noted))
            return f"is blocked by `unless`: {join_names(blockers)} arrived first"
        case Status.EXPIRED:
            return expiry_words(instance)
        case Status.CANCELLED:
            return "was cancelled"
        case _ as never:
            assert_never(never)


def _hand_over_says(hand_over: HandOver) -> str:
    """The status of a decided instance that no worker has reported about."""
    match hand_over.state:
        case HandOverState.DECIDED:
            return "was decided; not handed over to Celery yet"
        case HandOverState.UNCONFIRMED:
            return "was decided; the Celery broker has not confirmed it, and may have it"
        case HandOverState.HANDED_OVER:
            return "was handed over to Celery; no worker has reported yet"
        case HandOverState.UNKNOWN:
            why = "" if hand_over.why is None else f": {hand_over.why}"
            return f"was decided; whether it was handed over to Celery is not known{why}"
        case _ as never:
            assert_never(never)
