"""The condition of a task: lists of triggers' names, all of which must arrive."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from triggerstream.core.events import ENGINE_PREFIX
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, Node

UNSUPPORTED: Final = "is not supported by this version"
_CONDITION_KEYS = frozenset({"all", "any", "atLeast", "of", "sequence", "covers", "trigger", "where"})
_ANY_OF = (
    "for any one of several triggers, have the application fire one trigger for all of them and name "
    "that, or write a task for each"
)
_ON_DATA = (
    "there are no conditions on data: have the application fire a trigger of its own for that case, and "
    "name it in `after`"
)
_AT_A_TIME = (
    "there are no times of day: have cron or Celery beat fire a trigger, and name it in `after`; to wait "
    "before a retry, write `retry`"
)
_HOW_MANY = (
    "triggers are not counted: `andEvery` runs the task for each further one; for the n-th, have the "
    "application fire a trigger of its own"
)
_IN_AFTER = "`after` lists the triggers, all of which must arrive"
_IN_UNLESS = "`unless` lists the triggers that abandon the task once all have arrived"
_IN_RUN = 'write the registered name of the Celery task as `"run": "my_app.tasks.Report"`'
_IN_PARAMS = "arguments stand in `withParams`, {trigger: arguments}"
INSTEAD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("if", "condition", "filter"), _ON_DATA),
    **dict.fromkeys(("at", "cron", "schedule", "every", "time"), _AT_A_TIME),
    **dict.fromkeys(("or", "any", "anyOf", "oneOf"), _ANY_OF),
    **dict.fromkeys(("count", "times", "min", "atLeast"), _HOW_MANY),
    **dict.fromkeys(("and", "all", "allOf", "when", "on", "needs", "requires", "triggers"), _IN_AFTER),
    **dict.fromkeys(
        ("not", "except"), "`unless` lists the triggers that abandon the task once all have arrived"
    ),
    **dict.fromkeys(("then", "do", "task", "action", "call"), _IN_RUN),
    **dict.fromkeys(("args", "kwargs", "params", "with"), _IN_PARAMS),
}
"""Keys that people try, and what to write instead."""
_FOLDED_INSTEAD: Final[Mapping[str, str]] = {key.lower(): answer for key, answer in INSTEAD.items()}


def instead_of(key: str) -> str | None:
    """The answer to a key that people try, in any case; None if there is none."""
    return _FOLDED_INSTEAD.get(key.lower())


def condition_in_name(name: str) -> Literal["and", "or"] | None:
    """The operator between names that stand in one string, as in ``a or b``; None if there is none."""
    if _OR.search(name):
        return "or"
    return "and" if _AND.search(name) else None


_OR = re.compile(r"\S(?:\s+or\s+|\s*\|\|?\s*)\S", re.IGNORECASE)
_AND = re.compile(r"\S(?:\s+and\s+|\s*&&\s*|\s+&\s+)\S", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """The names of a condition. ``clear`` is false where some of it could not be made out."""

    names: tuple[LocatedName, ...] = ()
    clear: bool = True


def check_name(name: LocatedName, findings: Findings, *, what: str) -> bool:
    """True if ``name`` may name a task or a trigger."""
    if not name.text:
        name.error(findings, "empty-name", f"a {what}'s name must not be empty")
    elif name.text.startswith(ENGINE_PREFIX):
        message = f"names beginning with `{ENGINE_PREFIX}` are the engine's own: choose another"
        name.error(findings, "reserved-name", message)
    else:
        return True
    return False


def read_triggers(node: Node) -> Triggers:
    """The names of a list of triggers."""
    if not node.is_list:
        if node.is_object:
            _refuse_condition(node)
        else:
            hint = "" if node.text is None else f": write `[{_quoted(node.text)}]`"
            node.error("wrong-type", f"must be a list of triggers, not {node.kind}{hint}")
        return Triggers(clear=False)
    clear = node.is_whole
    first: dict[str, LocatedName] = {}
    names: list[LocatedName] = []
    for item in node.items():
        if item.text is None:
            if item.is_object or item.is_list:
                _refuse_condition(item)
            else:
                item.error("wrong-type", f"must be a trigger's name, not {item.kind}")
            clear = False
            continue
        name = LocatedName(text=item.text, at=item.at, path=item.path)
        if not check_name(name, node.findings, what="trigger"):
            clear = False
            continue
        if first.setdefault(name.text, name) is not name:
            where = node.findings.where(first[name.text].at)
            item.warn("repeated-trigger", f"`{name.text}` stands in this list already, at {where}")
        names.append(name)
    return Triggers(names=tuple(names), clear=clear)


def read_trigger(node: Node) -> Triggers:
    """The one name of ``andEvery``."""
    if node.text is not None:
        name = LocatedName(text=node.text, at=node.at, path=node.path)
        if check_name(name, node.findings, what="trigger"):
            return Triggers(names=(name,))
    elif any(key.text in _CONDITION_KEYS or instead_of(key.text) for key, _ in node.members()):
        _refuse_condition(node)
    else:
        only = [item.text for item in node.items()]
        hint = f": write `{_quoted(only[0])}`" if len(only) == 1 and only[0] is not None else ""
        node.error("wrong-type", f"must be one trigger's name, not {node.kind}{hint}")
    return Triggers(clear=False)


def _refuse_condition(node: Node) -> None:
    key = next((key.text for key, _ in node.members() if key.text in _CONDITION_KEYS), None)
    for tried, _ in node.members():
        if (instead := instead_of(tried.text)) is not None:
            node.error("unsupported-condition", f"a condition with `{tried.text}` {UNSUPPORTED}: {instead}")
            return
    what = "a condition other than a trigger's name" if key is None else f"a condition with `{key}`"
    node.error("unsupported-condition", f"{what} {UNSUPPORTED}: list the names of triggers; all must arrive")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
