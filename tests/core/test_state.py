"""Parts of a session's state."""

from __future__ import annotations

import pytest

from triggerstream.core.state import DECIDED, RESOLVED, WAITING, Stage, Status, stage_of

STAGES = {
    Stage.WAITING: {"unstarted", "delayed", "held"},
    Stage.DECIDED: {"scheduled", "running"},
    Stage.FAILED: {"failed"},
    Stage.RESOLVED: {"finished", "skipped", "replayed", "abandoned", "expired", "cancelled"},
}


@pytest.mark.parametrize("stage", Stage)
def test_each_status_belongs_to_one_stage(stage: Stage) -> None:
    assert {status for status in Status if stage_of(status) is stage} == STAGES[stage]


def test_sets_of_statuses_are_those_of_their_stages() -> None:
    assert (
        STAGES[Stage.WAITING],
        STAGES[Stage.DECIDED],
        STAGES[Stage.RESOLVED],
    ) == (WAITING, DECIDED, RESOLVED)
