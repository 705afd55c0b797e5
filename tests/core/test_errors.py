"""Messages of errors that carry evidence."""

from __future__ import annotations

from triggerstream.core.errors import ConfigError, DestinationError, Finding


def finding(message: str, *, severity: str = "error", path: str = "/t/after") -> Finding:
    return Finding(severity=severity, code="c", line=12, column=14, path=path, message=message)


def test_finding_is_shown_with_its_place() -> None:
    assert str(finding("must name a trigger")) == "12:14 /t/after: must name a trigger"
    assert str(finding("must be an object", path="")) == "12:14: must be an object"


def test_error_of_a_tasks_file_shows_its_first_error_and_how_to_see_the_others() -> None:
    doubtful, first, second = finding("odd", severity="warning"), finding("one"), finding("two")
    error = ConfigError("tasks.json", [doubtful, first])
    assert str(error) == "tasks.json:12:14 /t/after: one"
    assert (error.name, error.findings) == ("tasks.json", (doubtful, first))
    assert "(and 1 more: " in str(ConfigError("tasks.json", [first, second]))
    error = ConfigError("my tasks.json", [doubtful, first, second, first])
    assert str(error) == (
        "my tasks.json:12:14 /t/after: one (and 2 more: `triggerstream config check 'my tasks.json'`)"
    )
    assert str(ConfigError("tasks.json", [doubtful])) == "tasks.json"


def test_error_of_a_destination_names_it_and_the_answer_of_the_broker() -> None:
    error = DestinationError(destination="queue mail", reason="PRECONDITION_FAILED")
    assert str(error) == "queue mail: PRECONDITION_FAILED"
    assert (error.destination, error.reason) == ("queue mail", "PRECONDITION_FAILED")
