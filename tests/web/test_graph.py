"""The drawing of a configuration: what is where."""

from __future__ import annotations

import json

import pytest

from triggerstream.core.ids import Json, JsonObject, TaskName, TriggerName
from triggerstream.core.tasks import Task, plain_task
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.web.graph import MOST, Box, Drawing, draw_file, drawing
from triggerstream.wire import tasksfile


def task(name: str, *after: str, every: str | None = None, unless: tuple[str, ...] = ()) -> Task:
    return plain_task(
        name=TaskName(name),
        run=f"app.{name}",
        after=[TriggerName(one) for one in after],
        and_every=None if every is None else TriggerName(every),
        unless=[TriggerName(one) for one in unless],
    )


def drawn(*tasks: Task) -> Drawing:
    found = drawing(tasks)
    assert found is not None
    return found


def read(after: list[Json], **more: Json) -> Drawing:
    """The drawing of one task `t`."""
    text = json.dumps({"t": {"after": after, "run": "app.t", **more}})
    return drawn(*tasksfile.read(text, name="tasks.json").tasks)


def parts(found: Drawing) -> dict[str, str]:
    """The small boxes: their words, and in full."""
    return {box.text: box.name for box in found.boxes if box.kind == "part"}


def boxes(found: Drawing) -> dict[str, Box]:
    return {box.name: box for box in found.boxes}


def test_what_is_waited_for_lies_left_of_who_waits() -> None:
    found = drawn(task("t", "a", "b"), task("u", "t", "b", unless=("no",)), task("v", every="u"))
    place = {name: box.x for name, box in boxes(found).items()}
    for arrow in found.arrows:
        target, *_, source = arrow.says.split()
        assert place[source] < place[target], arrow
    assert [arrow.kind for arrow in found.arrows] == ["after", "after", "after", "after", "unless", "every"]


def test_a_task_that_another_one_waits_for_is_drawn_once() -> None:
    found = boxes(drawn(task("t", "a"), task("u", "t")))
    assert {name: box.kind for name, box in found.items()} == {"a": "trigger", "t": "task", "u": "task"}


def test_boxes_do_not_overlap() -> None:
    found = drawn(*(task(f"t{n}", *(f"a{n * m % 7}" for m in range(4)), f"t{n - 1}") for n in range(1, 30)))
    for one in found.boxes:
        for other in found.boxes:
            apart = one.x + one.width <= other.x or one.y + one.height <= other.y
            apart = apart or other.x + other.width <= one.x or other.y + other.height <= one.y
            assert one is other or apart, (one, other)
        assert 0 <= one.x < one.x + one.width <= found.width
        assert 0 <= one.y < one.y + one.height <= found.height


@pytest.mark.parametrize("length", [1, 2, 200])
def test_tasks_that_wait_for_each_other_in_a_circle_are_drawn(length: int) -> None:
    found = drawn(*(task(f"t{n}", f"t{(n - 1) % length}") for n in range(length)))
    assert len(found.boxes) == length
    assert len(found.arrows) == length


def test_long_names_are_cut_and_stay_whole_in_the_title() -> None:
    (box, _) = drawn(task("t", "n" * 200)).boxes
    assert box.name == "n" * 200
    assert box.text == "n" * 25 + "…"


def test_each_arrow_ends_at_a_place_of_its_own_on_the_side_of_its_box() -> None:
    found = read(["a", "b", {"any": ["c", "d", "e"]}], unless=["no"])
    place = boxes(found)
    ends = [float(arrow.path.rpartition("C")[2].partition("H")[0].split()[-1]) for arrow in found.arrows]
    box = {"a": "t", "b": "t", "t: any": "t", "no": "t", "c": "t: any", "d": "t: any", "e": "t: any"}
    assert len(ends) == len(set(ends)) == len(box)
    sides = [(one.y, one.y + one.height) for one in (place["t"], place["t: any"])]
    inside = [sum(top < end < bottom for end in ends) for top, bottom in sides]
    assert inside[0] >= 4  # the box in the middle may lie at the same height
    assert inside[1] >= 3


def test_none_and_too_many_are_not_drawn() -> None:
    assert drawing([]) is None
    assert drawing([task(f"t{n}", "a") for n in range(MOST)]) is None


def test_conditions_that_are_combined_are_small_boxes() -> None:
    found = read(
        ["a", {"any": ["b", ["c", "d"]]}, {"atLeast": 2, "of": ["x", "y", "z"]}], unless=[["a", "b"]]
    )
    assert parts(found) == {"any": "t: any", "all": "t: all", "2 of 3": "t: 2 of 3"}
    assert len([box for box in found.boxes if box.text == "all"]) == 2
    place = boxes(found)
    assert place["b"].x < place["t: any"].x < place["t"].x
    assert {arrow.kind for arrow in found.arrows if "abandoned" in arrow.says} == {"unless"}


def test_what_a_leaf_asks_of_its_trigger_is_a_small_box() -> None:
    after: list[Json] = [
        {"trigger": "a", "where": "data.score > 3", "as": "x"},
        {"trigger": "a", "count": 2, "key": "data.by.id"},
        {"trigger": "b", "key": "data.k", "each": {"of": "c", "list": "data.l"}},
        {"trigger": "d", "as": "e"},
        "c",
    ]
    found = read(after)
    assert parts(found) == {
        "data.score > 3": "t: a as x data.score > 3",
        "×2 · by data.by.id": "t: a ×2 · by data.by.id",
        "each of c · by data.k": "t: b each of c · by data.k",
    }
    assert [box.name for box in found.boxes if box.kind == "trigger"] == ["a", "b", "d", "c"]


def test_a_timeout_comes_from_the_task_that_has_waited_too_long() -> None:
    late: JsonObject = {"trigger": "t_ship.timeout", "as": "late"}
    given: Json = {**late, "where": "has(data.placed)"}
    file: Json = {
        "t_ship": {"after": ["placed", "paid"], "run": "app.Ship", "deadline": "1d12h"},
        "t_cancel": {"after": [late], "run": "app.Cancel"},
        "t_remind": {"after": [given], "unless": ["paid"], "run": "app.Remind"},
        "t_other": {"after": ["t_cancel.timeout"], "run": "app.Other"},
    }
    found = drawn(*tasksfile.read(json.dumps(file), name="tasks.json").tasks)
    assert parts(found) == {
        "not in 1d12h": "t_ship.timeout: t_ship not in 1d12h",
        "has(data.placed)": "t_remind: t_ship.timeout as late has(data.placed)",
    }
    place = boxes(found)
    between = place["t_ship.timeout: t_ship not in 1d12h"]
    assert place["t_ship"].x < between.x < place["t_cancel"].x
    triggers = [box.name for box in found.boxes if box.kind == "trigger"]
    assert triggers == ["placed", "paid", "t_cancel.timeout"]
    assert [arrow.says for arrow in found.arrows if "t_ship.timeout" in arrow.says] == [
        "t_cancel waits for t_ship.timeout",
        "t_ship.timeout: t_ship not in 1d12h",
        "t_remind waits for t_ship.timeout",
        "t_remind waits for t_ship.timeout",
    ]


def test_a_box_says_that_its_task_is_paused_or_limited() -> None:
    file: Json = {
        "t": {"after": ["a"], "run": "app.T", "paused": True, "maxConcurrency": 2, "delay": "1h"},
        "u": {"after": ["a"], "run": "app.U"},
    }
    place = boxes(drawn(*tasksfile.read(json.dumps(file), name="tasks.json").tasks))
    assert place["t"].limits == "paused · at most 2 at a time · delay 1 h"
    assert place["t"].shown_limits == "paused · at most 2 at a time · de…"
    assert place["t"].height > place["u"].height
    assert place["u"].limits == ""


def test_a_sequence_numbers_its_triggers() -> None:
    found = read(
        [{"sequence": ["a", {"trigger": "b", "count": 2}, {"trigger": "a", "as": "x"}]}], andEvery="x"
    )
    assert parts(found) == {
        "in order": "t: in order",
        "1.": "t: a 1.",
        "2. ×2": "t: b 2. ×2",
        "3.": "t: a as x 3.",
    }
    assert [arrow.says for arrow in found.arrows if arrow.kind == "every"] == ["t runs with every a"] * 2


def test_a_leaf_in_two_places_is_one_box() -> None:
    high: Json = {"trigger": "a", "where": "data.x", "as": "x"}
    found = read([{"any": [[high, "b"], [high, "c"]]}])
    assert list(parts(found)) == ["data.x", "all", "any"]
    assert len([arrow for arrow in found.arrows if arrow.says == "t waits for a"]) == 3


def test_long_expressions_are_cut_and_stay_whole_in_the_title() -> None:
    found = read([{"trigger": "a", "where": f"data.kind == '{'x' * 200}'"}])
    ((text, says),) = parts(found).items()
    assert text == "data.kind == 'xxxxxxxxxxx…"
    assert says.endswith(f"{'x' * 200}'")


def test_a_file_that_this_version_cannot_read_is_not_drawn() -> None:
    configurations = ConfigurationCache()
    assert draw_file('{"t": {"after": ["a"], "run": "x", "fromTheFuture": 1}}', configurations) is None
    assert draw_file("no JSON", configurations) is None
    assert draw_file('{"t": {"after": ["a"], "run": "x"}}', configurations) is not None
