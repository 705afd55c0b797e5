"""States of earlier versions are read as they were meant, and written in this release's version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triggerstream.core.effects import Reason, Why
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import TaskName
from triggerstream.core.state import Instance, NoEffect
from triggerstream.wire import state

HEAD = b'{"version":1,"generation":0,"offset":3,'
VERSION_1 = sorted((Path(__file__).parent / "version1").glob("*.json"))
"""States as the release before this one wrote them."""


@pytest.mark.parametrize("path", VERSION_1, ids=[path.stem for path in VERSION_1])
def test_a_state_of_version_1_is_read_and_written_as_version_3(path: Path) -> None:
    known = state.decode(path.read_bytes())
    written = state.encode(known)
    assert json.loads(written)["version"] == 3
    assert state.decode(written) == known


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("failed", "bound", (Reason.BOUND, None)),
        ("failed", "worker lost", (Reason.WORKER_LOST, None)),
        ("failed", "odd", (None, "odd")),
        ("cancelled", "task removed", (Reason.TASK_REMOVED, None)),
        ("cancelled", "session closed", (Reason.SESSION_CLOSED, None)),
        ("cancelled", "unless", (None, "unless")),
        ("cancelled", "no longer wanted (mia)", (None, "no longer wanted (mia)")),
        ("skipped", "bound", (None, "bound")),
        ("replayed", "unless", (None, "unless")),
    ],
)
def test_the_engine_s_reason_and_an_operator_s_words_are_told_apart(
    status: str, reason: str, expected: tuple[Reason | None, str | None]
) -> None:
    instance = upcast_instance({"status": status, "reason": reason})
    assert (instance.reason, instance.note) == expected


def test_the_effects_in_a_timeline_of_version_1_have_a_code() -> None:
    known = state.decode(
        HEAD + b'"positions":[[0,"a",1,null],[1,"b",1,"text"],'
        b'[2,"c",1,["refused","because"]],[3,"d",1,["ignored","duplicate"]]]}'
    )
    assert [note for *_, note in known.positions] == [
        None,
        "text",
        (NoEffect.REFUSED, Why.NOT_RECORDED, "because"),
        (NoEffect.IGNORED, Why.DUPLICATE, "duplicate"),
    ]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (
            HEAD + b'"positions":[[0,"a",1,["applied","x"]]]}',
            "/positions/0/3/0",
        ),
        (HEAD + b'"positions":{}}', "/positions"),
        (HEAD + b'"tasks":{"t":{"next":1,"open":[7]}}}', "/tasks/…/open/0"),
        (HEAD + b'"tasks":[1]}', "/tasks"),
        (b'{"version":1,"generation":"x","offset":3}', "/generation"),
    ],
)
def test_what_is_wrong_in_an_older_state_is_named(value: bytes, place: str) -> None:
    with pytest.raises(DecodeError) as refused:
        state.decode(value)
    assert str(refused.value).startswith(place)


def upcast_instance(fields: dict[str, Any]) -> Instance:
    """An instance of version 1 with ``fields``, read."""
    status = fields["status"]
    group = "open" if status == "failed" else "resolved"
    instance = {"number": 0, "created": 1, "changed": 1, **fields}
    stored = {
        "version": 1,
        "generation": 0,
        "offset": 3,
        "config": 0,
        "tasks": {"t": {"next": 1, group: [instance]}},
    }
    (found,) = state.decode(json.dumps(stored).encode()).tasks[TaskName("t")].instances()
    return found
