"""A tasks file that was read, and the history of those in force."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from triggerstream.core.ids import AppId, ConfigHash, TaskName, TriggerName
from triggerstream.core.tasks import (
    NEVER_APPLIED,
    NO_CONFIGURATION,
    AppliedConfiguration,
    Configuration,
    PastConfiguration,
    Rules,
    Task,
    plain_task,
)

APP = AppId("app")


def triggers(*names: str) -> tuple[TriggerName, ...]:
    return tuple(map(TriggerName, names))


def task(
    name: str, *after: str, unless: tuple[str, ...] = (), and_every: str | None = None, run: str = "r"
) -> Task:
    return plain_task(
        name=TaskName(name),
        run=run,
        after=triggers(*after),
        unless=triggers(*unless),
        and_every=None if and_every is None else TriggerName(and_every),
    )


def configuration(text: str, *tasks: Task) -> Configuration:
    return Configuration(hash=ConfigHash(f"hash of {text}"), text=text, tasks=tasks)


def test_task_needs_each_trigger_once_in_the_files_order() -> None:
    shown = task("t", "b", "a", "b", unless=("x", "y"), and_every="c")
    assert shown.needs == ("b", "a", "c")
    assert shown.after.names == {"a", "b", "c"}
    assert shown.unless_triggers == ("x", "y")
    assert (shown.every, shown.and_every, shown.after_triggers) == ("c", "c", ("b", "a"))
    assert task("t", "a", and_every="a").needs == ("a",)
    assert task("t", and_every="a").needs == ("a",)
    assert task("t", "a").needs == ("a",)


def test_configuration_finds_tasks_by_name_by_place_and_by_trigger() -> None:
    t, u, v = task("t", "a", "b"), task("u", "c", unless=("a",)), task("d", "d", unless=("d",))
    config = configuration("{}", t, u, v)
    assert config.by_name == {"t": t, "u": u, "d": v}
    assert config.places == {"t": 0, "u": 1, "d": 2}
    users = {
        str(trigger): [
            (use.task, *([slot.name for slot in slots] for slots in (use.after, use.unless))) for use in uses
        ]
        for trigger, uses in config.users.items()
    }
    assert users == {
        "a": [(t, ["a"], []), (u, [], ["a"])],
        "b": [(t, ["b"], [])],
        "c": [(u, ["c"], [])],
        "d": [(v, ["d"], ["d"])],
    }
    assert config.among(map(TaskName, ("d", "other", "t"))) == [t, v]


def test_size_of_a_configuration_is_that_of_its_text_in_bytes() -> None:
    assert AppliedConfiguration(config=configuration('{"ä": 1}'), offset=0, arrival_us=0).size == 9


def applied(number: int, *, offset: int) -> AppliedConfiguration:
    config = configuration(f"file {number}")
    return AppliedConfiguration(config=config, offset=offset, arrival_us=1_000 + offset, number=number)


FIRST, SECOND, THIRD = applied(1, offset=3), applied(2, offset=7), applied(3, offset=9)
RULES = Rules(app=APP, history=(NEVER_APPLIED, FIRST, SECOND, THIRD))


def test_past_configuration_has_all_facts_of_the_applied_one() -> None:
    past = PastConfiguration.of(SECOND, read=lambda: SECOND.config)
    facts = (past.hash, past.offset, past.arrival_us, past.number, past.size, past.config)
    assert facts == ("hash of file 2", 7, 1_007, 2, 6, SECOND.config)


def test_rules_without_a_configuration_have_the_empty_one_in_force() -> None:
    rules = Rules(app=APP)
    assert rules.history == (NEVER_APPLIED,)
    assert rules.current is NEVER_APPLIED
    assert (NEVER_APPLIED.config, NEVER_APPLIED.offset, NEVER_APPLIED.number) == (NO_CONFIGURATION, -1, 0)


def test_configuration_in_force_is_the_last_one_also_if_it_is_parsed_only_now() -> None:
    assert RULES.current is THIRD
    past = PastConfiguration.of(THIRD, read=lambda: THIRD.config)
    assert Rules(app=APP, history=(FIRST, past)).current == THIRD


@pytest.mark.parametrize(
    ("offset", "met", "missed"),
    [
        (-1, NEVER_APPLIED, [FIRST, SECOND, THIRD]),
        (2, NEVER_APPLIED, [FIRST, SECOND, THIRD]),
        (3, FIRST, [SECOND, THIRD]),
        (6, FIRST, [SECOND, THIRD]),
        (7, SECOND, [THIRD]),
        (9, THIRD, []),
        (99, THIRD, []),
    ],
)
def test_session_has_met_the_last_configuration_up_to_its_offset(
    offset: int, met: AppliedConfiguration, missed: list[AppliedConfiguration]
) -> None:
    assert RULES.met(offset) == met
    assert RULES.missed(offset) == missed


def test_session_older_than_the_history_has_met_no_configuration() -> None:
    assert Rules(app=APP, history=(SECOND, THIRD)).met(6) is NEVER_APPLIED


def test_configuration_is_applied_after_the_others() -> None:
    rules = Rules(app=APP, history=(FIRST,)).apply(SECOND)
    assert rules == Rules(app=APP, history=(FIRST, SECOND))
    assert rules.app == APP
    assert rules.current is SECOND


def test_configurations_that_every_session_is_past_are_forgotten() -> None:
    assert RULES.forget(-1) is RULES
    assert RULES.forget(7) == Rules(app=APP, history=(SECOND, THIRD))
    assert RULES.forget(8) == Rules(app=APP, history=(THIRD,))
    assert RULES.forget(99) == Rules(app=APP, history=(THIRD,))
    assert RULES.forget(7).app == APP


def test_past_configurations_are_shelved_and_read_again_by_their_own_reader() -> None:
    read: list[AppliedConfiguration] = []

    def reader(one: AppliedConfiguration) -> Callable[[], Configuration]:
        def noted() -> Configuration:
            read.append(one)
            return one.config

        return noted

    def unloaded(rules: Rules, below: int | None = None) -> list[str]:
        after = rules.unload_past(reader, below=below)
        assert after.app == APP
        assert [one.offset for one in after.history] == [one.offset for one in rules.history]
        assert [one.config for one in after.history] == [one.config for one in rules.history]
        return [f"{one.number}" for one in after.history if isinstance(one, PastConfiguration)]

    assert unloaded(RULES) == ["1", "2"]
    assert read == [FIRST, SECOND]
    assert unloaded(RULES, 99) == ["1", "2"], "never the one in force"
    assert unloaded(RULES, 8) == ["1", "2"]
    assert unloaded(RULES, 7) == ["1"]
    assert RULES.unload_past(lambda one: lambda: one.config, below=3) is RULES
    from_the_first = Rules(app=APP, history=(applied(1, offset=0), SECOND))
    assert unloaded(from_the_first) == ["1"]
    assert Rules(app=APP, history=(NEVER_APPLIED, FIRST)).unload_past(
        lambda one: lambda: one.config
    ).history == (
        NEVER_APPLIED,
        FIRST,
    )
    half = RULES.unload_past(lambda one: lambda: one.config, below=7)
    again = half.unload_past(lambda one: lambda: one.config)
    assert again.history[1] is half.history[1], "unloaded once"
    assert again.unload_past(lambda one: lambda: one.config) is again
