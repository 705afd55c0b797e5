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
    assert {status.value for status in Status if stage_of(status) is stage} == STAGES[stage]


@pytest.mark.parametrize(
    ("statuses", "stage"),
    [(WAITING, Stage.WAITING), (DECIDED, Stage.DECIDED), (RESOLVED, Stage.RESOLVED)],
)
def test_sets_of_statuses_are_those_of_their_stages(statuses: frozenset[Status], stage: Stage) -> None:
    assert {status.value for status in statuses} == STAGES[stage]
