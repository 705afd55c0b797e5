"""The tasks file: what is read, what is said about what cannot be, and that it is written back equal."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from triggerstream.core.errors import ConfigError
from triggerstream.core.ids import ConfigHash, Json, JsonObject, TaskName, TriggerName
from triggerstream.core.tasks import (
    FOLD_VERSION,
    LANGUAGE_VERSION,
    AppliesTo,
    Bounds,
    Configuration,
    Debounce,
    Repeat,
    Retry,
    Task,
    UnlessFrom,
    plain_task,
)
from triggerstream.wire.tasksfile import check, encode, read
from triggerstream.wire.tasksfile.task_keys import TASK_KEYS
from triggerstream.wire.tasksfile.values import meant_duration

SURVEY = """{
  // A survey's steps are processed together.
  "t_processStepData": {
    "after": ["module1Received", "module4Received"], /* in any order */
    "run": "my_app.tasks.ProcessStepData",
  },
}
"""
SECOND = 1_000_000


def config_of(text: str | bytes) -> Configuration:
    config, findings = check(text, name="tasks.json")
    assert config is not None, findings
    return config


def said(text: str | bytes) -> list[str]:
    _, findings = check(text, name="tasks.json")
    return [f"{f.severity} {f}" for f in findings]


def one(body: str) -> str:
    """A file with one task that holds ``body`` beside a trigger and a Celery task."""
    return f'{{"t_report": {{"after": ["a"], "run": "x", {body}}}}}'


def test_the_survey_of_the_readme_is_read() -> None:
    config, findings = check(SURVEY, name="tasks.json")
    assert findings == ()
    assert config is not None
    assert config.tasks == (
        plain_task(
            name=TaskName("t_processStepData"),
            run="my_app.tasks.ProcessStepData",
            after=(TriggerName("module1Received"), TriggerName("module4Received")),
        ),
    )
    assert config.bounds == Bounds()


def test_hash_is_that_of_the_bytes() -> None:
    for data in (SURVEY.encode(), b"\xef\xbb\xbf" + SURVEY.encode()):
        config = config_of(data)
        assert config.hash == sha256(data).hexdigest()
        assert config.text.encode() == data
        assert config_of(data.decode()) == config


def test_file_that_no_event_can_hold_is_refused() -> None:
    task = '{"t": {"after": ["a"], "run": "r"} /*%s*/}'
    assert said(task % ("x" * 1_000_000)) == []
    assert said(task % ("x" * 1_050_000)) == [
        "error 1:1: the file has 1,051,076 bytes as an event: at most 1,048,576 can be applied"
    ]


def test_every_key_becomes_a_field() -> None:
    text = """{
      "$schema": "tasks.schema.json",
      "$bounds": {"triggerNames": 10, "stateBytes": 1000},
      "x-notes": [1],
      "t_score": {
        "after": ["a", "b"], "run": "r", "unless": ["c"], "andEvery": "d", "using": "celery",
        "withParams": {"a": {"k": [1, {"l": null}]}, "language": "en"},
        "retry": {"max": 3, "backoff": "10s", "factor": 2.5, "maxBackoff": "5m"},
        "queue": "q", "expires": "1h30m", "x-owner": {"team": 1},
        "deadline": "1d", "debounce": {"quiet": "5m", "atMost": "1h"}, "repeat": {"every": "12h", "max": 2},
        "priority": 0, "maxConcurrency": 4, "paused": true,
        "unlessFrom": "instance", "appliesTo": "existing"
      }
    }"""
    config = config_of(text)
    assert config.bounds == Bounds(trigger_names=10, state_bytes=1000)
    (task,) = config.tasks
    assert task == replace(
        plain_task(
            name=TaskName("t_score"),
            run="r",
            after=(TriggerName("a"), TriggerName("b")),
            unless=(TriggerName("c"),),
            and_every=TriggerName("d"),
            with_params={"a": {"k": [1, {"l": None}]}, "language": "en"},
            retry=Retry(max=3, backoff_us=10 * SECOND, factor=2.5, max_backoff_us=300 * SECOND),
            queue="q",
            expires_us=5_400 * SECOND,
            extras={"x-owner": {"team": 1}},
        ),
        unless_from=UnlessFrom.INSTANCE,
        applies_to=AppliesTo.EXISTING,
        deadline_us=86_400 * SECOND,
        debounce=Debounce(quiet_us=300 * SECOND, at_most_us=3_600 * SECOND),
        repeat=Repeat(every_us=43_200 * SECOND, max=2),
        priority=0,
        max_concurrency=4,
        paused=True,
    )
    again = config_of(encode(config))
    assert (again.tasks, again.bounds) == (config.tasks, config.bounds)
    # `debounce` makes another condition of the same leaves.
    bare = Task(name=task.name, run=task.run, after=task.after)
    names = [field.name for field in fields(Task) if field.init]
    missing = [name for name in names if getattr(task, name) == getattr(bare, name)]
    # `within` and `delay` do not go together with `debounce`.
    (apart,) = config_of(one('"within": "1m", "delay": "2m", "debounce": null')).tasks
    assert (apart.within_us, apart.delay_us) == (60 * SECOND, 120 * SECOND)
    missing = [name for name in missing if name not in ("within_us", "delay_us")]
    assert missing == ["name", "run"], "give each further field of a task a key above"


def test_null_equals_leaving_out() -> None:
    keys = [key for key in TASK_KEYS if key not in ("after", "run")]
    nulls = ", ".join(f'"{key}": null' for key in keys)
    plain = config_of('{"t_report": {"after": ["a"], "run": "x"}}')
    assert config_of(one(nulls)).tasks == plain.tasks
    assert config_of(one('"unless": []')).tasks == plain.tasks
    retry = '"retry": {"max": 2, "backoff": null, "factor": null, "maxBackoff": null}'
    assert config_of(one(retry)).tasks[0].retry == Retry(max=2)


def test_tasks_keep_the_order_of_the_file() -> None:
    names = ["t_c", "t_a", "10", "t_b", "9"]
    config = config_of(json.dumps({name: {"after": ["a"], "run": "x"} for name in names}))
    assert [task.name for task in config.tasks] == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", '1:1: tasks.json must hold an object of task name → task: `{"t_report": {…}}`'),
        (
            '{"t_report": {"after": "a", "run": "x"}}',
            '1:24 /t_report/after: must be a list of triggers, not a string: write `["a"]`',
        ),
        (one('"rum": "b"'), "1:43 /t_report/rum: unknown key `rum`: did you mean `run`?"),
        (one('"unles": ["b"]'), "1:43 /t_report/unles: unknown key `unles`: did you mean `unless`?"),
        (
            one('"and_every": "b"'),
            "1:43 /t_report/and_every: unknown key `and_every`: did you mean `andE",
        ),
        (one('"x_note": 1'), "1:43 /t_report/x_note: unknown key `x_note`: the keys of a task are"),
        (one('"onTimeout": "x"'), "1:43 /t_report/onTimeout: there is no key `onTimeout`: with `deadline`"),
        (
            one('"unless": "b"'),
            '1:53 /t_report/unless: must be a list of triggers, not a string: write `["b"]`',
        ),
        (
            one('"andEvery": ["b"]'),
            '1:55 /t_report/andEvery: must be one trigger\'s name, not a list: write `"b"`',
        ),
        (
            one('"unless": [{"ny": ["b"]}]'),
            "1:55 /t_report/unless/0/ny: unknown key `ny`: did you mean `any`?",
        ),
        (one('"expires": 30'), "1:54 /t_report/expires: must be a duration such as `10s`"),
        (one('"expires": "0s"'), "1:54 /t_report/expires: `0s` is not a duration"),
        (one('"delay": 30'), "1:52 /t_report/delay: must be a duration such as `10s`, `5m`, `36h`, `40d` or"),
        (one('"within": "0s"'), "1:53 /t_report/within: `0s` is not a duration"),
        (
            one('"deadline": "86400"'),
            "1:55 /t_report/deadline: `86400` is not a duration: write `86400s` for seconds",
        ),
        (one('"deadline": "0"'), "1:55 /t_report/deadline: `0` is not a duration: write days, hours"),
        (
            one('"deadline": "2M"'),
            "1:55 /t_report/deadline: `2M` is not a duration: write `2m` for minutes; there are no months",
        ),
        (one('"deadline": "soon"'), "1:55 /t_report/deadline: `soon` is not a duration: write days, hours"),
        (one('"deadline": "1 day"'), "1:55 /t_report/deadline: `1 day` is not a duration: write `1d`"),
        (
            one('"debounce": ["5m"]'),
            '1:55 /t_report/debounce: must be a duration, `"5m"`, or `{"quiet": "5m", "atMost": "1h"}`, not',
        ),
        (
            one('"debounce": {"atMost": "5m"}'),
            "1:55 /t_report/debounce: `quiet` is missing: how long no event",
        ),
        (
            one('"debounce": {"quiet": "5m", "atmost": "1h"}'),
            "1:71 /t_report/debounce/atmost: unknown key `atmost`: did you mean `atMost`?",
        ),
        (
            one('"repeat": "1d"'),
            '1:53 /t_report/repeat: must be an object, `{"every": "1d", "max": 3}`, not a string',
        ),
        (
            one('"repeat": {"every": "1d"}'),
            "1:53 /t_report/repeat: `max` is missing: how many further rounds",
        ),
        (
            one('"repeat": {"max": 3}'),
            "1:53 /t_report/repeat: `every` is missing: the time between two rounds",
        ),
        (
            one('"repeat": {"every": "1d", "max": 1001}'),
            "1:76 /t_report/repeat/max: must be from 1 to 1,000, not 1,001",
        ),
        (
            one('"repeat": {"every": "1d", "max": 3, "until": "b"}'),
            "1:79 /t_report/repeat/until: unknown key `until`: the keys of `repeat` are `every` and `max`",
        ),
        (one('"priority": 10'), "1:55 /t_report/priority: must be from 0 to 9, not 10"),
        (one('"priority": "5"'), "1:55 /t_report/priority: must be an integer from 0 to 9, not a string"),
        (one('"maxConcurrency": 0'), "1:61 /t_report/maxConcurrency: must be from 1 to 1,000, not 0"),
        (one('"paused": "true"'), "1:53 /t_report/paused: must be true or false, not a string"),
        (
            one('"debounce": "5m", "delay": "1h"'),
            "1:61 /t_report/delay: `delay` and `debounce` do not go together: a debounced task waits already",
        ),
        (
            one('"within": "5m", "debounce": "1h"'),
            "1:59 /t_report/debounce: `within` and `debounce` do not go together: write two tasks, one with",
        ),
        (one('"using": "airflow"'), '1:52 /t_report/using: there is no executor `airflow`: write `"celery"`'),
        (
            one('"withParams": {"a": 1}'),
            "1:63 /t_report/withParams/a: must be an object, not a number: it is merged under what",
        ),
        ('{"t_report": {"run": "x"}}', '1:2 /t_report: `after` is missing: write `"after": ["…"]`'),
        ('{"t_r": {"run": "x", "andEvery": "a"}}', '1:2 /t_r: `after` is missing: write `"after": []`'),
        (
            '{"t_report": {"after": ["a"]}}',
            "1:2 /t_report: `run` is missing: the registered name of a",
        ),
        (
            '{"t_r": {"after": [], "run": "x"}}',
            "1:19 /t_r/after: nothing arrives that could start the task: name at least one trigger, here or",
        ),
        (
            '{"t_r": {"after": ["a"], "run": "celery.chord"}}',
            "1:33 /t_r/run: tasks beginning with `celery.` are",
        ),
        ('{"triggerstream.x": {"after": ["a"], "run": "x"}}', "1:2 /triggerstream.x: names beginning with"),
        (
            '{"t_r": {"after": ["triggerstream.timer"], "run": "x"}}',
            "1:20 /t_r/after/0: names beginning with",
        ),
        ('{"$extra": "keep"}', "1:2 /$extra: unknown key `$extra`: did you mean `$extras`?"),
        ('{"$extras": "drop"}', '1:13 /$extras: must be `"keep"`, the only choice there is'),
        (
            '{"$bounds": {"triggernames": 1}}',
            "1:14 /$bounds/triggernames: unknown key `triggernames`: did you mean",
        ),
        (
            '{"$bounds": {"digests": 10001}}',
            "1:25 /$bounds/digests: must be from 1 to 10000, not 10001",
        ),
        ('{"$bounds": {"positions": 51}}', "1:27 /$bounds/positions: must be from 1 to 50, not 51"),
        (
            '{"$bounds": {"positions": 1.5}}',
            "1:27 /$bounds/positions: must be an integer from 1 to 50, not 1.5",
        ),
        (one('"run": "y"'), "1:43 /t_report/run: `run` stands twice in this object, first at 1:31"),
    ],
)
def test_an_error_says_what_and_where_and_what_would_be_right(text: str, expected: str) -> None:
    (line,) = said(text)
    assert line.startswith(f"error {expected}")


def test_all_findings_come_at_once_in_the_order_of_the_file() -> None:
    text = """{
      "t_a": {"after": "x", "run": "r", "unles": []},
      "t_b": {"after": ["a" "b-c"], "run": ""},
      "t_c": {"after": ["t_c"], "run": "r", "onTimeout": "x"},
    }"""
    _, findings = check(text, name="tasks.json")
    assert [(f.severity, f.code, f"{f.line}:{f.column}") for f in findings] == [
        ("error", "wrong-type", "2:24"),
        ("error", "unknown-key", "2:41"),
        ("error", "missing-comma", "3:29"),
        ("warning", "not-an-identifier", "3:29"),
        ("error", "wrong-value", "3:44"),
        ("warning", "never-starts", "4:25"),
        ("error", "unsupported-key", "4:45"),
    ]


def test_what_a_mistake_may_have_hidden_is_not_called_missing() -> None:
    assert said('{"t_a": {"after": ["a"]') == [
        "error 1:9 /t_a: `{` is never closed, nor is the one around it"
    ]
    for text in (
        '{"t_a": {"after": ["a"], "run": @}}',
        '{"t_a": {"after": 007, "run": "x"}}',
        '{"t_a": NaN}',
    ):
        assert len(said(text)) == 1


def test_unknown_keys_are_kept_where_the_file_says_so() -> None:
    text = '{"t_a": {"after": ["a"], "run": "x", "colour": 3, "unles": 1}, "$extras": "keep"}'
    assert config_of(text).tasks[0].extras == {"colour": 3, "unles": 1}
    assert said(text) == [
        "warning 1:51 /t_a/unles: `unles` is kept and means nothing: did you mean `unless`?"
    ]


def test_a_note_that_looks_like_a_task_is_pointed_out() -> None:
    text = '{"x-report": {"after": ["a"], "run": "x"}, "x-tests": [{}]}'
    assert config_of(text).tasks == ()
    assert said(text) == [
        "warning 1:2 /x-report: names beginning with `x-` are notes: this is no task and never runs"
    ]


def test_a_trigger_named_twice_is_a_warning() -> None:
    text = '{"t_a": {"after": ["a", "b", "a"], "run": "x"}}'
    assert config_of(text).tasks[0].needs == ("a", "b")
    (line,) = said(text)
    assert line.startswith(
        "warning 1:30 /t_a/after/2: `a` stands in this list already, at 1:20: for two of them "
    )


def test_members_of_retry_that_do_nothing_are_pointed_out() -> None:
    assert said(one('"retry": {"max": 1, "factor": 2}')) == [
        "warning 1:73 /t_report/retry/factor: has no effect without `backoff`: every attempt is made at once"
    ]
    (line,) = said(one('"retry": {"max": 1, "backoff": "10m", "maxBackoff": "10s"}'))
    assert "is shorter than `backoff`" in line


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1 day", "1d"),
        ("2 Weeks", "14d"),
        ("24 hours", "1d"),
        ("90min", "1h30m"),
        ("30m1h", "1h30m"),
        ("1h 30m", "1h30m"),
        ("1 day, 2 hours and 3 secs", "1d2h3s"),
        ("P1DT2H", "1d2h"),
        ("PT90M", "1h30m"),
        ("1.5d", "1d12h"),
        ("0.5 hours", "30m"),
        ("1.3s", None),
        ("1M", None),
        ("P1M", None),
        ("P", None),
        ("500ms", None),
        ("0 days", None),
        ("6 months", None),
        ("200000 weeks", None),
        ("1d,", None),
        ("", None),
    ],
)
def test_a_duration_in_other_words_is_recognised(text: str, meant: str | None) -> None:
    assert meant_duration(text) == meant


def test_what_does_not_arrive_is_a_delay() -> None:
    (line,) = said('{"t": {"after": [], "run": "x"}}')
    assert (
        "to run it if something does *not* arrive, name the start of the wait here, the thing in `unless`, "
        'the time in `delay`: `{"after": ["a"], "unless": ["b"], "delay": "1h"}`'
    ) in line


def test_a_debounce_whose_limit_is_no_longer_than_its_wait_is_pointed_out() -> None:
    for limit, how in (("5m", "as long as"), ("4m", "shorter than")):
        text = one(f'"debounce": {{"quiet": "5m", "atMost": "{limit}"}}')
        (line,) = said(text)
        assert line.startswith(f"warning 1:81 /t_report/debounce/atMost: is {how} `quiet`, so every wait is")


@pytest.mark.parametrize(
    ("key", "value", "is_list"),
    [
        ("within", "1h", False),
        ("debounce", "1h", False),
        ("deadline", "1h", True),
        ("delay", "1h", True),
        ("repeat", {"every": "1d", "max": 3}, True),
        ("priority", 0, True),
        ("maxConcurrency", 1, True),
        ("paused", True, True),
    ],
)
def test_a_file_with_a_key_of_time_or_place_is_refused_by_earlier_releases(
    key: str, value: Json, *, is_list: bool
) -> None:
    task: JsonObject = {"after": ["a", "b"], "run": "x"}
    assert config_of(json.dumps({"t": task})).fold_version == FOLD_VERSION
    config = config_of(json.dumps({"t": task | {key: value}}))
    assert config.fold_version == LANGUAGE_VERSION
    assert config.tasks[0].is_list == is_list, "of each trigger, the first event is taken"


def test_read_raises_with_all_findings() -> None:
    with pytest.raises(ConfigError) as caught:
        read('{"t_a": {"after": "x", "run": 3}}', name="tasks.json")
    assert len(caught.value.findings) == 2
    assert str(caught.value) == (
        'tasks.json:1:19 /t_a/after: must be a list of triggers, not a string: write `["x"]`'
        " (and 1 more: `triggerstream config check tasks.json`)"
    )


def test_read_takes_a_file_with_warnings() -> None:
    assert len(read('{"t_a": {"after": ["t_a"], "run": "x"}}', name="tasks.json").tasks) == 1


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: not name.startswith(("triggerstream.", "$", "x-"))
)
TRIGGERS = frozenset({"a", "b", "module1Received", "t_a", "t_b", "ü-1"})
triggers = st.sampled_from(sorted(TRIGGERS)).map(TriggerName)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False).filter(lambda number: number not in (float("inf"), float("-inf")))
)
values: st.SearchStrategy[Json] = st.recursive(
    scalars | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=4,
)
objects: st.SearchStrategy[JsonObject] = st.dictionaries(names, values, max_size=2)
durations = st.integers(1, 10**9).map(lambda seconds: seconds * SECOND)
retries = st.builds(
    Retry,
    max=st.integers(0, 1_000),
    backoff_us=st.just(0) | durations,
    factor=st.floats(1, 100),
    max_backoff_us=st.none() | durations,
)


waits: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"within_us": durations, "delay_us": durations}
) | st.fixed_dictionaries(
    {"debounce": st.builds(Debounce, quiet_us=durations, at_most_us=st.none() | durations)}
)
others: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "deadline_us": durations,
        "max_concurrency": st.integers(1, 1_000),
        "paused": st.booleans(),
    },
)
not_under_extras: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "repeat": st.builds(Repeat, every_us=durations, max=st.integers(1, 1_000)),
        "priority": st.integers(0, 9),
    },
)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Task, ...]:
    found = draw(st.lists(names.filter(lambda name: name not in {"t_a", "t_b"}), unique=True, max_size=2))
    own = draw(st.sampled_from(["x-n", "colour"]))
    return tuple(
        replace(
            plain_task(
                name=TaskName(name),
                run=draw(st.sampled_from(["x", "my_app.tasks.Report", "ü"])),
                after=tuple(draw(st.lists(triggers, min_size=1, max_size=4))),
                unless=tuple(draw(st.lists(triggers, max_size=2))),
                and_every=draw(st.none() | triggers),
                with_params={
                    **draw(objects.filter(lambda given: not TRIGGERS.intersection(given))),
                    **draw(st.dictionaries(triggers, objects, max_size=2)),
                },
                retry=draw(st.none() | retries),
                queue=draw(st.none() | names),
                expires_us=draw(st.none() | durations),
                extras=draw(
                    st.dictionaries(names.map(lambda key: f"x-{key}") | st.just(own), values, max_size=2)
                ),
            ),
            **draw(waits),
            **draw(others),
            **(draw(not_under_extras) if own == "x-n" else {}),
        )
        for name in found
    )


bounds = st.builds(Bounds, trigger_names=st.integers(1, 1_000), digests=st.integers(1, 10_000))


@pytest.mark.laws
@given(tasks(), bounds)
def test_what_is_written_is_read_back(written: tuple[Task, ...], limits: Bounds) -> None:
    names_of: set[str] = {task.name for task in written}
    assume(not any(task.and_every in names_of for task in written))  # one might start itself for ever
    config = Configuration(hash=ConfigHash(""), text="", tasks=written, bounds=limits)
    text = encode(config)
    again, findings = check(text, name="tasks.json")
    assert again is not None, findings
    assert (again.tasks, again.bounds) == (written, limits)
    assert encode(again) == text


@pytest.mark.laws
@given(st.dictionaries(st.sampled_from(["t_a", "t_b", "$bounds", "$extras", "x-n"]), values | objects))
def test_any_json_is_read_or_reported(value: JsonObject) -> None:
    config, findings = check(json.dumps(value), name="tasks.json")
    assert (config is None) == any(finding.severity == "error" for finding in findings)
