"""`deadletters list | show`."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from tests.support.engines import RunningEngine
from triggerstream.wire.records import NewRecord


@pytest.fixture(autouse=True)
def two_letters(engine: RunningEngine) -> None:
    engine.append_raw(
        [
            NewRecord(key=b"s", value=b'{"type": "module1", "data": [1]}'),
            NewRecord(key=b"s", value=b'{"type": "module1"}'),
            NewRecord(key=None, value=b"\xff not JSON", headers=(("from", b"test"),)),
        ]
    )


def test_list_has_the_place_and_the_reason(cli: Cli) -> None:
    first, second = cli("deadletters", "list", "--json").rows()
    assert (first["number"], first["offset"], first["session"]) == (1, 1, "s")
    assert first["reason"] == "/data: must be an object, is an array"
    assert first["value"] == {"type": "module1", "data": [1]}
    assert (second["offset"], second["session"]) == (3, None)
    assert second["reason"].startswith("not JSON")
    assert second["value"] == "\\xff not JSON"
    assert "must be an object" in cli("deadletters", "list").out


def test_list_goes_on_after_a_number(cli: Cli) -> None:
    ran = cli("deadletters", "list", "--json", "--limit", "1")
    assert ran.row()["number"] == 1
    assert ran.err == "there are more: continue with --after 1\n"
    assert cli("deadletters", "list", "--json", "--after", "1").row()["offset"] == 3


def test_show_has_it_whole(cli: Cli) -> None:
    row = cli("deadletters", "show", "2", "--json").row()
    assert (row["offset"], row["headers"]) == (3, {"from": "test"})
    out = cli("deadletters", "show", "1").out
    assert '{"type": "module1", "data": [1]}' in out


def test_one_that_is_not_there_is_the_answer_no(cli: Cli) -> None:
    ran = cli("deadletters", "show", "9")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("there is no dead letter 9")
