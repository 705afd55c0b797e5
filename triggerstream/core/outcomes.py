"""Questions about an outcome and its command (docs/semantics.md, R6.1, R6.3)."""

from __future__ import annotations

from typing import assert_never

from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    Erase,
    Failed,
    FailureReason,
    Finished,
    Outcome,
    Release,
    Replay,
    Resend,
    Retried,
    Revoked,
    Skip,
    Skipped,
    Started,
    Timer,
    Touch,
    Trigger,
)
from triggerstream.core.ids import CommandId
from triggerstream.core.state import Instance


def settled_by(body: Body) -> tuple[CommandId, ...]:
    """The command that an outcome settles (R6.1); none for any other event."""
    match body:
        case Finished() | Failed() | Skipped() | Retried() | Revoked():
            return (body.command,)
        case Started() | Trigger() | Skip() | Replay() | Cancel() | Resend() | Release():
            return ()
        case Close() | Erase() | Touch() | Timer():
            return ()
        case _ as never:
            assert_never(never)


def is_of_an_older_attempt(outcome: Outcome, instance: Instance) -> bool:
    """True if ``outcome`` only reports that an earlier attempt did not run its task to the end (R6.3).

    An outcome of the task itself counts, whichever attempt it ran for.
    """
    match outcome:
        case Revoked():
            return outcome.attempt is not None and outcome.attempt < instance.attempt
        case Failed():
            nobody_ran_it = outcome.reason not in (None, FailureReason.RESULT_NOT_REPORTABLE)
            return nobody_ran_it and outcome.attempt is not None and outcome.attempt < instance.attempt
        case Started() | Finished() | Skipped() | Retried():
            return False
        case _ as never:
            assert_never(never)
