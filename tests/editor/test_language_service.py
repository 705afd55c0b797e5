"""An editor explains and completes tasks files: VS Code's own JSON language service, run by node."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from triggerstream.wire.tasksfile.conditions import GROUP_KEYS
from triggerstream.wire.tasksfile.keys import BOUND_KEYS, TOP_KEYS
from triggerstream.wire.tasksfile.leaves import EACH_KEYS, LEAF_KEYS
from triggerstream.wire.tasksfile.task_keys import TASK_KEYS
from triggerstream.wire.tasksfile.time_keys import DEBOUNCE_KEYS, REPEAT_KEYS, RETRY_KEYS
from triggerstream.wire.xtests import COMMAND_KEYS, TEST_KEYS

ROOT = Path(__file__).parents[2]
HOME = Path(__file__).parent
EXAMPLES = ROOT / "schemas" / "examples"
_INSTALL_TIMEOUT_S = 300.0
_ANSWER_TIMEOUT_S = 60.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None, reason="needs node and npm"
    ),
]

LEAF = (*LEAF_KEYS, *GROUP_KEYS)
PLACES = {
    "{¦}": (*TOP_KEYS, "x-tests"),
    '{"$bounds": {¦}}': tuple(BOUND_KEYS),
    '{"x-tests": [{¦}]}': tuple(TEST_KEYS),
    '{"x-tests": [{"commands": [{¦}]}]}': tuple(COMMAND_KEYS),
    '{"t": {¦}}': TASK_KEYS,
    '{"t": {"retry": {¦}}}': RETRY_KEYS,
    '{"t": {"debounce": {¦}}}': DEBOUNCE_KEYS,
    '{"t": {"repeat": {¦}}}': REPEAT_KEYS,
    '{"t": {"after": [{¦}]}}': LEAF,
    '{"t": {"unless": [{¦}]}}': LEAF,
    '{"t": {"after": [{"any": [{¦}]}]}}': LEAF,
    '{"t": {"after": [[{¦}]]}}': LEAF,
    '{"t": {"after": [{"atLeast": 1, "of": [{¦}]}]}}': LEAF,
    '{"t": {"after": [{"trigger": "a", ¦}]}}': LEAF_KEYS[1:],
    '{"t": {"after": [{"trigger": "a", "each": {¦}}]}}': EACH_KEYS,
    '{"t": {"after": [{"sequence": [{¦}]}]}}': ("trigger", "where", "as", "count"),
    '{"t": {"andEvery": {¦}}}': LEAF_KEYS,
}
"""Places where keys are due, marked by `¦`, with all of them."""
VALUES = {
    '{"t": {"unlessFrom": ¦}}': ('"session"', '"instance"', "null"),
    '{"t": {"appliesTo": ¦}}': ('"new"', '"existing"', "null"),
    '{"t": {"using": ¦}}': ('"celery"', "null"),
    '{"$extras": ¦}': ('"keep"',),
}


@cache
def service() -> Path:
    """The installed language service."""
    stamp = HOME / "node_modules" / ".lock-of-what-is-installed"
    lock = (HOME / "package-lock.json").read_bytes()
    if not stamp.exists() or stamp.read_bytes() != lock:
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=HOME,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSTALL_TIMEOUT_S,
        )
        stamp.write_bytes(lock)
    return HOME / "service.mjs"


def ask(*, files: dict[str, str] | None = None, places: list[str] | None = None) -> dict[str, Any]:
    """What the language service says about files, and what it offers at places."""
    asked = {
        "schema": json.loads((ROOT / "schemas" / "tasks.schema.json").read_text(encoding="utf-8")),
        "files": files or {},
        "places": [{"text": place.replace("¦", ""), "offset": place.index("¦")} for place in places or ()],
    }
    done = subprocess.run(
        ["node", str(service())],
        input=json.dumps(asked),
        check=True,
        capture_output=True,
        text=True,
        timeout=_ANSWER_TIMEOUT_S,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def files_in(folder: Path) -> dict[str, str]:
    return {
        path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()
    }


def test_it_finds_nothing_wrong_in_the_examples() -> None:
    files = files_in(EXAMPLES / "valid" / "tasks")
    page = (ROOT / "docs" / "tasks-file.md").read_text(encoding="utf-8")
    files |= {f"block {n}": text for n, text in enumerate(re.findall(r"```jsonc\n(.*?)```", page, re.DOTALL))}
    files |= {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in (ROOT / "examples").glob("*/*.json")
        if "package" not in path.name
    }
    assert len(files) > 20
    assert {name: found for name, found in ask(files=files)["problems"].items() if found} == {}


def test_it_finds_what_the_schema_finds() -> None:
    files = files_in(EXAMPLES / "invalid" / "tasks")
    assert len(files) > 50
    assert [name for name, found in ask(files=files)["problems"].items() if not found] == []


def test_it_completes_and_explains_every_key() -> None:
    offers = ask(places=list(PLACES))["offers"]
    for (place, keys), offered in zip(PLACES.items(), offers, strict=True):
        assert {one["label"] for one in offered} == set(keys), place
        assert [one["label"] for one in offered if not one["says"]] == [], place


def test_it_offers_the_words_that_a_key_may_have() -> None:
    offers = ask(places=list(VALUES))["offers"]
    for (place, words), offered in zip(VALUES.items(), offers, strict=True):
        assert {one["label"] for one in offered} >= set(words), place
