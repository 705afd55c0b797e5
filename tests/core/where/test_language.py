"""Examples for every operator, function and rule of `where` (docs/semantics.md, section 13)."""

from __future__ import annotations

import copy
import gc
import math
import pickle
from typing import Any

import pytest

from tests.core.where.evaluating import EVENT_ID, SESSION, TIME_US, Failed, value_of
from triggerstream.core.ids import JsonObject
from triggerstream.core.where import compile_where

BIG = 2**63 - 1
ODD = 2**53 + 1
"""The first integer that no double can hold."""
DATA: JsonObject = {
    "i": 5,
    "f": 2.5,
    "s": "héllo",
    "n": None,
    "yes": True,
    "no": False,
    "l": [1, 2, 3],
    "m": [1, "a", None, 2.0],
    "o": {"a": 1, "in": 2, "b c": {"d": [{"e": 7}]}},
    "empty": [],
    "big": BIG,
    "odd": ODD,
    "when": "2026-03-01T10:00:00Z",
    "x": {"one": None},
    "y": {"other": None},
}
SECOND = 1_000_000_000
HOUR = 3600 * SECOND
NOON = ("timestamp", TIME_US * 1000)

VALUES: list[tuple[str, Any]] = [
    # literals
    ("1", 1),
    ("007", 7),
    ("9223372036854775807", BIG),
    ("-9223372036854775808", -BIG - 1),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("1.5E-1", 0.15),
    ("-1.5", -1.5),
    ("true", True),
    ("false", False),
    ("null", None),
    ('"x"', "x"),
    ("'x'", "x"),
    ("'a\"b'", 'a"b'),
    ('"a\'b"', "a'b"),
    (r'"\a\b\f\n\r\t\v\\\?\"\'\`"', "\a\b\f\n\r\t\v\\?\"'`"),
    (r'"\x41\X42\u00e9\U0001F600\101"', "ABé😀A"),
    ('"é😀"', "é😀"),
    (r'"\U0010FFFF\x00"', "\U0010ffff\x00"),
    ("[]", []),
    ("[1, 2]", [1, 2]),
    ("[1, 'a', [null],]", [1, "a", [None]]),
    ("[data.i, 2]", [5, 2]),
    # variables
    ("data.i", 5),
    ("time", NOON),
    ("session", SESSION),
    ("id", EVENT_ID),
    # fields and elements
    ('data["i"]', 5),
    ('data.o["in"]', 2),
    ('data.o["b c"].d[0].e', 7),
    ("data . o\n.a", 1),
    ("data.l[0]", 1),
    ("data.l[2.0]", 3),
    ("data.l[data.i - 4]", 2),
    ("[4, 5][1]", 5),
    ("(data.o).a", 1),
    ("(data).o.a", 1),
    ('data["o"]["b c"]["d"][0]["e"]', 7),
    # ! and -
    ("!true", False),
    ("!!data.yes", True),
    ("!(data.i > 3)", False),
    ("!data.no == true", True),
    ("-data.i", -5),
    ("--data.i", 5),
    ("-data.f", -2.5),
    ("2 - -1", 3),
    ("2--1", 3),
    ("---1", -1),
    # * / % + -
    ("2 * 3", 6),
    ("2.0 * 1.5", 3.0),
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("7 / -2", -3),
    ("-7 / -2", 3),
    ("7 % 2", 1),
    ("-7 % 2", -1),
    ("7 % -2", 1),
    ("-6 % 3", 0),
    ("7.0 / 2.0", 3.5),
    ("1.0 / 0.0", math.inf),
    ("-1.0 / 0.0", -math.inf),
    ("1.0 / -0.0", -math.inf),
    ("-1.0 / -0.0", math.inf),
    ("1e308 * 10.0", math.inf),
    ("1 + 2", 3),
    ("1.5 + 2.5", 4.0),
    ("5 - 7", -2),
    ("-data.big - 1", -BIG - 1),
    ("data.big * -1 - 1", -BIG - 1),
    ("5.5 - 7.0", -1.5),
    ("1 + 2 * 3", 7),
    ("(1 + 2) * 3", 9),
    ("10 - 3 - 2", 5),
    ("100 / 10 / 5", 2),
    ("2 * 7 % 4", 2),
    ('"a" + "b"', "ab"),
    ('data.s + "!"', "héllo!"),
    ('"a" + "b" + "c"', "abc"),
    ("[1] + [2, 'a']", [1, 2, "a"]),
    ("data.l + data.empty", [1, 2, 3]),
    # == and !=
    ("1 == 1", True),
    ("1 == 1.0", True),
    ("1.0 == 1", True),
    ("data.i == 5.0", True),
    ("data.i != 5", False),
    ("data.i == data.i", True),
    ("data.odd == 9007199254740992.0", False),
    ("9007199254740992.0 == data.odd", False),
    ("data.odd == data.odd", True),
    ("0.0 == -0.0", True),
    ("0.0 / 0.0 == 0.0 / 0.0", False),
    ("0.0 / 0.0 != 0.0 / 0.0", True),
    ("[0.0 / 0.0] == [0.0 / 0.0]", False),
    ("1 == true", False),
    ("true == 1", False),
    ("data.yes == 1", False),
    ("data.yes == true", True),
    ("data.yes != true", False),
    ("data.yes == false", False),
    ("data.i == true", False),
    ("data.i == null", False),
    ("data.i != null", True),
    ("data.n == null", True),
    ("data.n != null", False),
    ("data.n == 0", False),
    ("data.s == null", False),
    ("data.s == 5", False),
    ("data.s != 5", True),
    ('data.s == "héllo"', True),
    ('data.s != "héllo"', False),
    ('data.s == "x"', False),
    ('data.i == "5"', False),
    ('data.i != "5"', True),
    ('"5" == data.i', False),
    ('data.n == ""', False),
    ("[1, 2] == [1.0, 2]", True),
    ("[1, 2] == [2, 1]", False),
    ("[1] == [1, 2]", False),
    ("[] == []", True),
    ("[1] == 1", False),
    ("[[1], [2]] == [[1], [2]]", True),
    ("[[1], [2]] == [[1], [2, 3]]", False),
    ("[[], 1] == [[], 2]", False),
    ("[true] == [1]", False),
    ("[data.o] == [data.o]", True),
    ("data.o == data.o", True),
    ("data.x == data.y", False),
    ("data.y == data.x", False),
    ("data == data", True),
    ("data.o == data.l", False),
    ("data.o != data.l", True),
    ("data.l == [1, 2, 3]", True),
    ("time == time", True),
    ('time == "2026-03-01T12:00:05.25Z"', False),
    ('[time] == [timestamp("2026-03-01T12:00:05.250Z")]', True),
    ('duration("60s") == duration("1m")', True),
    ('duration("1s") == 1', False),
    # < <= > >=
    ("1 < 2", True),
    ("2 < 1", False),
    ("1 <= 1", True),
    ("1 > 1", False),
    ("1 >= 1", True),
    ("1 < 1.5", True),
    ("1.5 < 1", False),
    ("2.0 >= 2", True),
    ("data.odd > 9007199254740992.0", True),
    ("9007199254740992.0 < data.odd", True),
    ("9007199254740992.0 >= data.odd", False),
    ("0.0 / 0.0 < 1.0", False),
    ("0.0 / 0.0 >= 1.0", False),
    ("1 < 1.0 / 0.0", True),
    ("false < true", True),
    ("true <= true", True),
    ("true < false", False),
    ('"a" < "b"', True),
    ('"Z" < "a"', True),
    ('"a" < "a"', False),
    ('"é" > "z"', True),
    (r'"\U0001F600" > "\uffff"', True),
    ('"ab" > "a"', True),
    ("data.i > 3", True),
    ("data.f > 3", False),
    ("data.f <= 2.5", True),
    ("data.i >= data.f", True),
    ("time <= time", True),
    ("time < time", False),
    ('time < timestamp("2027-01-01T00:00:00Z")', True),
    ('duration("90s") > duration("1m")', True),
    # in
    ("1 in [1, 2]", True),
    ("3 in [1, 2]", False),
    ("1.0 in data.l", True),
    ("true in [1]", False),
    ("1 in [true]", False),
    ("null in data.m", True),
    ('"a" in data.m', True),
    ('"b" in data.m', False),
    ('data.s in ["x", "héllo"]', True),
    ('data.s in ["x"]', False),
    ('data.i in ["x", "5"]', False),
    ("data.s in []", False),
    ("('a' + 'b') in ['ab']", True),
    ("[1] in [[2], [1.0]]", True),
    ("data.o in [data.o]", True),
    ("data.odd in [9007199254740992.0]", False),
    ("0.0 / 0.0 in [0.0 / 0.0]", False),
    ("time in [1, time]", True),
    ('"a" in data.o', True),
    ('"b" in data.o', False),
    ("1 in data.o", False),
    ("1.5 in data.o", False),
    ("true in data.o", False),
    ("1 in [1] == true", True),
    # && and ||
    ("true && true", True),
    ("true && false", False),
    ("false && true", False),
    ("true && true && true", True),
    ("true && true && false", False),
    ("false || false", False),
    ("false || true", True),
    ("true || false", True),
    ("false || false || true", True),
    ("true || false && false", True),
    ("(true || false) && false", False),
    ("false && data.missing", False),
    ("data.missing && false", False),
    ("true || data.missing", True),
    ("data.missing || true", True),
    ("data.missing || false || true", True),
    ("1 && false", False),
    ("false && 1", False),
    ("1 || true", True),
    ('"x" || true', True),
    ("data.missing || 1 || true", True),
    # ? :
    ("true ? 1 : 2", 1),
    ("false ? 1 : 2", 2),
    ("true ? 1 : 1 / 0", 1),
    ("true ? size('ab') : size('a')", 2),
    ("false ? size('ab') : size('a')", 1),
    ("false ? 1 / 0 : 2", 2),
    ("data.i > 3 ? 'big' : 'small'", "big"),
    ("false ? 1 : false ? 2 : 3", 3),
    ("true ? (false ? 1 : 2) : 3", 2),
    ("true ? false || true : false", True),
    ("false ? 1 : false || true", True),
    ("1 > 2 || true ? 1 : 2", 1),
    # has
    ("has(data.i)", True),
    ("has(data.n)", True),
    ("has(data.missing)", False),
    ("has(data.o.a)", True),
    ("has(data.o.b)", False),
    ('has(data.o["b c"].d)', True),
    ('has(data["o"].a)', True),
    ('has(data.o["b c"].d[0].e)', True),
    ('has(data.o["b c"].d[0].f)', False),
    ("has((data).i)", True),
    # size
    ('size("")', 0),
    ("size(data.s)", 5),
    ('size("😀")', 1),
    ("size(data.l)", 3),
    ("size(data.o)", 3),
    ("size([])", 0),
    # int
    ("int(5)", 5),
    ("int(1.9)", 1),
    ("int(-1.9)", -1),
    ('int("12")', 12),
    ('int("+12")', 12),
    ('int("-12")', -12),
    ('int("007")', 7),
    ('int("-0")', 0),
    ('int("000000000000000000000000000000000000012")', 12),
    ('int("9223372036854775807")', BIG),
    ('int("-9223372036854775808")', -BIG - 1),
    ("int(9223372036854774784.0)", 9223372036854774784),
    ("int(true)", 1),
    ("int(false)", 0),
    ('int(timestamp("1970-01-01T00:01:00.9Z"))', 60),
    ('int(timestamp("1969-12-31T23:59:59.5Z"))', -1),
    # double
    ("double(2.5)", 2.5),
    ("double(5)", 5.0),
    ("double(data.odd)", 9007199254740992.0),
    ('double("1.5")', 1.5),
    ('double("-1e3")', -1000.0),
    ('double(".5")', 0.5),
    ('double("5.")', 5.0),
    ('double("inf")', math.inf),
    ('double("-Infinity")', -math.inf),
    ('double("1e400")', math.inf),
    # string
    ('string("x")', "x"),
    ("string(true)", "true"),
    ("string(false)", "false"),
    ("string(-5)", "-5"),
    ("string(1.0)", "1"),
    ("string(100000.0)", "100000"),
    ("string(123456.789)", "123456.789"),
    ("string(1e6)", "1e+06"),
    ("string(1234567.5)", "1.2345675e+06"),
    ("string(1e100)", "1e+100"),
    ("string(-1e6)", "-1e+06"),
    ("string(999999.9)", "999999.9"),
    ("string(1200000.0)", "1.2e+06"),
    ("string(-1234567890123456.0)", "-1.234567890123456e+15"),
    ("string(1e15)", "1e+15"),
    ("string(1e16)", "1e+16"),
    ("string(1.5e16)", "1.5e+16"),
    ("string(-1e-7)", "-1e-07"),
    ("string(0.1)", "0.1"),
    ("string(0.0001)", "0.0001"),
    ("string(0.00012345)", "0.00012345"),
    ("string(0.00001)", "1e-05"),
    ("string(5e-324)", "5e-324"),
    ("string(1.0 / 3.0)", "0.3333333333333333"),
    ("string(-2.5)", "-2.5"),
    ("string(0.0)", "0"),
    ("string(-0.0)", "-0"),
    ("string(1.0 / 0.0)", "inf"),
    ("string(-1.0 / 0.0)", "-inf"),
    ("string(0.0 / 0.0)", "nan"),
    ("string(time)", "2026-03-01T12:00:05.250Z"),
    ('string(timestamp("2026-01-01T00:00:00Z"))', "2026-01-01T00:00:00Z"),
    ('string(timestamp("2026-01-01T00:00:00.123456789Z"))', "2026-01-01T00:00:00.123456789Z"),
    ('string(timestamp("2026-01-01T00:00:00.000001Z"))', "2026-01-01T00:00:00.000001Z"),
    ('string(timestamp("0001-01-01T00:00:00Z"))', "0001-01-01T00:00:00Z"),
    ('string(duration("1h30m"))', "5400s"),
    ('string(duration("-0.5s"))', "-0.500s"),
    ('string(duration("1ns"))', "0.000000001s"),
    ('string(duration("0s"))', "0s"),
    # timestamp
    ('timestamp("1970-01-01T00:00:01Z")', ("timestamp", SECOND)),
    ('timestamp("1970-01-01t00:00:01z")', ("timestamp", SECOND)),
    ('timestamp("1970-01-01T02:00:00+01:30")', ("timestamp", HOUR // 2)),
    ('timestamp("1970-01-01T14:00:00+14:00")', ("timestamp", 0)),
    ('timestamp("1970-01-01T00:00:00-01:30")', ("timestamp", 3 * HOUR // 2)),
    ('timestamp("1970-01-01T00:00:00-00:00")', ("timestamp", 0)),
    ('timestamp("1970-01-01T00:00:00.123456789999Z")', ("timestamp", 123456789)),
    ('timestamp("1969-12-31T23:59:59.5Z")', ("timestamp", -SECOND // 2)),
    ('timestamp("1969-12-31T23:59:60Z")', ("timestamp", 0)),
    ("timestamp(time)", NOON),
    ("timestamp(60)", ("timestamp", 60 * SECOND)),
    ("timestamp(-62135596800)", ("timestamp", -62135596800 * SECOND)),
    ("timestamp(253402300799)", ("timestamp", 253402300799 * SECOND)),
    ('timestamp("0001-01-01T00:00:00Z")', ("timestamp", -62135596800 * SECOND)),
    ('timestamp("9999-12-31T23:59:59.999999999Z")', ("timestamp", 253402300800 * SECOND - 1)),
    ("timestamp(data.when) < time", True),
    # duration
    ('duration("90s")', ("duration", 90 * SECOND)),
    ('duration("1h30m")', ("duration", 3 * HOUR // 2)),
    ('duration("1.5h")', ("duration", 3 * HOUR // 2)),
    ('duration("-1h30m")', ("duration", -3 * HOUR // 2)),
    ('duration("+1s")', ("duration", SECOND)),
    ('duration("1ms1us1ns")', ("duration", 1_001_001)),
    ('duration("1m1h")', ("duration", 61 * 60 * SECOND)),
    ('duration("1s1s")', ("duration", 2 * SECOND)),
    ('duration(".5s")', ("duration", SECOND // 2)),
    ('duration("5.s")', ("duration", 5 * SECOND)),
    ('duration("0")', ("duration", 0)),
    ('duration("-0")', ("duration", 0)),
    ('duration("1.9ns")', ("duration", 1)),
    ('duration("-1.9ns")', ("duration", -1)),
    ('duration("0.5ns0.5ns")', ("duration", 1)),
    ('duration("315576000000s")', ("duration", 315_576_000_000 * SECOND)),
    ('duration("315576000000.999999999s")', ("duration", 315_576_000_001 * SECOND - 1)),
    ('duration("-315576000000.999999999s")', ("duration", 1 - 315_576_000_001 * SECOND)),
    ('duration("0.500000000000000000000s")', ("duration", SECOND // 2)),
    ('duration("0.99999999999999999999ns")', ("duration", 0)),
    ('duration(duration("1s"))', ("duration", SECOND)),
    # sums and differences of time
    ('time + duration("1h")', ("timestamp", NOON[1] + HOUR)),
    ('duration("1h") + time', ("timestamp", NOON[1] + HOUR)),
    ('time - duration("1h")', ("timestamp", NOON[1] - HOUR)),
    ("time - time", ("duration", 0)),
    ('time - timestamp(data.when) == duration("2h5.25s")', True),
    ('duration("1h") + duration("1m")', ("duration", HOUR + 60 * SECOND)),
    ('duration("1h") - duration("2h")', ("duration", -HOUR)),
    (
        'timestamp("9999-12-31T23:59:59Z") - timestamp("0001-01-01T00:00:00Z")',
        ("duration", 315_537_897_599 * SECOND),
    ),
    # parts of time
    ("time.getFullYear()", 2026),
    ("time.getMonth()", 2),
    ("time.getDayOfMonth()", 0),
    ("time.getDayOfWeek()", 0),
    ('timestamp("2026-03-07T00:00:00Z").getDayOfWeek()', 6),
    ("time.getHours()", 12),
    ("time.getMinutes()", 0),
    ('timestamp("1969-12-31T23:59:59.5Z").getFullYear()', 1969),
    ('timestamp("1969-12-31T23:59:59.5Z").getMonth()', 11),
    ('timestamp("1969-12-31T23:59:59.5Z").getDayOfMonth()', 30),
    ('timestamp("1969-12-31T23:59:59.5Z").getHours()', 23),
    ('timestamp("1969-12-31T23:59:59.5Z").getMinutes()', 59),
    ('timestamp("2026-01-01T00:30:00+14:00").getDayOfMonth()', 30),
    ('duration("25h90m").getHours()', 26),
    ('duration("-90m").getHours()', -1),
    ('duration("90m30s").getMinutes()', 90),
    ('duration("-90s").getMinutes()', -1),
    # strings
    ('data.s.startsWith("hé")', True),
    ('data.s.startsWith("é")', False),
    ('data.s.endsWith("lo")', True),
    ('data.s.endsWith("l")', False),
    ('data.s.contains("ll")', True),
    ('data.s.contains("x")', False),
    ('"abc".contains("")', True),
    ("'abc'.startsWith(data.m[1])", True),
    ("'abc'.startsWith('a' + 'b')", True),
    # exists and all
    ("data.l.exists(v, v > 2)", True),
    ("data.l.exists(v, v > 3)", False),
    ("data.l.all(v, v > 0)", True),
    ("data.l.all(v, v > 1)", False),
    ("data.empty.exists(v, true)", False),
    ("data.empty.all(v, false)", True),
    ("data.empty.all(v, 1)", True),
    ("data.m.exists(v, v > 1)", True),
    ("data.m.all(v, v > 1)", False),
    ("data.l.all(v, v == 1 ? 1 / 0 == 1 : false)", False),
    ("data.l.exists(v, v == 1 ? 1 / 0 == 1 : true)", True),
    ("data.o.exists(k, k == 'in')", True),
    ("data.o.all(k, size(k) > 1)", False),
    ("data.l.exists(v, data.l.exists(w, v + w == 6))", True),
    ("data.l.exists(v, data.l.exists(v, v == 3) && v == 1)", True),
    ("data.l.exists(a, data.l.exists(b, data.l.exists(c, a == 1 && b == 2 && c == 3)))", True),
    ("data.l.exists(data, data == 2)", True),
    ("data.l.exists(id, id == 2) && id == 'e-1'", True),
    ("data.l.all(v, v in data.l && data.l.exists(w, w >= v))", True),
    ("[[1], [2]].exists(v, v.exists(w, w == 2))", True),
    ("data.l.exists(size, size == size(data.l))", True),
]


@pytest.mark.parametrize(("text", "value"), VALUES, ids=[text for text, _ in VALUES])
def test_value(text: str, value: object) -> None:
    found = value_of(text, DATA)
    assert (type(found), found) == (type(value), value)
    if isinstance(value, float):
        assert math.copysign(1.0, found) == math.copysign(1.0, value)


@pytest.mark.parametrize("text", ["0.0 / 0.0", "double('nan')", "0.0 * (1.0 / 0.0)", "(0.0 / 0.0) / 0.0"])
def test_no_number(text: str) -> None:
    assert math.isnan(value_of(text))


MISSING = "data.missing does not exist: data has i, f, s, n, yes and 10 more"

ERRORS = [
    ("data.missing", MISSING),
    ("data.missing == 1", MISSING),
    ("data.missing.x", MISSING),
    ("data.o.x", "data.o.x does not exist: data.o has a, in, 'b c'"),
    ("data.y.x", "data.y.x does not exist: data.y has other"),
    ("data.y.othr", "data.y.othr does not exist: did you mean data.y.other?"),
    ('data["o"]["B C"]', "data.o['B C'] does not exist: did you mean data.o['b c']?"),
    ('data.o["b c"].x', "data.o['b c'].x does not exist: data.o['b c'] has d"),
    ('data.o["b c"].d.e', "data.o['b c'].d is a list, which has no field e"),
    ("data.s.x", "data.s is a string, which has no field x"),
    ("data.n.x", "data.n is null, which has no field x"),
    ("data.i.x.y", "data.i is an integer, which has no field x"),
    ("session.x", "session is a string, which has no field x"),
    ("time.x", "time is a timestamp, which has no field x"),
    ("(1 + 1).x", "the value is an integer, which has no field x"),
    ("data.l.exists(v, v.x == 1)", "v is an integer, which has no field x"),
    ("data.l[3]", "data.l[3] does not exist: the list has 3 elements"),
    ("data.l[-1]", "data.l[-1] does not exist: the list has 3 elements"),
    ("data.l[1.5]", "data.l is a list, whose elements have numbers such as [0], not a double"),
    ("data.l[true]", "data.l is a list, whose elements have numbers such as [0], not a boolean"),
    ("data.o[0]", "data.o is an object, whose fields have names, not an integer"),
    ("data[session]", "data['42'] does not exist: data has i, f, s, n, yes and 10 more"),
    ("data.s[0]", "data.s is a string, which has no fields and no elements"),
    ("data.o['b c'].d[0].f", "data.o['b c'].d[0].f does not exist: data.o['b c'].d[0] has e"),
    ("data.l[data.i][0]", "data.l[5] does not exist: the list has 3 elements"),
    ("data.m[data.i - 5].x", "data.m[…] is an integer, which has no fields and no elements"),
    ("has(data.missing.x)", MISSING),
    ("has(data.n.x)", "data.n is null, which has no field x"),
    ('has(data.o["b c"].d.x)', "data.o['b c'].d is a list, which has no field x"),
    ("has(data.l.x)", "data.l is a list, which has no field x"),
    ("!1", "`!` needs true or false, not an integer"),
    ("!data.n", "`!` needs true or false, not null"),
    ("-data.s", "`-` needs a number, not a string"),
    ("-true", "`-` needs a number, not a boolean"),
    ("-(-data.big - 1)", "an integer beyond 2^63"),
    ("data.big + 1", "an integer beyond 2^63"),
    ("-data.big - 2", "an integer beyond 2^63"),
    ("data.big * 2", "an integer beyond 2^63"),
    ("(-data.big - 1) / -1", "an integer beyond 2^63"),
    ("(-data.big - 1) % -1", "an integer beyond 2^63"),
    ("1 / 0", "a division by zero"),
    ("1 % 0", "a division by zero"),
    ("1 + 1.0", "`+` does not mix an integer with a double: write double(…) around the integer"),
    ("1.0 / 2", "`/` does not mix an integer with a double: write double(…) around the integer"),
    ("5.5 % 2.0", "`%` is for two integers: write int(…) around a double"),
    ("5 % 2.0", "`%` is for two integers: write int(…) around a double"),
    ('"a" + 1', "`+` cannot join a string and an integer"),
    ('"a" * 2', "`*` cannot join a string and an integer"),
    ('"a" % "b"', "`%` cannot join a string and a string"),
    ('"a" - "b"', "`-` cannot join a string and a string"),
    ("[1] + 1", "`+` cannot join a list and an integer"),
    ("[1] - [1]", "`-` cannot join a list and a list"),
    ("null + null", "`+` cannot join null and null"),
    ("true + true", "`+` cannot join a boolean and a boolean"),
    ("time + time", "`+` cannot join a timestamp and a timestamp"),
    ('duration("1s") - time', "`-` cannot join a duration and a timestamp"),
    ('duration("1s") * 2', "`*` cannot join a duration and an integer"),
    ("time - 1", "`-` cannot join a timestamp and an integer"),
    ("data.s < 1", "`<` cannot compare a string with an integer"),
    ("1 < data.s", "`<` cannot compare an integer with a string"),
    ("true < 1", "`<` cannot compare a boolean with an integer"),
    ("null <= null", "`<=` cannot compare null with another"),
    ("[1] > [2]", "`>` cannot compare a list with another"),
    ("time >= duration('1s')", "`>=` cannot compare a timestamp with a duration"),
    ("1 < 2 < 3", "`<` cannot compare a boolean with an integer"),
    ("1 in 1", "`in` needs a list or an object on its right, not an integer"),
    ('"a" in "abc"', "`in` needs a list or an object on its right, not a string"),
    ("null in data.o", "`in` looks for a string among the names of an object, not for null"),
    ("[1] in data.o", "`in` looks for a string among the names of an object, not for a list"),
    ("1 / 0 == 1 || false", "a division by zero"),
    ("true && 1", "`&&` needs true or false, not an integer"),
    ("1 && 1", "`&&` needs true or false, not an integer"),
    ("false || null", "`||` needs true or false, not null"),
    ("data.missing && true", MISSING),
    ("data.missing || data.other", MISSING),
    ("1 ? 2 : 3", "`? :` needs true or false, not an integer"),
    ("data.missing ? 2 : 3", MISSING),
    ("true ? 1 / 0 : 2", "a division by zero"),
    ("size(1)", "size() cannot take an integer"),
    ("size(null)", "size() cannot take null"),
    ("int(null)", "int() cannot take null"),
    ("int([1])", "int() cannot take a list"),
    ('int(duration("1s"))', "int() cannot take a duration"),
    ('int("")', "int() cannot read '' as a number"),
    ('int("1.0")', "int() cannot read '1.0' as a number"),
    ('int(" 1")', "int() cannot read ' 1' as a number"),
    ('int("1_0")', "int() cannot read '1_0' as a number"),
    ('int("-")', "int() cannot read '-' as a number"),
    ('int("+-1")', "int() cannot read '+-1' as a number"),
    ('int("99999999999999999999")', "int() cannot read '99999999999999999999' as a number"),
    ('int("٣")', "int() cannot read '٣' as a number"),
    ('int("1\\n")', "int() cannot read '1\\n' as a number"),
    ('int("9223372036854775808")', "int() cannot read '9223372036854775808' as a number"),
    ('int("-9223372036854775809")', "int() cannot read '-9223372036854775809' as a number"),
    ("int(9223372036854775808.0)", "int() of a double beyond 2^63"),
    ("int(-9223372036854775808.0)", "int() of a double beyond 2^63"),
    ("int(0.0 / 0.0)", "int() of a double beyond 2^63"),
    ("double(true)", "double() cannot take a boolean"),
    ("double(null)", "double() cannot take null"),
    ("double([1])", "double() cannot take a list"),
    ('double("")', "double() cannot read '' as a number"),
    ('double("1e")', "double() cannot read '1e' as a number"),
    ('double(" 1")', "double() cannot read ' 1' as a number"),
    ('double("0x1p3")', "double() cannot read '0x1p3' as a number"),
    ('double("1_0")', "double() cannot read '1_0' as a number"),
    ('double("٣")', "double() cannot read '٣' as a number"),
    ("string(null)", "string() cannot take null"),
    ("string([1])", "string() cannot take a list"),
    ("string(data)", "string() cannot take an object"),
    ("timestamp(1.5)", "timestamp() cannot take a double"),
    ("timestamp(true)", "timestamp() cannot take a boolean"),
    ("timestamp(null)", "timestamp() cannot take null"),
    ("timestamp(253402300800)", "a timestamp outside of the years 1 to 9999"),
    ("timestamp(-62135596801)", "a timestamp outside of the years 1 to 9999"),
    ('timestamp("0001-01-01T00:00:00+01:00")', "a timestamp outside of the years 1 to 9999"),
    ('timestamp("9999-12-31T23:59:59-01:00")', "a timestamp outside of the years 1 to 9999"),
    ('timestamp("9999-12-31T23:59:59Z") + duration("1s")', "a timestamp outside of the years 1 to 9999"),
    ('timestamp("0001-01-01T00:00:00Z") - duration("1s")', "a timestamp outside of the years 1 to 9999"),
    ("duration(90)", "duration() cannot take an integer"),
    ('duration("315576000001s")', "a duration of more than 10,000 years"),
    ('duration("-315576000001s")', "a duration of more than 10,000 years"),
    ('duration("315576000000s") + duration("1s")', "a duration of more than 10,000 years"),
    ('"x".startsWith(1)', "`startsWith` needs a string in its brackets, not an integer"),
    ("data.l.startsWith('a')", "`startsWith` is for strings, not for a list"),
    ("data.l.contains(1)", "`contains` is for strings: write `x in data.list`"),
    ("data.when.getHours()", "`getHours` needs a timestamp, not a string: write timestamp(…) around it"),
    ("data.i.getHours()", "`getHours` needs a timestamp, not an integer"),
    ('duration("1s").getMonth()', "`getMonth` needs a timestamp, not a duration"),
    ("data.s.exists(v, true)", "`exists` needs a list or an object, not a string"),
    ("data.n.all(v, true)", "`all` needs a list or an object, not null"),
    ("data.l.exists(v, v)", "`exists` needs true or false, not an integer"),
    ("data.l.all(v, v)", "`all` needs true or false, not an integer"),
    ("data.m.exists(v, v > 5)", "`>` cannot compare a string with an integer"),
    ("data.m.all(v, v > 0)", "`>` cannot compare a string with an integer"),
    ("data.l.exists(v, v.x)", "v is an integer, which has no field x"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[text for text, _ in ERRORS])
def test_error_says_what_was_wrong_with_the_values(text: str, message: str) -> None:
    assert value_of(text, DATA) == message
    assert not compile_where(text).matches(DATA, TIME_US, SESSION, None)


NO_TIMESTAMPS = [
    "",
    "2026-03-01",
    "2026-03-01T12:00Z",
    "2026-03-01T12:00:00",
    "2026-03-01 12:00:00Z",
    " 2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00Z ",
    "2026-3-1T12:00:00Z",
    "2026-03-01T12:00:00+0200",
    "2026-03-01T12:00:00+24:00",
    "2026-03-01T12:00:00+02:60",
    "2026-03-01T24:00:00Z",
    "2026-03-01T12:60:00Z",
    "2026-03-01T12:00:61Z",
    "2026-02-29T12:00:00Z",
    "2026-03-01T12:00:00.Z",
    "2026-03-01T12:00:00,5Z",
    "0000-03-01T12:00:00Z",
    "10000-03-01T12:00:00Z",
    "٢026-03-01T12:00:00Z",
    "infinite-future",
    "2026-W09-7T12:00:00Z",
]


@pytest.mark.parametrize("text", NO_TIMESTAMPS)
def test_text_that_is_no_timestamp(text: str) -> None:
    message = f"timestamp() needs a string such as 2026-03-01T12:00:00Z, not {text!r}"
    assert value_of("timestamp(data.text)", {"text": text}) == message


NO_DURATIONS = [
    "",
    "10",
    "1d",
    "1h 30m",
    "1h-30m",
    ".s",
    "s",
    "1e3s",
    "1µs",
    "inf",
    "--1s",
    "1H",
    "٣s",
    "1s\n",
    "0" * 200 + "s",
]


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_text_that_is_no_duration(text: str) -> None:
    found = value_of("duration(data.text)", {"text": text})
    assert isinstance(found, Failed)
    assert found.startswith('duration() needs a string such as "90s", "5m" or "1h30m", not ')


def test_duration_has_up_to_two_hundred_characters() -> None:
    assert value_of("duration(data.text)", {"text": "0" * 198 + "1s"}) == ("duration", SECOND)
    assert isinstance(value_of("duration(data.text)", {"text": "0" * 199 + "1s"}), Failed)


def test_error_shows_the_first_forty_characters_of_a_text() -> None:
    assert value_of("int(data.s)", {"s": "x" * 40}) == f"int() cannot read '{'x' * 40}' as a number"
    assert value_of("int(data.s)", {"s": "x" * 41}) == f"int() cannot read '{'x' * 40}…' as a number"


def test_only_true_is_a_match() -> None:
    for text, match in (("true", True), ("false", False), ("1", False), ('"true"', False), ("1 / 0", False)):
        assert compile_where(text).matches({}, 0, "s", None) is match


def test_event_without_id_has_null() -> None:
    assert compile_where("id == null").matches({}, 0, "s", None)
    assert compile_where('id == "x"').matches({}, 0, "s", "x")
    assert not compile_where("id == null").matches({}, 0, "s", "x")


def test_time_is_that_of_the_event_to_the_microsecond() -> None:
    where = compile_where('time == timestamp("1970-01-01T00:00:00.000001Z")')
    assert where.matches({}, 1, "s", None)
    assert not where.matches({}, 2, "s", None)


def test_time_beyond_every_timestamp_is_an_error() -> None:
    assert value_of("time", time_us=2**62) == "a timestamp outside of the years 1 to 9999"


def test_expressions_are_equal_if_their_texts_are() -> None:
    assert compile_where("data.x == 1") == compile_where("data.x == 1")
    assert compile_where("data.x == 1") != compile_where("data.x ==  1")
    assert len({compile_where("true"), compile_where("true")}) == 1
    assert repr(compile_where("true")) == "Where(text='true')"


def test_expression_can_be_copied_and_pickled() -> None:
    where = compile_where("data.x == 1")
    for copied in (copy.copy(where), copy.deepcopy(where), pickle.loads(pickle.dumps(where))):  # noqa: S301 - our own
        assert copied == where
        assert copied.matches({"x": 1}, 0, "s", None)


def test_names_of_fields_in_a_message_are_short_and_few() -> None:
    assert value_of("data.a", {}) == "data.a does not exist: data is empty"
    long: JsonObject = {"z" * 50: 1, "x\ny": 2}
    assert value_of("data.a", long) == f"data.a does not exist: data has '{'z' * 40}…', 'x\\ny'"
    many: JsonObject = {f"z{number}": 1 for number in range(2_000)}
    says = "data.a does not exist: data has z0, z1, z2, z3, z4 and 1,995 more"
    assert value_of("data.a", many) == says


def test_integer_beyond_64_bits_is_compared_exactly_and_calculates_to_an_error() -> None:
    data: JsonObject = {"x": 2**70, "huge": 10**400}
    assert value_of("data.x > 9223372036854775807", data) is True
    assert value_of("data.huge > 1e308", data) is True
    assert value_of("data.x - 1", data) == "an integer beyond 2^63"
    assert value_of("string(data.x)", data) == "an integer beyond 2^63"
    assert value_of("string(data.huge)", {"huge": 10**5_000}) == "an integer beyond 2^63"
    beyond = "the value[…] does not exist: the list has 1 element"
    assert value_of("[1][data.huge]", {"huge": 10**5_000}) == beyond
    assert value_of("double(data.huge)", data) == "double() of an integer beyond every double"


def test_data_nested_as_deeply_as_they_like_are_compared() -> None:
    def nested(inside: object) -> JsonObject:
        value: Any = inside
        for level in range(5_000):
            value = [value] if level % 2 else {"x": value}
        return {"x": value}

    data: JsonObject = {"a": nested(1), "b": nested(1.0), "c": nested(2)}
    assert value_of("data.a == data.b", data) is True
    assert value_of("data.a == data.c", data) is False


def test_values_of_other_types_than_json_match_nothing_and_raise_nothing() -> None:
    data: Any = {"x": (1, 2), "y": b"x", "z": 1j}
    for text in ("data.x == [1, 2]", "data.y == 'x'", "data.z < 1", "1 in data.x", "data.x.exists(v, true)"):
        assert not compile_where(text).matches(data, 0, "s", None)
    assert value_of("data.z < 1", data) == "`<` cannot compare an unknown value with an integer"


def test_evaluation_that_fails_leaves_nothing_for_the_garbage_collector() -> None:
    wheres = [
        compile_where(text)
        for text in (
            "data.missing == 1 && true",
            "data.missing || data.missing == 2",
            "data.l.exists(v, v.x == 1)",
            "data.missing == 1 || true",
        )
    ]
    gc.collect()
    gc.disable()
    try:
        for where in wheres:
            where.matches({"l": [1, 2]}, 0, "s", None)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_evaluation_changes_no_data() -> None:
    data = copy.deepcopy(DATA)
    for text, _ in VALUES:
        value_of(text, data)
    assert data == DATA
