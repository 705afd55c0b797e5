"""The condition of a task: lists of triggers' names, all of which must arrive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from triggerstream.core.events import ENGINE_PREFIX
from triggerstream.wire.tasksfile.spots import Findings, Name, Spot

UNSUPPORTED: Final = "is not supported by this version"
_CONDITION_KEYS = frozenset({"all", "any", "atLeast", "of", "sequence", "covers", "trigger", "where"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """The names of a condition. ``clear`` is false where some of it could not be made out."""

    names: tuple[Name, ...] = ()
    clear: bool = True


def check_name(name: Name, findings: Findings, *, what: str) -> bool:
    """True if ``name`` may name a task or a trigger."""
    if not name.text:
        name.error(findings, "empty-name", f"a {what}'s name must not be empty")
    elif name.text.startswith(ENGINE_PREFIX):
        message = f"names beginning with `{ENGINE_PREFIX}` are the engine's own: choose another"
        name.error(findings, "reserved-name", message)
    else:
        return True
    return False


def read_triggers(spot: Spot) -> Triggers:
    """The names of a list of triggers."""
    if not spot.is_list:
        if spot.is_object:
            _refuse_condition(spot)
        else:
            hint = "" if spot.text is None else f": write `[{_quoted(spot.text)}]`"
            spot.error("wrong-type", f"must be a list of triggers, not {spot.kind}{hint}")
        return Triggers(clear=False)
    clear = spot.is_whole
    first: dict[str, Name] = {}
    names: list[Name] = []
    for item in spot.items():
        if item.text is None:
            if item.is_object or item.is_list:
                _refuse_condition(item)
            else:
                item.error("wrong-type", f"must be a trigger's name, not {item.kind}")
            clear = False
            continue
        name = Name(text=item.text, at=item.at, path=item.path)
        if not check_name(name, spot.findings, what="trigger"):
            clear = False
            continue
        if first.setdefault(name.text, name) is not name:
            where = spot.findings.where(first[name.text].at)
            item.warn("repeated-trigger", f"`{name.text}` stands in this list already, at {where}")
        names.append(name)
    return Triggers(names=tuple(names), clear=clear)


def read_trigger(spot: Spot) -> Triggers:
    """The one name of ``andEvery``."""
    if spot.text is not None:
        name = Name(text=spot.text, at=spot.at, path=spot.path)
        if check_name(name, spot.findings, what="trigger"):
            return Triggers(names=(name,))
    elif any(key.text in _CONDITION_KEYS for key, _ in spot.members()):
        _refuse_condition(spot)
    else:
        only = [item.text for item in spot.items()]
        hint = f": write `{_quoted(only[0])}`" if len(only) == 1 and only[0] is not None else ""
        spot.error("wrong-type", f"must be one trigger's name, not {spot.kind}{hint}")
    return Triggers(clear=False)


def _refuse_condition(spot: Spot) -> None:
    key = next((key.text for key, _ in spot.members() if key.text in _CONDITION_KEYS), None)
    what = "a condition other than a trigger's name" if key is None else f"a condition with `{key}`"
    spot.error("unsupported-condition", f"{what} {UNSUPPORTED}: list the names of triggers; all must arrive")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
