"""Files that can never work, and what is said to write instead."""

from __future__ import annotations

import json
import re

import pytest

from triggerstream.core.errors import Finding
from triggerstream.core.ids import Json, JsonObject
from triggerstream.core.tasks import FOLD_VERSION
from triggerstream.wire import tasksfile
from triggerstream.wire.tasksfile.conditions import GROUP_KEYS
from triggerstream.wire.tasksfile.leaves import LEAF_KEYS
from triggerstream.wire.tasksfile.tried_keys import INSTEAD
from triggerstream.wire.tasksfile.workable import likely_task_name

REPORT: JsonObject = {"after": ["module1Received"], "run": "my_app.tasks.Report"}


def errors(file: JsonObject | str) -> list[Finding]:
    text = file if isinstance(file, str) else json.dumps(file, ensure_ascii=False)
    config, findings = tasksfile.check(text, name="tasks.json")
    found = [one for one in findings if one.severity == "error"]
    assert (config is None) == bool(found)
    return found


def the_error(file: JsonObject | str) -> Finding:
    (found,) = errors(file)
    return found


def test_more_tasks_on_one_trigger_than_a_session_may_hold_are_an_error() -> None:
    file: JsonObject = {f"t_{n}": {"after": ["a", "b"], "run": "x"} for n in range(1_001)}
    found, _ = errors(file)
    assert (found.code, found.path) == ("beyond-bounds", "/t_0/after/0")
    assert found.message == (
        "`a` can never be folded, as 1,001 tasks use it: a session holds at most 1,000 unresolved instances "
        "($bounds.unresolvedInstances)"
    )
    del file["t_7"]
    assert errors(file) == []


def test_a_trigger_that_only_abandons_may_be_used_by_any_number_of_tasks() -> None:
    assert errors({f"t_{n}": {"after": [f"a{n}"], "unless": ["no"], "run": "x"} for n in range(1_001)}) == []


def test_more_names_in_one_list_than_a_session_keeps_are_an_error() -> None:
    names: list[Json] = [f"n{n}" for n in range(1_001)]
    assert the_error({"t": {"after": names, "run": "x"}}).code == "too-many-names"
    assert the_error({"t": {"after": ["a"], "unless": names, "run": "x"}}).code == "too-many-names"
    assert errors({"t": {"after": names[1:], "run": "x"}}) == []


@pytest.mark.parametrize(
    ("bounds", "path", "says"),
    [
        ({"stateBytes": 100}, "/t/after/0", "$bounds.stateBytes"),
        ({"commandBytes": 400}, "/t", "$bounds.commandBytes"),
        ({"decidedBytes": 400}, "/t", "$bounds.decidedBytes"),
    ],
)
def test_bounds_that_nothing_can_keep_are_an_error(bounds: JsonObject, path: str, says: str) -> None:
    task: JsonObject = {"after": ["a", "b"], "run": "x", "withParams": {"a": {"x": "y" * 200}}}
    found = errors({"$bounds": bounds, "t": task})[0]
    assert (found.code, found.path) == ("beyond-bounds", path)
    assert says in found.message


@pytest.mark.parametrize(
    "after",
    [
        [{"any": [{"trigger": "a", "count": 2}, "b"]}],  # the second way fits
        [{"trigger": "a", "where": "has(data.x)"}, "b"],  # what it needs is not known
        [{"trigger": "a", "key": "data.k", "count": 2}],
    ],
)
def test_a_task_that_some_events_can_satisfy_is_within_bounds(after: list[Json]) -> None:
    task: JsonObject = {"after": after, "run": "x", "withParams": {"a": {"x": "y" * 200}}}
    assert errors({"$bounds": {"commandBytes": 600}, "t": task}) == []


@pytest.mark.parametrize(
    "after",
    [
        [{"atLeast": 1, "of": [["a", "b"], ["a", "c"]]}],
        [{"sequence": ["b", "a"]}],
        [{"trigger": "a", "count": 3}],
    ],
)
def test_a_task_that_no_events_can_satisfy_is_beyond_bounds(after: list[Json]) -> None:
    task: JsonObject = {"after": after, "run": "x", "withParams": {"a": {"x": "y" * 200}}}
    found = the_error({"$bounds": {"commandBytes": 450}, "t": task})
    assert (found.code, found.path) == ("beyond-bounds", "/t")


def test_tasks_that_filter_a_trigger_do_not_all_use_it() -> None:
    leaf: Json = {"trigger": "a", "where": "data.kind == 'x'"}
    assert errors({f"t_{n}": {"after": [leaf, "b"], "run": "x"} for n in range(1_000)}) == []
    file: JsonObject = {f"t_{n}": {"after": [leaf, f"b{n}"], "run": "x"} for n in range(1_001)}
    assert errors(file) == []


@pytest.mark.parametrize(
    ("run", "likely"),
    [
        ("my_app/tasks/Report.py", "my_app.tasks.Report"),
        ("./my_app/tasks.py:Report", "my_app.tasks.Report"),
        ("my_app.tasks.Report()", "my_app.tasks.Report"),
        (" my_app.tasks.Report", "my_app.tasks.Report"),
        ("the report", None),
        ("{task}", None),
        ("my_app..Report", None),
        ("Report.", "Report"),
        ("my_app.tasks:app", None),
        ("tasks:app", None),
        ("my_app:celery", None),
        ("my_app.tasks:Report", "my_app.tasks.Report"),
        ("tasks.py", None),
        ("$x", None),
        ("my_app.$task", None),
        ("a.b.__main__", None),
    ],
)
def test_a_path_a_blank_or_a_bracket_is_no_tasks_name(run: str, likely: str | None) -> None:
    assert likely_task_name(run) == likely
    found = the_error({"t": {"after": ["a"], "run": run}})
    assert (found.code, found.path) == ("bad-run", "/t/run")
    assert (likely or "such as `my_app.tasks.Report`") in found.message


def test_a_name_with_an_invisible_character_is_no_tasks_name() -> None:
    assert "<U+200B>" in the_error({"t": {"after": ["a"], "run": "x\u200b"}}).message


@pytest.mark.parametrize(
    "run",
    [
        "x",
        "my_app.tasks.Report",
        "reports-daily",
        "ns:task",
        "ns:a.task",
        "app:py",
        "a.__main__.f",
        "k\u00fcche.bericht",
        "a_1",
    ],
)
def test_other_names_are_allowed(run: str) -> None:
    assert errors({"t": {"after": ["a"], "run": run}}) == []


def test_a_file_in_force_is_read_whatever_is_refused_since() -> None:
    text = '{"t": {"after": ["a"], "run": "my_app/tasks.py"}}'
    assert errors(text) != []
    assert tasksfile.read(text, name="in force").tasks[0].run == "my_app/tasks.py"


@pytest.mark.parametrize("held", [{"t_report": REPORT}, [REPORT]])
def test_tasks_under_a_key_are_told_where_they_stand(held: Json) -> None:
    found = the_error({"tasks": held})
    assert (found.code, found.path) == ("wrapped-tasks", "/tasks")
    assert "leave `tasks` and its brackets out" in found.message


def test_a_task_may_be_called_tasks() -> None:
    assert errors({"tasks": REPORT}) == []


@pytest.mark.parametrize(
    "text",
    [
        "t_report:\n  after:\n    - module1Received\n  run: my_app.tasks.Report\n",
        "# tasks\n\nt_report: {after: [module1Received], run: my_app.tasks.Report}\n",
        "---\nt_report:\n",
        "t_report:\r\n  run: x\r\n",
    ],
)
def test_yaml_is_one_error_that_shows_json(text: str) -> None:
    found = the_error(text)
    assert found.code == "yaml"
    assert '`{"t_report": {"after": ["…"], "run": "…"}}`' in found.message


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("if", '`{"trigger": "a", "where": "data.score > 3"}`'),
        ("at", "have cron or Celery beat fire a trigger"),
        ("or", '`{"any": ["a", "b"]}`'),
        ("times", '`{"trigger": "a", "count": 3}`'),
        ("quorum", '`{"atLeast": 2, "of": ["a", "b", "c"]}`'),
        ("inOrder", '`{"sequence": ["a", "b"]}`'),
        ("forEach", '"each": {"of": "a", "list": "data.ids"}'),
        ("groupBy", '`{"trigger": "a", "key": "data.id", "count": 3}`'),
        ("alias", '`{"trigger": "a", "as": "first"}`'),
    ],
)
def test_keys_that_people_try_are_answered(key: str, says: str) -> None:
    found = the_error({"t": {"after": ["a"], "run": "x", key: "b"}})
    assert (found.code, found.path) == ("unknown-key", f"/t/{key}")
    assert says in found.message
    tried: JsonObject = {key: "b"}
    places: list[JsonObject] = [{"after": ["a", tried]}, {"after": tried}, {"after": [], "andEvery": tried}]
    for place in places:
        found = the_error({"t": {"run": "x", **place}})
        assert found.code == "unknown-key"
        assert says in found.message


@pytest.mark.parametrize("key", [*LEAF_KEYS, *GROUP_KEYS])
def test_keys_of_conditions_beside_after_are_told_where_they_belong(key: str) -> None:
    found = the_error({"t": {"after": ["a"], "run": "x", key: "b"}})
    assert (found.code, found.path) == ("unknown-key", f"/t/{key}")
    assert f"`{key}`: {INSTEAD[key]}" in found.message


def test_every_answer_is_a_condition_that_is_read() -> None:
    answers = {found for says in INSTEAD.values() for found in re.findall(r"`(\{.*?\})`(?:$|[,;])", says)}
    assert len(answers) > 6
    for answer in answers:
        after = f'["a", {answer}]' if '"of": "a"' in answer else f"[{answer}]"
        assert errors(f'{{"t": {{"after": {after}, "run": "x"}}}}') == []


@pytest.mark.parametrize(
    ("key", "like"), [("If", "if"), ("OR", "or"), ("anyof", "anyOf"), ("Cron", "cron"), ("Times", "times")]
)
def test_keys_that_people_try_are_answered_in_any_case(key: str, like: str) -> None:
    places: list[JsonObject] = [
        {"after": ["a"], key: "b"},
        {"after": [{key: "b"}]},
        {"after": [], "andEvery": {key: "b"}},
    ]
    for place in places:
        found = the_error({"t": {"run": "x", **place}})
        assert f"`{key}`" in found.message
        assert found.message.endswith(INSTEAD[like])


def test_a_key_that_there_never_is_is_answered_in_any_case() -> None:
    found = the_error({"t": {"after": ["a"], "run": "x", "ontimeout": "1h"}})
    assert (found.code, found.path) == ("unknown-key", "/t/ontimeout")
    assert found.message == f"there is no key `ontimeout`: {INSTEAD['onTimeout']}"


@pytest.mark.parametrize(
    ("key", "value"), [("repeat", '{"every": "1d", "max": 3}'), ("priority", "5"), ("repeat", "true")]
)
def test_a_key_that_extras_kept_once_means_nothing_in_a_file_in_force(key: str, value: str) -> None:
    """The first release kept these keys without a meaning. A new file with them cannot be applied."""
    text = f'{{"$extras": "keep", "t": {{"after": ["a"], "run": "x", "{key}": {value}}}}}'
    found = the_error(text)
    assert (found.code, found.path) == ("unsupported-key", f"/t/{key}")
    assert f"or name your own key `x-{key}`" in found.message
    config = tasksfile.read(text, name="tasks.json")
    assert (config.tasks[0].repeat, config.tasks[0].priority) == (None, None)
    assert config.tasks[0].extras == {key: json.loads(value)}
    assert config.fold_version == FOLD_VERSION
    assert tasksfile.read(tasksfile.encode(config), name="again").tasks == config.tasks


def test_an_unclosed_brace_points_at_the_task_left_open() -> None:
    found = the_error("""{
  "t_one": {"after": ["a"], "run": "x"},
  "t_two": {
    "after": ["b"],
    "run": "x",
  "t_three": {"after": ["c"], "run": "x"},
  "t_four": {"after": ["d"], "run": "x"}
}
""")
    assert (found.line, found.column, found.path, found.code) == (3, 12, "/t_two", "unclosed-bracket")
    assert found.message == "the `{` of `t_two` is never closed: `t_three` at 6:3 begins inside of it"


def test_each_unclosed_brace_points_at_its_own_task() -> None:
    found = errors("""{
  "t_one": {"after": ["a"], "run": "x",
  "t_two": {"after": ["b"], "run": "x", "withParams": {"b": {"n": 1},
  "t_three": {"after": ["c"], "run": "x"}
}}
""")
    assert [(one.line, one.path, one.code) for one in found] == [
        (2, "/t_one", "unclosed-bracket"),
        (3, "/t_two", "unclosed-bracket"),
    ]


def test_a_brace_of_the_last_task_is_told_from_that_of_the_file_by_its_place() -> None:
    found = the_error("""{
  "t_one": {"after": ["a"], "run": "x"},
  "t_two": {
    "after": ["b"],
    "run": "x"
}
""")
    assert (found.line, found.column, found.path) == (3, 12, "/t_two")
    assert found.message == (
        "the `{` of `t_two` is never closed: the `}` at 6:1 stands where the file's own does"
    )
    found = the_error("""{
  "t_two": {
    "after": ["b"],
    "run": "x"
  }
""")
    assert (found.line, found.column, found.path) == (1, 1, "")


def test_a_task_that_lacks_a_key_is_seen_within_the_one_left_open() -> None:
    found = errors("""{
  "t_two": {
    "after": ["b"], "run": "x",
  "t_three": {"after": ["c"]}
}
""")
    assert [(one.code, one.path) for one in found] == [
        ("unclosed-bracket", "/t_two"),
        ("missing-key", "/t_three"),
    ]


def test_a_brace_that_only_the_file_lacks_is_the_files() -> None:
    found = the_error('{"t_one": {"after": ["a"], "run": "x"}')
    assert (found.column, found.path, found.code) == (1, "", "unclosed-bracket")
