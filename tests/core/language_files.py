"""Random tasks files of the condition language: valid, small, and mostly satisfiable.

Files are JSON values, as people would write them. Triggers and data are few, so that random logs satisfy
conditions, and counts are small.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from hypothesis import strategies as st

from tests.core.strategies import TASKS, TRIGGERS, Dice, bytes_of
from triggerstream.core.ids import Json, JsonObject

CONSTRUCTS: Final = frozenset(
    {
        *("where", "as", "any", "all", "atLeast", "count", "key", "each", "sequence"),
        *("unless", "andEvery", "unlessFrom", "appliesTo", "withParams", "cascade"),
    }
)
"""All that a file may use; ``cascade``: conditions on names of tasks."""
DATA: Final[tuple[JsonObject, ...]] = (
    {},
    {"n": 1, "by": "ann", "ids": ["ann", "bob"]},
    {"n": 2, "by": "bob", "ids": [1]},
    {"n": 3, "by": 1, "ids": []},
    {"n": 0, "by": "1", "ids": ["1", 1, "bob"], "ok": True},
    {"n": 2.0, "by": "cy", "ids": ["cy", "cy"], "ok": False},
    {"n": "2", "by": None, "ids": "ann", "ok": "yes"},
    {"n": 5, "by": {"id": 7}, "ids": [None], "ok": True},
)
"""Data of events on which the files' expressions, keys and lists differ."""
WHERES: Final = (
    "data.n > 1",
    "data.n == 2",
    "data.n in [1, 2]",
    "has(data.ok) && data.ok",
    "!has(data.by) || data.by != 'bob'",
    "data.ids.exists(v, v == 'ann')",
    "size(data.ids) < 2",
    "data.ok",
    "session == 's1'",
    "id != null",
    "time > timestamp('2026-01-01T00:00:05Z')",
)
_PATHS: Final = ("data.by", "data.n", 'data["by"]', "data.by.id")
_LISTS: Final = ("data.ids", 'data["ids"]')
_MOST_LEVELS: Final = 3
_PARAMS: Final[tuple[JsonObject, ...]] = ({"p": 1}, {"n": 9}, {"by": {"id": 8}}, {})
_TASK_BYTES: Final = 64


def tasks_files(*, constructs: Collection[str] = CONSTRUCTS) -> st.SearchStrategy[JsonObject]:
    """Valid files of up to three tasks that use only ``constructs`` beside plain lists of triggers."""

    def build(drawn: bytes) -> JsonObject:
        first, *_ = drawn
        parts = [drawn[at : at + _TASK_BYTES] for at in range(1, len(drawn), _TASK_BYTES)]
        names = [str(TASKS[(first + n) % len(TASKS)]) for n in range(len(parts))]
        return {
            name: _task(name, Dice(part), constructs, earlier=names[:n])
            for n, (name, part) in enumerate(zip(names, parts, strict=True))
        }

    return bytes_of(_TASK_BYTES, len(TASKS), extra=1).map(build)


def _task(name: str, dice: Dice, constructs: Collection[str], *, earlier: list[str]) -> JsonObject:
    # A task waits for earlier ones only: no rings.
    pool = [*map(str, TRIGGERS), *(earlier if "cascade" in constructs else ())]
    after = _List(dice, constructs, pool)
    conditions = after.members()
    task: JsonObject = {"after": conditions, "run": dice.one((f"run.{name}", f"new.{name}"))}
    if "andEvery" in constructs and dice.one((False, False, True)):
        task["andEvery"] = after.every()
    if "unless" in constructs and dice.one((False, True)):
        from_instance = "unlessFrom" in constructs and dice.one((False, True))
        plain = frozenset(constructs) - {"count", "key", "each", "sequence"}
        task["unless"] = _List(dice, constructs if from_instance else plain, pool).members()
        if from_instance or ("unlessFrom" in constructs and dice.one((False, False, True))):
            task["unlessFrom"] = "instance" if from_instance else "session"
    if "appliesTo" in constructs and dice.one((False, False, False, True)):
        task["appliesTo"] = dice.one(("existing", "new"))
    if "withParams" in constructs and dice.one((False, False, True)):
        task["withParams"] = {leaf: dice.one(_PARAMS) for leaf in dice.some([*after.leaves, "extra"], 2)}
    return task


@dataclass
class _List:
    """Draws one list of conditions, in which a name is one leaf."""

    dice: Dice
    constructs: Collection[str]
    pool: list[str]
    leaves: dict[str, Json] = field(default_factory=dict)
    """Leaves by name, as they are written."""
    in_sequence: set[str] = field(default_factory=set)
    owed: list[Json] = field(default_factory=list)
    """Leaves to which an ``each`` points and that still have to be put into the list."""

    def members(self) -> list[Json]:
        """One to three conditions."""
        members = _distinct([self.condition(1) for _ in range(self.dice.one((1, 2, 2, 3)))])
        return [*members, *self.owed]

    def condition(self, level: int) -> Json:
        """A leaf, or conditions combined."""
        kinds = [kind for kind in ("any", "atLeast", "sequence", "all") if kind in self.constructs]
        plain = ("leaf",) * 3 * level
        kind = self.dice.one((*plain, *kinds)) if level < _MOST_LEVELS else "leaf"
        match kind:
            case "leaf":
                return self.leaf()
            case "sequence":
                return {"sequence": [self.leaf(sequence=True) for _ in range(self.dice.one((2, 2, 3)))]}
            case _:
                members = _distinct([self.condition(level + 1) for _ in range(self.dice.one((2, 2, 1, 3)))])
        if kind == "atLeast":
            return {"atLeast": self.dice.one(range(1, len(members) + 1)), "of": members}
        nested_list = kind == "all" and self.dice.one((False, True))
        return members if nested_list else {kind: members}

    def leaf(self, *, sequence: bool = False, every: bool = False) -> Json:
        """A new leaf, or one that stands in the list already."""
        known = [name for name in self.leaves if name not in self.in_sequence]
        if known and not sequence and not every and self.dice.one((False, False, True)):
            return self.leaves[self.dice.one(known)]
        leaf: JsonObject = {"trigger": self.dice.one(self.pool)}
        if "where" in self.constructs and self.dice.one((False, False, True)):
            leaf["where"] = self.dice.one(WHERES)
        counted = [kind for kind in ("count",) if kind in self.constructs]
        collected = [kind for kind in ("each",) if kind in self.constructs and not sequence and not every]
        kind = self.dice.one(("plain", "plain", *counted, *collected))
        if kind == "count":
            leaf["count"] = self.dice.one((2, 1, 3))
            if "key" in self.constructs and not sequence and self.dice.one((False, True)):
                leaf["key"] = self.dice.one(_PATHS)
        elif kind == "each" and (of := self._list_leaf()) is not None:
            leaf |= {"key": self.dice.one(_PATHS), "each": {"of": of, "list": self.dice.one(_LISTS)}}
        return self._named(leaf, sequence=sequence)

    def every(self) -> Json:
        """The leaf of ``andEvery``: the name of one that stands in the list, a trigger, or a new leaf."""
        marked = [
            name for name, leaf in self.leaves.items() if not isinstance(leaf, dict) or "each" not in leaf
        ]
        choice = self.dice.one(("marked", "new"))
        return self.dice.one(marked) if marked and choice == "marked" else self.leaf(every=True)

    def _named(self, leaf: JsonObject, *, sequence: bool) -> Json:
        trigger = str(leaf["trigger"])
        written: Json = trigger if len(leaf) == 1 and self.dice.one((True, True, False)) else leaf
        name = trigger
        if trigger in self.leaves:
            shared = self.leaves[trigger] == written and not sequence and trigger not in self.in_sequence
            name = trigger if shared else f"l{len(self.leaves)}"
        elif "as" in self.constructs and self.dice.one((False, False, False, True)):
            name = f"l{len(self.leaves)}"
        if name != trigger:
            written = {**leaf, "as": name}
        self.leaves[name] = written
        if sequence:
            self.in_sequence.add(name)
        return written

    def _list_leaf(self) -> str | None:
        """The name of a plain leaf to which an ``each`` may point."""
        plain = [
            name
            for name, leaf in self.leaves.items()
            if name not in self.in_sequence
            and (not isinstance(leaf, dict) or leaf.keys().isdisjoint({"count", "each"}))
        ]
        if plain:
            return self.dice.one(plain)
        free = [trigger for trigger in self.pool if trigger not in self.leaves]
        if not free:
            return None
        of = self.dice.one(free)
        self.leaves[of] = of
        self.owed.append(of)
        return of


def _distinct(members: list[Json]) -> list[Json]:
    """``members``, each once; a list says the same as ``all``."""
    said = [{"all": member} if isinstance(member, list) else member for member in members]
    return [member for n, member in enumerate(members) if said[n] not in said[:n]]
