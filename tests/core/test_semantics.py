"""``docs/semantics.md`` says what the fold does: its tables, examples, test vectors and rule numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import get_args
from uuid import UUID, uuid5

import pytest

from tests.core.scenarios import (
    Scenario,
    assert_each_step_holds,
    assert_one_batch_holds,
    assert_repeated_records_hold,
    read_scenario,
)
from tests.core.semantics import PAGE, REACHED, ROWS, rendered
from triggerstream.core.events import TYPES, Body
from triggerstream.core.ids import CommandId, InstanceId
from triggerstream.core.state import Status
from triggerstream.core.tasks import FOLD_VERSION
from triggerstream.wire.tasksfile.keys import BOUND_KEYS

ROOT = PAGE.parents[1]
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = [read_scenario(found) for found in re.findall(r"```json example\n(.*?)```", TEXT, re.DOTALL)]
DEFINED = re.findall(r"^\*\*(R\d+\.\d+)\*\*", TEXT, re.MULTILINE)
REFERRING = ("triggerstream", "tests/core", "docs", "schemas")
"""The folders whose texts refer to rules."""

every_example = pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])


def test_generated_parts_are_what_the_fold_does() -> None:
    assert rendered(TEXT) == TEXT, "run `make semantics` and look at what changed"


def test_the_page_is_of_this_version_of_the_fold() -> None:
    assert re.findall(r"\*\*fold version (\d+)\*\*", TEXT) == [str(FOLD_VERSION)]


def test_the_tables_have_every_status_and_every_kind_of_event() -> None:
    assert list(REACHED) == list(Status)
    shown = {type(row.body(InstanceId("t#0"), CommandId("c"))) for row in ROWS}
    assert shown == set(get_args(Body))
    for name in TYPES.values():
        short = name.removeprefix("triggerstream.session")
        assert f"`{name}`" in TEXT or f"`{short}`" in TEXT


def test_every_bound_is_explained() -> None:
    section = TEXT[TEXT.index("\n## 10 ") : TEXT.index("\n## 11 ")]
    assert [key for key in BOUND_KEYS if f"`{key}`" not in section] == []


@every_example
def test_example_decides_what_it_says(example: Scenario) -> None:
    assert_each_step_holds(example)
    assert_one_batch_holds(example)
    assert_repeated_records_hold(example)


def test_examples_apply_another_file() -> None:
    assert len(EXAMPLES) > 5
    assert [name for name, count in Counter(e.name for e in EXAMPLES).items() if count > 1] == []


def test_command_ids_follow_from_the_page_alone() -> None:
    (namespace,) = re.findall(r"namespace `([0-9a-f-]{36})`", TEXT)
    rows = re.findall(r"^\|.*\| `(\d+:.+)` \| `([0-9a-f-]{36})` \|$", TEXT, re.MULTILINE)
    assert len(rows) > 3
    for name, command in rows:
        assert str(uuid5(UUID(namespace), name)) == command


def test_digests_follow_from_the_page_alone() -> None:
    rows = re.findall(r"^\|.*\| `(\d+:.+)` \| `([0-9a-f]{16})` \|$", TEXT, re.MULTILINE)
    assert len(rows) > 2
    for text, digest in rows:
        assert blake2b(text.encode(), digest_size=8).hexdigest() == digest


def test_rules_have_one_number_each_in_the_order_of_the_page() -> None:
    numbers = [tuple(map(int, rule[1:].split("."))) for rule in DEFINED]
    assert numbers == sorted(set(numbers))
    for section in {section for section, _ in numbers}:
        assert f"\n## {section} " in TEXT


def test_every_rule_that_a_text_refers_to_exists() -> None:
    unknown = [(path, rule) for path, rule in _references() if rule not in DEFINED]
    assert unknown == []


def test_the_package_names_every_rule_that_decides() -> None:
    """Whoever changes a rule finds its place in the code."""
    named = {rule for path, rule in _references() if path.parts[0] == "triggerstream"}
    missing = [rule for rule in DEFINED if 4 <= int(rule[1:].split(".")[0]) <= 10 and rule not in named]
    assert missing == []


def _references() -> Iterator[tuple[Path, str]]:
    for folder in REFERRING:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".json"}:
                for rule in re.findall(r"\bR\d+\.\d+\b", path.read_text(encoding="utf-8")):
                    yield path.relative_to(ROOT), rule
