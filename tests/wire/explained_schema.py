"""The schema of an explained session, from the types of the answer. Run as a module, it writes the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from triggerstream.core.answers import ExplainedSession
from triggerstream.core.condition_tree import ConditionTree, GroupKind, LeafTree
from triggerstream.core.ids import Instant

FILE = Path(__file__).parents[2] / "schemas" / "explained-session.schema.json"
_NODE = "#/$defs/Node"


def schema() -> dict[str, Any]:
    """The schema: JSON Schema 2020-12."""
    (session, _), parts = msgspec.json.schema_components(
        [ExplainedSession, LeafTree], schema_hook=_of_type, ref_template="#/$defs/{name}"
    )
    groups = [{"$ref": f"#/$defs/{kind.value}"} for kind in GroupKind]
    defs = {
        **parts,
        "Node": {
            "description": "A condition, or a part of one, in the form of the tasks file.",
            "anyOf": [{"$ref": "#/$defs/LeafTree"}, *groups],
        },
        **{kind.value: _group(kind.value) for kind in GroupKind},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Explained session",
        "description": "The answer of `triggerstream sessions explain --json` and of `/v1/sessions/ID`, as "
        "docs/web.md describes it. Fields may be added: ignore those that you do not know.",
        **session,
        "$defs": {name: _described(defs[name]) for name in sorted(defs)},
    }


def _described(part: dict[str, Any]) -> dict[str, Any]:
    """A part with the first line of its docstring: the others name fields as Python has them."""
    first, *_ = part.get("description", "").split("\n")
    return {**part, "description": first.replace("``", "`")} if first else part


def _of_type(kind: type) -> dict[str, Any]:
    if kind is Instant:
        return {"type": "string", "format": "date-time"}
    assert kind is ConditionTree
    return {"$ref": _NODE}


def _group(kind: str) -> dict[str, Any]:
    numbers = {name: {"type": "integer", "minimum": 0} for name in ("need", "have")}
    return {
        "type": "object",
        "description": "Conditions combined: met if at least `need` members are; `have` are.",
        "properties": {
            kind: {"type": "array", "items": {"$ref": _NODE}},
            **numbers,
            "met": {"type": "boolean"},
        },
        "required": [kind, "need", "have", "met"],
    }


def text() -> str:
    """The content of the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
