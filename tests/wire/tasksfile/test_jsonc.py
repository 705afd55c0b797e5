"""The reader of JSON with comments: what it finds, where, and that nothing else ever comes of a text."""

from __future__ import annotations

import json
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggerstream.core.ids import Json
from triggerstream.wire.tasksfile.jsonc import MAX_FINDINGS, parse
from triggerstream.wire.tasksfile.tree import Array, Object, Scalar, Value, plain

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
# Small, so that 10,000 examples take a minute: what goes wrong goes wrong in few values.
values: st.SearchStrategy[Json] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
spaces = st.lists(
    st.sampled_from([" ", "\t", "\r\n", "\n", "// a { comment\n", "/* [ \n * } */", "//\r", '/*"*/']),
    max_size=3,
).map("".join)
tokens = st.sampled_from(
    [
        *"{}[]:,\"'\\/*#\n\r\t -+.0123aeuxd\u201c\u00a0\ud800\udc00\ufeff",
        *(
            "true",
            "null",
            "NaN",
            "None",
            '"a"',
            '"a":',
            "//",
            "/*",
            "*/",
            "\\u12",
            "\\ud800",
            "1e999",
            "9" * 30,
        ),
    ]
)


def found(text: str | bytes) -> list[tuple[str, str, str]]:
    return [(f.code, f"{f.line}:{f.column}", f.path) for f in parse(text).findings]


def value(text: str | bytes) -> Json:
    root = parse(text).root
    assert root is not None
    return plain(root)


@pytest.mark.laws
@given(st.one_of(st.text(st.characters()), st.lists(tokens).map("".join), st.binary()))
def test_any_text_is_parsed_or_reported(text: str | bytes) -> None:
    document = parse(text)
    assert document.root is not None or document.findings
    for finding in document.findings:
        assert finding.line >= 1
        assert finding.column >= 1
        assert finding.message
        str(finding).encode()
    if document.root is not None:
        json.dumps(plain(document.root))


@pytest.mark.laws
@given(values, st.sampled_from([None, 0, 1, "\t"]), st.booleans())
def test_valid_json_means_what_the_standard_library_says(
    tree: Json,
    indent: int | str | None,
    ascii_only: bool,  # noqa: FBT001 - hypothesis passes by position
) -> None:
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
    document = parse(text)
    assert document.findings == []
    assert value(text) == json.loads(text)
    assert repr(value(text)) == repr(json.loads(text))
    assert value(text.encode()) == json.loads(text)


@pytest.mark.laws
@given(st.text('[]{},:"\\u0123456789abefnrtls.eE+- \n', max_size=40))
def test_a_text_is_refused_exactly_when_the_standard_library_refuses_it(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        # Without comments, only a trailing comma makes JSONC of what is no JSON.
        assert parse(text).findings or ",]" in squeezed(text) or ",}" in squeezed(text)
        return
    findings = {finding.code for finding in parse(text).findings}
    assert findings <= {"number-out-of-range", "duplicate-key", "lone-surrogate", "too-deep"}
    if not findings:
        assert value(text) == expected


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.laws
@given(values, st.data())
def test_comments_and_trailing_commas_change_nothing(tree: Json, data: st.DataObject) -> None:
    def space() -> str:
        return data.draw(spaces)

    def write(node: Json) -> str:
        if isinstance(node, dict):
            inner = [f"{json.dumps(k)}{space()}:{space()}{write(v)}{space()}" for k, v in node.items()]
            opening, closing = "{}"
        elif isinstance(node, list):
            inner = [f"{write(v)}{space()}" for v in node]
            opening, closing = "[]"
        else:
            return json.dumps(node)
        trailing: bool = data.draw(st.booleans())
        comma = "," + space() if inner and trailing else ""
        return f"{opening}{space()}{f',{space()}'.join(inner)}{comma}{closing}"

    text = space() + write(tree) + space()
    assert found(text) == []
    assert value(text) == tree


@pytest.mark.laws
@given(values, st.sampled_from([None, 2]))
def test_every_value_is_where_it_says(tree: Json, indent: int | None) -> None:
    text = "\ufeff" + json.dumps(tree, indent=indent, ensure_ascii=False)
    document = parse(text)
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")

    def look(node: Value) -> None:
        line, column = document.position(node.at)
        here = lines[line - 1][column - 1 :]
        match node:
            case Scalar(value=scalar):
                written = json.dumps(scalar, ensure_ascii=False)
                assert here.startswith(written)
            case Array(items=items):
                assert here.startswith("[")
                for item in items:
                    look(item)
            case Object(members=members):
                assert here.startswith("{")
                for member in members:
                    line, column = document.position(member.at)
                    assert lines[line - 1][column - 1] == '"'
                    look(member.value)

    assert document.root is not None
    look(document.root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("empty-file", "1:1", "")]),
        ("// nothing\n", [("empty-file", "1:1", "")]),
        ('{"a": 1\n "b": 2}', [("missing-comma", "2:2", "")]),
        ('{"a": [1 2]}', [("missing-comma", "1:10", "/a")]),
        ('{"a" 1}', [("missing-colon", "1:6", "/a")]),
        ('{"a" = 1}', [("missing-colon", "1:6", "/a")]),
        ('{"a": , "b":}', [("missing-value", "1:7", "/a"), ("missing-value", "1:13", "/b")]),
        ("{,}", [("extra-comma", "1:2", "")]),
        ("[1,,2]", [("extra-comma", "1:4", "/1")]),
        ("[,]", [("extra-comma", "1:2", "/0")]),
        ("{'a': 'b'}", [("single-quotes", "1:2", ""), ("single-quotes", "1:7", "/a")]),
        ("{“a”: 1}", [("wrong-quotes", "1:2", "")]),
        ("{a: b}", [("unquoted-key", "1:2", ""), ("unquoted-string", "1:5", "/a")]),
        ('{"a": True}', [("bad-literal", "1:7", "/a")]),
        ('{"a": [NaN, -Infinity]}', [("not-finite", "1:8", "/a/0"), ("not-finite", "1:13", "/a/1")]),
        ('{"a": "x\n}', [("unterminated-string", "1:7", "/a")]),
        ('{"a": "x", "b": "y\n, "c": 1}', [("unterminated-string", "1:17", "/b")]),
        ('{"a": 1} /* x', [("unterminated-comment", "1:10", "")]),
        ('{"a": "\\x\\u12"}', [("bad-escape", "1:8", "/a"), ("bad-escape", "1:10", "/a")]),
        ('{"a": "\t"}', [("control-character", "1:8", "/a")]),
        ('{"a": "\\ud800"}', [("lone-surrogate", "1:8", "/a")]),
        ('{"a": "\\udc00\\ud800"}', [("lone-surrogate", "1:8", "/a"), ("lone-surrogate", "1:14", "/a")]),
        ('{"a": "\ud800"}', [("lone-surrogate", "1:8", "")]),
        ('{"a": 9223372036854775808}', [("number-out-of-range", "1:7", "/a")]),
        ('{"a": -9223372036854775808}', []),
        ('{"a": 1e999}', [("number-out-of-range", "1:7", "/a")]),
        (
            "[007, .5, 5., +1, 0x1]",
            [("bad-number", f"1:{c}", f"/{i}") for i, c in enumerate((2, 7, 11, 15, 19))],
        ),
        ('{"a": 1, "b": 2, "a": 3}', [("duplicate-key", "1:18", "/a")]),
        ('{"x/~": {"a": 1, "a": 3}}', [("duplicate-key", "1:18", "/x~1~0/a")]),
        ('{"a": [1}', [("unclosed-bracket", "1:9", "/a")]),
        ('{"a": ["b", "c": 1}', [("unclosed-bracket", "1:13", "/a")]),
        ('{"a": {"b": 1}', [("unclosed-bracket", "1:1", "")]),
        ('{"a": 1]}', [("stray-token", "1:8", "")]),
        ('{"a": 1}}', [("trailing-content", "1:9", "")]),
        ("# no\n{}", [("stray-token", "1:1", "")]),
        ('{"a":\u00a01}', [("stray-token", "1:6", "/a")]),
        (
            '{"a": 1, {"b": 2}, "c": tru}',
            [("value-without-key", "1:10", ""), ("unquoted-string", "1:25", "/c")],
        ),
        ('\ufeff{"a" 1}', [("missing-colon", "1:6", "/a")]),
        ('{\r\n"a":\r1,\n\r"a": 2}', [("duplicate-key", "5:1", "/a")]),
    ],
)
def test_finds_and_places(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert found(text) == expected


def test_all_mistakes_are_found_in_one_reading() -> None:
    text = """{
  // four mistakes
  "t_a" {"after": ["a" "b"], 'run': "x"},
  "t_b": {"after": ["a"], "run": y, "run": "z"}
}"""
    assert [(code, where) for code, where, _ in found(text)] == [
        ("missing-colon", "3:9"),
        ("missing-comma", "3:24"),
        ("single-quotes", "3:30"),
        ("unquoted-string", "4:34"),
        ("duplicate-key", "4:37"),
    ]


def test_a_duplicate_key_says_where_the_first_was() -> None:
    (finding,) = parse('{"a": 1,\n "a": 2}').findings
    assert str(finding) == "2:2 /a: `a` stands twice in this object, first at 1:2"


def test_what_was_meant_is_read_all_the_same() -> None:
    assert value('{a: \'b\', "c" [true false], “d”: {"e": 1 "f": x y}') == {
        "a": "b",
        "c": [True, False],
        "d": {"e": 1, "f": "x y"},
    }


def test_bytes_that_are_no_utf8_are_reported_where_they_stand() -> None:
    assert found(b'{"a": "\xc3\xa9\xff\xfe", "b": \xe9}') == [
        ("invalid-utf8", "1:9", ""),
        ("invalid-utf8", "1:19", ""),
    ]


def test_utf16_is_called_by_its_name() -> None:
    for text in ('{"a": 1}'.encode("utf-16"), '{"a": 1}'.encode("utf-16-be")):
        (finding,) = parse(text).findings
        assert "UTF-16" in finding.message


def test_values_may_be_64_deep() -> None:
    assert found("[" * 64 + "]" * 64) == []
    assert found("[" * 65 + "]" * 65) == [("too-deep", "1:65", "/0" * 64)]
    assert [code for code, _, _ in found('{"a":' * 100_000)] == ["too-deep"]
    assert [code for code, _, _ in found("[" * 100_000)] == ["too-deep"]


def test_reading_goes_on_after_a_value_that_is_too_deep() -> None:
    deep = "[" * 70 + '"]", /* ] */ {}' + "]" * 70
    assert [code for code, _, _ in found(f'{{"a": {deep}, "b": 1 "c": 2}}')] == ["too-deep", "missing-comma"]


def test_reading_stops_after_a_thousand_findings() -> None:
    findings = parse("[" + "x y, " * 5_000 + "]").findings
    assert len(findings) == MAX_FINDINGS
    assert findings[-1].code == "too-many-findings"


@pytest.mark.slow
def test_reading_a_thousand_tasks_takes_a_fraction_of_a_second() -> None:
    tasks = {
        f"t_task{i}": {
            "after": [f"trigger{j}Received" for j in range(i, i + 4)],
            "unless": [f"cancelled{i}"],
            "run": f"my_app.tasks.Task{i}",
            "withParams": {f"trigger{i}Received": {"a": 1, "b": [1, 2, 3], "c": {"d": "e"}}},
        }
        for i in range(1_000)
    }
    text = json.dumps(tasks, indent=2)
    fastest = min(timed(text) for _ in range(5))
    # 0.09 s of a core to itself; the bound leaves room for one that is shared.
    assert fastest < 0.5


@pytest.mark.parametrize(
    "hostile", ["[", '{"a":', "/*", '"', "\\", "'", "//", "{", ",", "9", "x ", "\u00a0", "[1 ", '""']
)
def test_reading_time_grows_with_the_text_not_with_its_square(hostile: str) -> None:
    assert timed(hostile * (400_000 // len(hostile))) < 5


def timed(text: str) -> float:
    start = process_time()
    parse(text)
    return process_time() - start
