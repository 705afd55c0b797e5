"""Conditions of a tasks file: what they become, and every error with its place and what would be right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from tests.core.language_files import tasks_files
from triggerstream.core.conditions import AllOf, AnyOf, AtLeast, Each, Leaf, Node, Sequence
from triggerstream.core.ids import JsonObject, LeafName, TriggerName
from triggerstream.core.tasks import AppliesTo, Task, UnlessFrom
from triggerstream.wire.tasksfile import check, encode


def leaf(name: str, trigger: str | None = None, *, count: int | None = None) -> Leaf:
    return Leaf(name=LeafName(name), trigger=TriggerName(trigger or name), count=count)


A, B, C, D = map(leaf, "abcd")


def read(after: str, more: str = "") -> Task:
    config, findings = check(f'{{"t": {{"after": {after}, "run": "x"{more}}}}}', name="tasks.json")
    assert config is not None, findings
    (task,) = config.tasks
    return task


def said(text: str) -> list[str]:
    """The findings about ``text``; `¦` in it marks the place of the one that is expected, and is left out."""
    at = text.find("¦")
    text = text.replace("¦", "")
    _, findings = check(text, name="tasks.json")
    for finding in findings[:1]:
        if at >= 0:
            line, column = text[:at].count("\n") + 1, at - (text.rfind("\n", 0, at) + 1) + 1
            assert (finding.line, finding.column) == (line, column), str(finding)
    return [f"{finding.severity} [{finding.code}] {finding.path}: {finding.message}" for finding in findings]


def one(after: str, more: str = "") -> str:
    return f'{{"t": {{"after": {after}, "run": "x"{more}}}}}'


# ---- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "members"),
    [
        ('["a", "b"]', (A, B)),
        ('[["a", "b"], "c"]', (AllOf(members=(A, B)), C)),
        ('[{"all": ["a", "b"]}]', (AllOf(members=(A, B)),)),
        ('[{"any": ["a", ["b", "c"]]}]', (AnyOf(members=(A, AllOf(members=(B, C)))),)),
        ('[{"atLeast": 2, "of": ["a", "b", "c"]}]', (AtLeast(need=2, members=(A, B, C)),)),
        ('[{"of": ["a", "b"], "atLeast": 1}]', (AtLeast(need=1, members=(A, B)),)),
        ('[{"sequence": ["a", "b"]}, "c"]', (Sequence(leaves=(A, B)), C)),
        (
            '[{"sequence": [{"trigger": "a", "as": "x", "count": 2}, "a"]}]',
            (Sequence(leaves=(leaf("x", "a", count=2), A)),),
        ),
        ('[{"trigger": "a"}]', (A,)),
        ('[{"trigger": "a", "as": "first", "where": null, "key": null}]', (leaf("first", "a"),)),
        ('[{"trigger": "a", "count": 1000}]', (leaf("a", count=1_000),)),
        ('["a", "a"]', (A,)),
        (
            '[{"any": [["a", "b"], ["a", "c"]]}]',
            (AnyOf(members=(AllOf(members=(A, B)), AllOf(members=(A, C)))),),
        ),
    ],
)
def test_conditions_become_nodes(after: str, members: tuple[Node, ...]) -> None:
    assert read(after).after.root == AllOf(members=members)


def test_a_leaf_has_all_that_its_keys_say() -> None:
    after = """[
        {"trigger": "answered", "where": "data.score > 3", "as": "answers", "key": "data['line item'].id",
         "each": {"of": "asked", "list": "data.ids"}},
        "asked"
    ]"""
    answers = read(after).after.slots[LeafName("answers")].leaf
    assert answers.trigger == "answered"
    assert answers.where is not None
    assert answers.where.text == "data.score > 3"
    assert answers.key == ("line item", "id")
    assert answers.each == Each(of=LeafName("asked"), path=("ids",))


@pytest.mark.parametrize(
    ("after", "every", "members", "name"),
    [
        ('["a"]', '"b"', (A, B), "b"),
        ('["a", "b"]', '"a"', (A, B), "a"),
        ("[]", '"a"', (A,), "a"),
        ('[{"any": ["a", "b"]}]', '"b"', (AnyOf(members=(A, B)),), "b"),
        ('[{"trigger": "a", "as": "x"}]', '"x"', (leaf("x", "a"),), "x"),
        ('[{"trigger": "a", "as": "x"}]', '{"trigger": "a", "as": "x"}', (leaf("x", "a"),), "x"),
        ('["a"]', '{"trigger": "b", "count": 2}', (A, leaf("b", count=2)), "b"),
        ('[{"sequence": ["a", "b"]}]', '"b"', (Sequence(leaves=(A, B)),), "b"),
    ],
)
def test_and_every_marks_a_leaf_or_adds_one(
    after: str, every: str, members: tuple[Node, ...], name: str
) -> None:
    task = read(after, f', "andEvery": {every}')
    assert task.after.root == AllOf(members=members)
    assert task.every == name


def test_choices_are_read() -> None:
    more = ', "unless": [{"trigger": "b", "count": 2}], "unlessFrom": "instance", "appliesTo": "existing"'
    task = read('["a"]', more)
    assert task.unless is not None
    assert task.unless.root == AllOf(members=(leaf("b", count=2),))
    assert (task.unless_from, task.applies_to) == (UnlessFrom.INSTANCE, AppliesTo.EXISTING)
    plain = read('["a"]', ', "unlessFrom": null, "appliesTo": null')
    assert (plain.unless_from, plain.applies_to) == (UnlessFrom.SESSION, AppliesTo.NEW)


@pytest.mark.laws
@given(tasks_files())
def test_files_of_the_language_are_read_and_written_back_equal(file: JsonObject) -> None:
    config, findings = check(json.dumps(file), name="tasks.json")
    assert config is not None, findings
    again, _ = check(encode(config), name="tasks.json")
    assert again is not None
    assert again.tasks == config.tasks


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # expressions
        (
            one('[{"trigger": "a", "where": "¦"}]'),
            "[bad-where] /t/after/0/where: ",
        ),
        (
            one('[{"trigger": "a", "where": "data.s.¦matches(\'x\')"}]'),
            "[bad-where] /t/after/0/where: ",
        ),
        (
            one('[{"trigger": "a", "where": ¦3}]'),
            "[wrong-type] /t/after/0/where: must be a string, such as `da",
        ),
        # paths
        (
            one('[{"trigger": "a", "key": "¦order.id", "count": 2}]'),
            "[bad-path] /t/after/0/key: a path begins with `data`: write `data.order.id` (column 1 of the te",
        ),
        (
            one('[{"trigger": "a", "key": "¦/order/id", "count": 2}]'),
            "[bad-path] /t/after/0/key: a path begins with `data`: write `data.order.id` (column 1 of the",
        ),
        (
            one('[{"trigger": "a", "key": "data.order¦[0]", "count": 2}]'),
            '[bad-path] /t/after/0/key: a path goes on with `.name` or `["name"]`, as in `data.order["line i',
        ),
        (
            one('[{"trigger": "a", "key": "data[\\"a\\"]¦..b", "count": 2}]'),
            "[bad-path] /t/after/0/key: a path goes on with",
        ),
        (
            one('[{"trigger": "a", "key": "¦data", "count": 2}]'),
            "[bad-path] /t/after/0/key: `data` is all that an event brought: name a key in it, as in `data.i",
        ),
        (
            one('[{"trigger": "a", "key": ¦["id"], "count": 2}]'),
            "[wrong-type] /t/after/0/key: must be a string, a p",
        ),
        # names
        (
            one('["a", {"trigger": ¦"a", "where": "data.x"}]'),
            "[ambiguous-leaf] /t/after/1/trigger: `a` at 1:18 says something else, and in one list one name",
        ),
        (
            one('[{"trigger": "b", "as": "x"}, {"any": [{"trigger": "c", "as": ¦"x"}, "d"]}]'),
            "[ambiguous-leaf] /t/after/1/any/0/as: `x` at 1:41 says something else",
        ),
        (
            one('["a"]', ', "andEvery": {"trigger": ¦"a", "count": 2}'),
            "[ambiguous-leaf] /t/andEvery/trigger: `a` at 1:18 says something else",
        ),
        (
            one('[{"sequence": ["a", ¦"a"]}]'),
            "[ambiguous-leaf] /t/after/0/sequence/1: `a` stands in this list already, at 1:32: a place in a",
        ),
        (
            one('["a", {"sequence": [¦"a", "b"]}]'),
            "[ambiguous-leaf] /t/after/1/sequence/0: `a` stands in this list",
        ),
        (one('[{"trigger": ¦""}]'), "[empty-name] /t/after/0/trigger: a trigger's name must not be empty"),
        (
            one('[{"trigger": "a", "as": ¦"triggerstream.x"}]'),
            "[reserved-name] /t/after/0/as: names beginning with",
        ),
        (
            one('[{"trigger": ¦7}]'),
            "[wrong-type] /t/after/0/trigger: must be a string, the trigger's name, not a num",
        ),
        (
            one('[{"trigger": ¦["a", "b"]}]'),
            "[wrong-type] /t/after/0/trigger: must be a string, the trigger's name, not a list: for any one",
        ),
        # key, count, each
        (
            one('[{"trigger": "a", ¦"key": "data.id"}]'),
            "[missing-key] /t/after/0/key: `key` needs `count`, for that many different keys, or `each`, for",
        ),
        (
            one('["b", {"trigger": "a", ¦"each": {"of": "b", "list": "data.ids"}}]'),
            "[missing-key] /t/after/1/each: `each` needs `key`: the path to what tells which element of the",
        ),
        (
            one(
                '["b", {"trigger": "a", "key": "data.k", "count": 2,¦"each": {"of": "b", "list": "data.l"}}]'
            ),
            "[conflicting-keys] /t/after/1/each: `count` and `each` do not go together: `each` waits for an",
        ),
        (
            one(
                '["bought", {"trigger": "a", "key": "data.id", "each": {"of": ¦"bougt", "list": "data.ids"}}]'
            ),
            "[unknown-leaf] /t/after/1/each/of: there is no leaf `bougt` in this list: did you mean `bought`",
        ),
        (
            one(
                '[{"trigger": "b", "count": 2}, {"trigger": "a", "key": "data.id", "each": {"of": ¦"b", '
                '"list": "data.ids"}}]'
            ),
            "[unknown-leaf] /t/after/1/each/of: `b` has `count`: the list comes from a leaf that takes one e",
        ),
        (
            one('[{"trigger": "a", "key": "data.id", "each": {"of": ¦"a", "list": "data.ids"}}]'),
            "[unknown-leaf] /t/after/0/each/of: `a` has `each`: the list comes from a leaf that takes one ev",
        ),
        (
            one(
                '[{"sequence": ["b", "c"]}, {"trigger": "a", "key": "data.id", "each": {"of": ¦"b", "list": '
                '"data.ids"}}]'
            ),
            "[unknown-leaf] /t/after/1/each/of: `b` stands in a sequence: the list comes from a leaf that ta",
        ),
        (
            one('["b", {"trigger": "a", "key": "data.id", "each": ¦{"of": "b"}}]'),
            "[missing-key] /t/after/1/each: `list` is missing: the path to the list in what `of` brings",
        ),
        (
            one('["b", {"trigger": "a", "key": "data.id", "each": ¦{"list": "data.ids"}}]'),
            "[missing-key] /t/after/1/each: `of` is missing: the name of the leaf that brings the list",
        ),
        (
            one(
                '["b", {"trigger": "a", "key": "data.id", "each": {"of": "b", "list": "data.ids", ¦"lst": 1}}'
            ),
            "[unknown-key] /t/after/1/each/lst: unknown key `lst`: did you mean `list`?",
        ),
        (
            one('["b", {"trigger": "a", "key": "data.id", "each": ¦"b"}]'),
            '[wrong-type] /t/after/1/each: must be an object, `{"of": "a", "list": "data.ids"}`, not a strin',
        ),
        (
            one('[{"trigger": "a", "count": ¦0}]'),
            "[wrong-value] /t/after/0/count: must be from 1 to 1,000, not 0",
        ),
        (
            one('[{"trigger": "a", "count": ¦1001}]'),
            "[wrong-value] /t/after/0/count: must be from 1 to 1,000, not 1001",
        ),
        (
            one('[{"trigger": "a", "count": ¦"3"}]'),
            "[wrong-type] /t/after/0/count: must be an integer from 1 to 1,000, ",
        ),
        # sequences
        (
            one('[{"sequence": [{"trigger": "a", "count": 3, ¦"key": "data.id"}, "b"]}]'),
            "[not-in-sequence] /t/after/0/sequence/0/key: `key` cannot stand in a sequence: only `trigger`,",
        ),
        (
            one(
                '["c", {"sequence": ["b", {"trigger": "a", ¦"key": "data.id", "each": {"of": "c", "list": "da'
            ),
            "[not-in-sequence] /t/after/1/sequence/1/key: `key` cannot stand",
        ),
        (
            one('[{"sequence": ["a", ¦{"any": ["b", "c"]}]}]'),
            "[not-in-sequence] /t/after/0/sequence/1: a sequence holds triggers only: `any` cannot stand in",
        ),
        (
            one('[{"sequence": ["a", ¦["b"]]}]'),
            "[wrong-type] /t/after/0/sequence/1: must be a trigger's name or a leaf",
        ),
        (
            one('[{"sequence": ¦["a"]}]'),
            "[short-sequence] /t/after/0/sequence: a sequence must name at least two triggers, in their orde",
        ),
        (one('[{"sequence": ¦[]}]'), "[short-sequence] /t/after/0/sequence: "),
        (
            one('[{"sequence": ¦"a"}]'),
            "[wrong-type] /t/after/0/sequence: must be a list of triggers in their order",
        ),
        (
            one('[{"sequence": ["a", {"trigger": "b", "count": ¦101}]}]'),
            "[wrong-value] /t/after/0/sequence/1/count: must be from 1 to 100 in a sequence, not 101",
        ),
        # unless
        (
            one('["a"]', ', "unless": [{"trigger": "b", ¦"count": 2}]'),
            '[needs-unless-from] /t/unless/0/count: `count` in `unless` needs `"unlessFrom": "instance"`: of',
        ),
        (
            one(
                '["a"]',
                ', "unless": ["c", {"trigger": "b", "key": "data.k",¦"each": {"of": "c", "list": "data.l"}}]',
            ),
            '[needs-unless-from] /t/unless/1/each: `each` in `unless` needs `"unlessFrom": "instance"`',
        ),
        (
            one('["a"]', ', "unlessFrom": "session", "unless": [{"any": [{¦"sequence": ["b", "c"]}, "d"]}]'),
            '[needs-unless-from] /t/unless/0/any/0/sequence: `sequence` in `unless` needs `"unlessFrom": "in',
        ),
        (
            one('["a"]', ', "unless": ["b"], "unlessFrom": ¦"instances"'),
            '[wrong-value] /t/unlessFrom: must be `"session"` or `"instance"`, not `instances`',
        ),
        (
            one('["a"]', ', "appliesTo": ¦true'),
            '[wrong-type] /t/appliesTo: must be `"new"` or `"existing"`, not true',
        ),
        # groups
        (one('[{"any": ¦[]}]'), "[empty-condition] /t/after/0/any: `any` must hold at least one condition"),
        (one('[{"all": ¦[]}]'), "[empty-condition] /t/after/0/all: `all` must hold at least one condition"),
        (
            one('[{"atLeast": 1, "of": ¦[]}]'),
            "[empty-condition] /t/after/0/of: `of` must hold at least one condition",
        ),
        (one('["a", ¦[]]'), "[empty-condition] /t/after/1: an inner list must hold at least one condition"),
        (
            one('[{"any": ["a", ¦"a"]}]'),
            "[repeated-member] /t/after/0/any/1: `a` stands in this list already, at 1:27: to count events w",
        ),
        (
            one('[{"atLeast": 2, "of": [["a", "b"], "c", ¦{"all": ["a", "b"]}]}]'),
            "[repeated-member] /t/after/0/of/2: this condition stands in this list already, at 1:40: to coun",
        ),
        (
            one('[{"atLeast": ¦4, "of": ["a", "b", "c"]}]'),
            "[wrong-value] /t/after/0/atLeast: must be from 1 to 3, the number of its conditions, not 4",
        ),
        (
            one('[{"atLeast": ¦0, "of": ["a"]}]'),
            "[wrong-value] /t/after/0/atLeast: must be from 1 to 1, the number of",
        ),
        (
            one('[{"atLeast": ¦1.5, "of": ["a"]}]'),
            "[wrong-type] /t/after/0/atLeast: must be an integer, how many of the",
        ),
        (
            one('[¦{"atLeast": 1}]'),
            "[missing-key] /t/after/0: `of` is missing: the list of conditions, of which `atLea",
        ),
        (one('[{¦"of": ["a", "b"]}]'), "[missing-key] /t/after/0/of: `of` needs `atLeast`: how many of them"),
        (
            one('[{"any": ¦"a"}]'),
            '[wrong-type] /t/after/0/any: must be a list of conditions, not a string: write `["a"]`',
        ),
        (
            one('¦{"any": ["a", "b"]}'),
            "[wrong-type] /t/after: must be a list of triggers, not an object: write `[{…}]`",
        ),
        (one("[¦3]"), "[wrong-type] /t/after/0: must be a trigger's name or a condition, not a number"),
        (
            one("[¦{}]"),
            "[missing-key] /t/after/0: `trigger` is missing: a condition has `trigger`, `all`, `any`, `atLea",
        ),
        (
            one('[¦{"where": "data.x"}]'),
            "[missing-key] /t/after/0: `trigger` is missing: a condition has `trigger`, `a",
        ),
        (
            one("[" * 10 + '¦["a"]' + "]" * 10),
            "[too-many-levels] /t/after/0/0/0/0/0/0/0/0/0/0: conditions may be nested 10 levels deep: write",
        ),
        # keys that do not go together
        (
            one('[{"any": ["a", "b"], ¦"all": ["c"]}]'),
            "[conflicting-keys] /t/after/0/all: `all` does not go with `any`: write an object for each",
        ),
        (
            one('[{"trigger": "a", ¦"any": ["b"]}]'),
            "[conflicting-keys] /t/after/0/any: `any` does not go with `trigger`: write an object for each",
        ),
        (
            one('[{"any": ["a", "b"], ¦"where": "data.x"}]'),
            "[conflicting-keys] /t/after/0/where: `where` does not go with `any`: it stands beside a `trigge",
        ),
        (
            one('[{"sequence": ["a", "b"], ¦"of": ["a"]}]'),
            "[conflicting-keys] /t/after/0/of: `of` does not go with `sequence`: write an object for each",
        ),
        # unknown keys
        (
            one('[{"trigger": "a", ¦"wher": "data.x"}]'),
            "[unknown-key] /t/after/0/wher: unknown key `wher`: did you mea",
        ),
        (
            one('[{¦"tigger": "a"}]'),
            "[unknown-key] /t/after/0/tigger: unknown key `tigger`: did you mean `trigger`?",
        ),
        (
            one('[{¦"At_Least": 1, "of": ["a"]}]'),
            "[unknown-key] /t/after/0/At_Least: unknown key `At_Least`: did you ",
        ),
        (
            one('[{"trigger": "a", ¦"colour": "red"}]'),
            "[unknown-key] /t/after/0/colour: unknown key `colour`: the keys of a leaf are `trigger`, `where",
        ),
        (
            one('[{"trigger": "a", ¦"filter": "data.x"}]'),
            "[unknown-key] /t/after/0/filter: there is no key `filter`: a condition on data is the `where` o",
        ),
        # andEvery
        (
            one("[]", ', "andEvery": ¦["a"]'),
            '[wrong-type] /t/andEvery: must be one trigger\'s name, not a list: write `"a"`',
        ),
        (
            one("[]", ', "andEvery": {¦"any": ["a", "b"]}'),
            "[not-one-leaf] /t/andEvery/any: `andEvery` is one trigger: `any` cannot stand in it",
        ),
        (
            one(
                '["b"]',
                ', "andEvery": {"trigger": "a", "key": "data.id", ¦"each": {"of": "b", "list": "data.l"}}',
            ),
            "[conflicting-keys] /t/andEvery/each: `andEvery` cannot be a leaf with `each`",
        ),
        (
            one(
                '["b", {"trigger": "a", "key": "data.id", "each": {"of": "b", "list": "data.l"}}]',
                ', "andEvery": ¦"a"',
            ),
            "[conflicting-keys] /t/andEvery: `andEvery` cannot be a leaf with `each`",
        ),
        # tasks
        (
            one("¦[]"),
            "[empty-after] /t/after: nothing arrives that could start the task: name at least one trigger, h",
        ),
        (
            one('[{"trigger": "a", "as": "x"}]', ', "withParams": {"x": ¦1}'),
            "[wrong-type] /t/withParams/x: must be an object, not a number: it is merged under what `x` brin",
        ),
    ],
)
def test_an_error_says_what_and_where_and_what_would_be_right(text: str, expected: str) -> None:
    first, *_ = said(text)
    assert first.startswith(f"error {expected}")


def test_a_task_may_have_a_hundred_leaves() -> None:
    names = ", ".join(f'"n{n:03}"' for n in range(98))
    more = ', "unless": [{"any": ["x", "y"]}]'
    assert said(one(f"[{names}]", more)) == []
    (line,) = said(one(f'[{names}, "z"]', more).replace('"t"', '¦"t"', 1))
    assert line.startswith("error [too-many-leaves] /t: waits for 101 leaves: at most 100")
    shared = ", ".join(f'["n{n:03}", "y"]' for n in range(98))
    assert said(one(f'[{{"any": [{shared}]}}]')) == []


def test_ten_levels_are_read() -> None:
    assert said(one("[" * 10 + '"a"' + "]" * 10)) == []


@pytest.mark.parametrize(
    ("written", "column"),
    [
        ("data.s.¦matches('x')", 8),
        ("data['é'].¦matches('x')", 11),
        ('data[\\"x\\"].¦matches(1)', 11),
        ("data['\\u00e9\\ud83d\\ude00'].¦matches(1)", 12),
        ("\\tdata.x\\n  && ¦matches(1)", 14),
        ("data['😀'].¦matches(1)", 11),
    ],
)
def test_the_column_of_an_expression_is_found_in_the_file(written: str, column: int) -> None:
    text = '{\n  "t": {"after": [{"trigger": "a",\n    "where": "' + written + '"}], "run": "x"}\n}'
    (line,) = said(text)
    assert "[bad-where] /t/after/0/where" in line
    assert line.endswith(f"(column {column} of the text)")


def test_all_errors_of_a_leaf_come_at_once() -> None:
    text = one('[{"trigger": "", "count": 0, "key": "id", "wher": "x"}, {"any": []}]')
    assert [line.split()[1] for line in said(text)] == [
        "[empty-name]",
        "[wrong-value]",
        "[bad-path]",
        "[unknown-key]",
        "[empty-condition]",
    ]


@pytest.mark.parametrize(
    ("after", "write"),
    [
        ('¦"paid or inStock"', '`[{"any": ["paid", "inStock"]}]`'),
        ('¦"a || b or c"', '`[{"any": ["a", "b", "c"]}]`'),
        ('¦"paid and inStock"', '`["paid", "inStock"]`'),
        ('¦"a, b"', '`["a", "b"]` if all are needed, `[{"any": ["a", "b"]}]` if any one is enough'),
        ('[{"any": ¦"a or b"}]', '`["a", "b"]`'),
        ('[{"any": ¦"a and b"}]', '`[["a", "b"]]`'),
        ('[{"all": ¦"a or b"}]', '`[{"any": ["a", "b"]}]`'),
        ('¦"a or b and c"', '`any` and `all`, such as `[{"any": [["a", "b"], "c"]}]` for “a and b, or c”'),
    ],
)
def test_names_joined_in_a_string_are_written_as_what_they_mean(after: str, write: str) -> None:
    (found,) = said(one(after))
    assert found.startswith("error [wrong-type] ")
    assert found.endswith(f"not a string: write {write}")


@pytest.mark.parametrize(
    ("after", "hint"),
    [
        ('["approved", ¦"approved"]', 'for two of them write `{"trigger": "approved", "count": 2}`'),
        (
            '[{"trigger": "a", "where": "data.x"}, ¦{"trigger": "a", "where": "data.x"}]',
            'for two of them add `"count": 2` to one',
        ),
        ('["fileArrived", ¦5]', 'to count events write `{"trigger": "fileArrived", "count": 5}` for both'),
        ('[{¦"fileArrived": 5}]', 'to count events write `{"trigger": "fileArrived", "count": 5}`'),
        ('{¦"fileArrived": 5}', 'to count events write `{"trigger": "fileArrived", "count": 5}`'),
        (
            '[{¦"fileArrived": {"where": "data.x"}}]',
            'a trigger is named as in `{"trigger": "fileArrived", "count": 2}`',
        ),
    ],
)
def test_what_looks_like_a_count_is_answered_with_count(after: str, hint: str) -> None:
    (found,) = said(one(after))
    assert found.endswith(f": {hint}")


def test_a_trigger_that_stands_three_times_is_answered_with_the_number() -> None:
    *_, last = said(one('["a", "a", "a"]'))
    assert last.endswith(
        'stands in this list already, at 1:18: for 3 of them write `{"trigger": "a", "count": 3}`'
    )


@pytest.mark.parametrize(
    "text",
    [
        one('["a"]', ', "unless": ["b", "b"]'),  # `count` would be an error there
        one('[["a", "b"], ["a", "b"]]'),
        one("[5]"),
        one('["a", 0]'),
        one('["a", true]'),
        one('[{"trigger": "a", "fileArrived": 5}]'),
        one('[{"cuont": 5}]'),
    ],
)
def test_no_count_is_suggested_where_it_would_not_help(text: str) -> None:
    (found,) = said(text)
    assert '"trigger": ' not in found
