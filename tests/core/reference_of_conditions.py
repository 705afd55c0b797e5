"""Reference evaluator: what a log means, worked out from the whole log for each question.

Written from the rules alone, with nothing of ``core.fold``, ``core.conditions`` or the reader. It reads the
JSON of tasks files itself. A session is the list of all that happened in it (triggers, files, closings).
Instances have a status and the place in that list where they were made. What a leaf holds, what it remembers,
and whether a condition is satisfied is never stored: each question goes through the list again.

It knows no bounds (``reference`` has those in numbers). Due times are worked out anew for each timer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias, TypeVar
from uuid import UUID, uuid5

from tests.core import filters

Json: TypeAlias = Any
File: TypeAlias = dict[str, Any]
Leaf: TypeAlias = dict[str, Any]
Node: TypeAlias = Any
Held: TypeAlias = "dict[str, list[Fired]]"
"""What each leaf of a list holds, by its name, in the order of the log."""

NAMESPACE = UUID("6f0d7a1c-3f0e-5c0b-9d5e-7a1f3f6b2c11")
SECOND_US = 1_000_000
UNITS_US = {"s": SECOND_US, "m": 60 * SECOND_US, "h": 3_600 * SECOND_US, "d": 86_400 * SECOND_US}
MOST_IN_SEQUENCE = 100
MOST_KEYS = 1_000
WAITING = ("unstarted", "delayed", "held")
PLACED = ("scheduled", "running")
OPEN = (*WAITING, *PLACED, "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An entry of the log: an event of a session, or a tasks ``file`` that takes force."""

    offset: int
    arrival_us: int
    file: File | None = None
    session: str = ""
    type: str = ""
    data: dict[str, Json] = field(default_factory=dict)
    time_us: int = 0
    id: str | None = None
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A decision. ``kwargs`` is None for a revocation."""

    id: str
    session: str
    instance: str
    run: str = ""
    kwargs: dict[str, Json] | None = None
    attempt: int = 0
    retries: int = 0
    decided_us: int = 0


# ---- what happened in a session -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A trigger; ``moment`` is its place in the session's list, ``clock_us`` the session's clock then.

    Events that timers fired have the offsets −1, −2, …
    """

    moment: int
    offset: int
    trigger: str
    data: dict[str, Json]
    time_us: int
    clock_us: int
    session: str
    id: str | None


@dataclass(frozen=True, slots=True)
class Met:
    """A tasks file that took force, and the session's clock then."""

    file: File
    clock_us: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """The waiting instances were judged under a new file: all of them, or ``only`` one."""

    only: One | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """The session was closed: it remembers nothing of what was before."""


@dataclass(slots=True, kw_only=True, eq=False)
class One:
    """An instance. ``born`` is the moment of what made it."""

    task: str
    number: int
    born: int
    status: str = "unstarted"
    entered: list[tuple[int, str]] = field(default_factory=list)
    """Each status after the first, with the moment from which it has it."""
    origin: One | None = None
    """The origin of a clone."""
    before: One | None = None
    """The round before, if ``repeat`` made the instance."""
    captured: dict[str, Json] | None = None
    """What its leaves brought, once it is decided; a clone has that of its origin."""
    replaced: dict[str, Json] | None = None
    attempt: int = 0
    retries: int = 0
    repeats: int = 0
    satisfied_us: int = 0
    waits_from_us: int = 0
    waits_us: int | None = None
    held_no: int = 0
    run: str = ""
    kwargs: dict[str, Json] = field(default_factory=dict)
    decided_us: int | None = None
    removed: bool = False
    """It waited when a file without its task took force."""

    @property
    def name(self) -> str:
        return f"{self.task}#{self.number}"

    @property
    def first(self) -> One:
        """The instance that an event or a file made: itself, or the first of its origins and rounds."""
        source = self.origin or self.before
        return self if source is None else source.first

    def status_at(self, moment: int) -> str:
        """The status with which it met what happened at a moment."""
        return next((status for start, status in reversed(self.entered) if start <= moment), "unstarted")

    def is_debounced(self, status: str, task: dict[str, Any]) -> bool:
        """Whether it takes events although it is satisfied."""
        return status == "delayed" and "debounce" in task and self.origin is None and self.before is None


@dataclass(slots=True, kw_only=True)
class Session:
    """A session."""

    name: str
    generation: int = 0
    closed: bool = False
    unjudged: bool = False
    clock_us: int = 0
    holds: int = 0
    timeouts: int = 0
    happened: list[Fired | Met | Closed | Judged] = field(default_factory=list)
    ids: set[tuple[str, str, str]] = field(default_factory=set)
    instances: list[One] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def of(self, task: str) -> list[One]:
        """The instances of a task."""
        return [one for one in self.instances if one.task == task]

    def is_empty(self) -> bool:
        """True if neither a trigger is remembered nor an instance is there."""
        return not self.instances and not any(isinstance(one, Fired) for one in self.remembered())

    def remembered(self) -> list[Fired | Met | Closed | Judged]:
        """What happened since the last closing."""
        closings = [at for at, what in enumerate(self.happened) if isinstance(what, Closed)]
        return self.happened[closings[-1] + 1 :] if closings else self.happened


# ---- conditions ---------------------------------------------------------------------------------


_Of = TypeVar("_Of")
_Said = TypeVar("_Said")
_MOST_KEPT = 10_000


def asked_once(make: Callable[[_Of], _Said]) -> Callable[[_Of], _Said]:
    """A decorator: ask the function once about each object, which must not change afterwards.

    Conditions are read at each event, several times. Objects are kept, so that no other gets the id of one.
    """
    known: dict[int, tuple[_Of, _Said]] = {}

    def said(asked: _Of) -> _Said:
        found = known.get(id(asked))
        if found is None:
            if len(known) > _MOST_KEPT:
                known.clear()
            found = known[id(asked)] = (asked, make(asked))
        return found[1]

    return said


def conditions(task: dict[str, Any], side: str) -> list[Node]:
    """The list ``after`` with the leaf of ``andEvery``, or the list ``unless``."""
    return sides(task)[side]


@asked_once
def sides(task: dict[str, Any]) -> dict[str, list[Node]]:
    """Both lists."""
    after: list[Node] = task.get("after") or []
    every = task.get("andEvery")
    if every is not None and name_of(every) not in leaves(after):
        after = [*after, every]
    return {"after": after, "unless": task.get("unless") or []}


def every_name(task: dict[str, Any]) -> str | None:
    """The name of the leaf that makes instances."""
    every = task.get("andEvery")
    return every if every is None or isinstance(every, str) else name_of(every)


def name_of(leaf: Node) -> str:
    if isinstance(leaf, str):
        return leaf
    name: str = leaf.get("as", leaf["trigger"])
    return name


def members_of(node: Node) -> list[Node] | None:
    """The members of a combined condition; None for a leaf."""
    if isinstance(node, list):
        return node
    if isinstance(node, str) or "trigger" in node:
        return None
    members: list[Node] = next(node[key] for key in ("all", "any", "of", "sequence") if key in node)
    return members


@asked_once
def leaves(node: Node) -> dict[str, Leaf]:
    """Every leaf beneath a condition, by name, as an object."""
    members = members_of(node)
    if members is None:
        return {name_of(node): {"trigger": node} if isinstance(node, str) else node}
    found: dict[str, Leaf] = {}
    for member in members:
        found |= leaves(member)
    return found


@asked_once
def sequences(node: Node) -> list[list[str]]:
    """The names in each sequence beneath a condition."""
    if isinstance(node, dict) and "sequence" in node:
        return [[name_of(leaf) for leaf in node["sequence"]]]
    return [names for member in members_of(node) or () for names in sequences(member)]


def sequence_of(tree: Node, name: str) -> list[str] | None:
    """The names of the sequence in which a leaf stands; None if it stands in none."""
    return next((names for names in sequences(tree) if name in names), None)


def value_at(path: str, data: Json) -> Json:
    """What a path leads to.

    Raises:
        KeyError: to nothing.
    """
    for dotted, quoted in re.findall(r"""\.([A-Za-z_]\w*)|\["([^"]*)"\]""", path.removeprefix("data")):
        if not isinstance(data, dict):
            raise KeyError(path)
        data = data[dotted or quoted]
    return data


def key_text(value: Json) -> str:
    """A string or an integer as a key.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return str(value)


def keys_at(path: str, data: Json) -> list[str]:
    """The keys in a list.

    Raises:
        KeyError, TypeError: the list is not usable.
    """
    found = value_at(path, data)
    if not isinstance(found, list) or len(found) > MOST_KEYS:
        raise TypeError
    return [key_text(element) for element in found]


def lists_of(tree: Node, name: str) -> list[str]:
    """The paths at which the ``each`` of other leaves expect a list in the events of this one."""
    return [leaf["each"]["list"] for leaf in leaves(tree).values() if leaf.get("each", {}).get("of") == name]


def matches(tree: Node, name: str, event: Fired) -> bool:
    """Whether an event matches a leaf."""
    leaf = leaves(tree)[name]
    if leaf["trigger"] != event.trigger:
        return False
    if "where" in leaf and not filters.matches(leaf["where"], event):
        return False
    try:
        if "key" in leaf:
            key_text(value_at(leaf["key"], event.data))
        for path in lists_of(tree, name):
            keys_at(path, event.data)
    except (KeyError, TypeError):
        return False
    return True


def identity(tree: Node, name: str) -> Json:
    """What decides which events match a leaf: its trigger, ``where``, ``key`` and list."""
    leaf = leaves(tree)[name]
    each = leaf.get("each")
    return (
        leaf["trigger"],
        leaf.get("where"),
        plain_path(leaf.get("key", "data")),
        each and (each["of"], plain_path(each["list"])),
        sorted(map(plain_path, lists_of(tree, name))),
    )


@cache
def plain_path(path: str) -> str:
    """A path with dots only."""
    return re.sub(r"""\["([^"]*)"\]""", r".\1", path)


def listed(tree: Node, name: str, held: Held) -> list[str] | None:
    """The keys for which a leaf with ``each`` waits; None as long as the list has not arrived."""
    each = leaves(tree)[name]["each"]
    arrived = held.get(each["of"], [])
    return keys_at(each["list"], arrived[0].data) if arrived else None


def key_of(leaf: Leaf, event: Fired) -> str:
    return key_text(value_at(leaf["key"], event.data))


def takes(tree: Node, name: str, held: Held, event: Fired) -> bool:
    """Whether a leaf takes an event that it matches."""
    leaf = leaves(tree)[name]
    has = held.get(name, [])
    if sequence_of(tree, name) is not None:
        return True
    if "each" in leaf:
        keys = listed(tree, name, held)
        key = key_of(leaf, event)
        known = [key_of(leaf, one) for one in has]
        return key not in known and len(known) < MOST_KEYS and (keys is None or key in keys)
    if "key" in leaf and key_of(leaf, event) in [key_of(leaf, one) for one in has]:
        return False
    most: int = leaf.get("count", 1)
    return len(has) < most


def offer(
    tree: Node,
    held: Held,
    event: Fired,
    names: list[str],
    *,
    newest: bool = False,
    within_us: int | None = None,
) -> bool:
    """Offer an event to some leaves of a list; True if one of them took it.

    ``newest``: leaves hold their newest events. ``within_us``: what is older than that is forgotten.
    """
    taken = False
    before = dict(held)
    for name in names:
        if not matches(tree, name, event):
            continue
        if newest and sequence_of(tree, name) is None:
            taken = True
            held[name] = newest_of(leaves(tree)[name], [*held.get(name, []), event])
        elif takes(tree, name, held, event):
            held[name] = sorted([*held.get(name, []), event], key=lambda one: one.moment)
            taken = True
            for other in leaves(tree):
                drop(tree, other, held, within=within_us is not None)
            restore_sequence(tree, name, held, before)
    if taken and within_us is not None:
        forget(tree, held, within_us)
    return taken


def newest_of(leaf: Leaf, events: list[Fired]) -> list[Fired]:
    """The newest events of a leaf by event time; of equal times, the later in the log."""
    in_time = sorted(events, key=lambda one: (one.time_us, one.moment))
    if "key" in leaf:
        in_time = [
            one for at, one in enumerate(in_time) if key_of(leaf, one) not in keys_of(leaf, in_time[at + 1 :])
        ]
    return sorted(in_time[-leaf.get("count", 1) :], key=lambda one: one.moment)


def keys_of(leaf: Leaf, events: list[Fired]) -> list[str]:
    return [key_of(leaf, one) for one in events]


def forget(tree: Node, held: Held, within_us: int) -> None:
    """Forget what is older than the newest event held by more than the window."""
    times = [one.time_us for name in leaves(tree) for one in held.get(name, [])]
    for name in leaves(tree):
        if name in held:
            held[name] = [one for one in held[name] if one.time_us >= max(times) - within_us]


def restore_sequence(tree: Node, name: str, held: Held, before: Held) -> None:
    """Have a sequence hold what it held before an event if the drop of another event would undo it."""
    names = sequence_of(tree, name)
    if names is None or len(in_sequence(tree, names, before)) < len(names):
        return
    if len(in_sequence(tree, names, held)) < len(names):
        held.update({one: before[one] for one in names})


def drop(tree: Node, name: str, held: Held, *, within: bool = False) -> None:
    """Drop what a leaf does not keep: keys that are not in its list, and what is too much in a sequence."""
    leaf = leaves(tree)[name]
    names = sequence_of(tree, name)
    if "each" in leaf:
        keys = listed(tree, name, held)
        if keys is not None and name in held:
            held[name] = [one for one in held[name] if key_of(leaf, one) in keys]
    elif names is not None and len(held.get(name, [])) > MOST_IN_SEQUENCE:
        in_time = sorted(held[name], key=lambda one: (one.time_us, one.moment))
        gone = in_time[-1] if names[0] == name and not within else in_time[0]
        held[name] = [one for one in held[name] if one is not gone]


def in_sequence(tree: Node, names: list[str], held: Held) -> dict[str, list[Fired]]:
    """The events that meet the leaves of a sequence; leaves that are not met are missing."""
    met: dict[str, list[Fired]] = {}
    last = (-(2**63), -1)
    for name in names:
        need = leaves(tree)[name].get("count", 1)
        in_time = sorted(held.get(name, []), key=lambda one: (one.time_us, one.moment))
        later = [one for one in in_time if (one.time_us, one.moment) > last][:need]
        if len(later) < need:
            return met
        met[name] = later
        last = (later[-1].time_us, later[-1].moment)
    return met


def is_met(tree: Node, name: str, held: Held) -> bool:
    """Whether a leaf is met."""
    leaf = leaves(tree)[name]
    names = sequence_of(tree, name)
    if names is not None:
        return name in in_sequence(tree, names, held)
    has = held.get(name, [])
    if "each" in leaf:
        keys = listed(tree, name, held)
        return keys is not None and set(keys) <= {key_of(leaf, one) for one in has}
    need: int = leaf.get("count", 1)
    return len(has) >= need


def is_satisfied(tree: Node, node: Node, held: Held) -> bool:
    """Whether a condition within the list ``tree`` is satisfied."""
    members = members_of(node)
    if members is None:
        return is_met(tree, name_of(node), held)
    satisfied = [is_satisfied(tree, member, held) for member in members]
    if isinstance(node, dict) and "any" in node:
        return any(satisfied)
    if isinstance(node, dict) and "of" in node:
        return sum(satisfied) >= int(node["atLeast"])
    return all(satisfied)


def has_something(tree: Node, name: str, held: Held) -> bool:
    """Whether a leaf holds events, or an ``each`` its list; of a sequence, whether the leaf is met."""
    if sequence_of(tree, name) is not None:
        return is_met(tree, name, held)
    return bool(held.get(name)) or ("each" in leaves(tree)[name] and listed(tree, name, held) is not None)


def brought(tree: Node, name: str, held: Held) -> list[Fired]:
    """The events of which a leaf brings the data, in log order."""
    names = sequence_of(tree, name)
    events = held.get(name, []) if names is None else in_sequence(tree, names, held)[name]
    return sorted(events, key=lambda one: one.moment)


def brings(tree: Node, name: str, held: Held) -> Json:
    """The kwarg of a leaf that is met."""
    leaf = leaves(tree)[name]
    in_log = brought(tree, name, held)
    if "each" in leaf:
        return {key_of(leaf, one): one.data for one in in_log}
    if "count" in leaf:
        return [one.data for one in in_log]
    return in_log[0].data


def with_params(task: dict[str, Any], stored: dict[str, Json]) -> dict[str, Json]:
    """The kwargs of a command: ``withParams`` merged beneath what the leaves brought."""
    params = task.get("withParams") or {}
    known = leaves(conditions(task, "after"))
    kwargs: dict[str, Json] = {}
    for name in {**params, **stored}:
        under, over = params.get(name), stored.get(name)
        leaf = known.get(name, {})
        if name not in params:
            kwargs[name] = over
        elif "count" in leaf or "each" in leaf:
            if isinstance(over, list):
                kwargs[name] = [merged(under, one) for one in over]
            elif isinstance(over, dict) and "each" in leaf:
                kwargs[name] = {key: merged(under, one) for key, one in over.items()}
            elif name in stored:
                kwargs[name] = over
        else:
            kwargs[name] = merged(under, over) if name in stored else under
    return deepcopy(kwargs)


def merged(under: Json, over: Json) -> Json:
    """One value laid upon another: objects member by member."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return {
        key: merged(under[key], over[key]) if key in under and key in over else {**under, **over}[key]
        for key in {**under, **over}
    }


# ---- the log ------------------------------------------------------------------------------------


class Reference:
    """Reads a log line by line; every question goes through all of a session's past again."""

    def __init__(self, app: str, file: File) -> None:
        self.app = app
        self.file = file
        self.sessions: dict[str, Session] = {}

    def read(self, line: Line) -> None:
        """Go on to the next line of the log."""
        if line.file is not None:
            for session in self.sessions.values():
                self.meet(session, line.file, line.arrival_us)
            self.file = line.file
            return
        if line.session not in self.sessions:
            if line.type.startswith("triggerstream."):
                return
            self.sessions[line.session] = Session(name=line.session, happened=[Met(self.file)])
        session = self.sessions[line.session]
        clock_us = max(session.clock_us, line.arrival_us)
        self.fire_timers(session, clock_us)
        session.clock_us = clock_us
        if session.unjudged and line.type != "triggerstream.timer":
            session.unjudged = False
            session.happened.append(Judged())
            for task in self.file:
                for one in session.of(task):
                    self.judge(session, one)
            self.give_places(session)
        self.apply(session, line)
        self.give_places(session)
        self.fire_timers(session, session.clock_us)

    def asked(self, session: str) -> list[Asked]:
        """All decisions for a session, in order."""
        return self.sessions[session].asked if session in self.sessions else []

    def statuses(self, session: str) -> dict[str, str]:
        """The status of every instance."""
        return {one.name: one.status for one in self.instances(session)}

    def stored(self, session: str) -> dict[str, dict[str, Json]]:
        """What the leaves of every decided instance brought."""
        return {
            one.name: kwargs
            for one in self.instances(session)
            for kwargs in (one.replaced if one.replaced is not None else one.captured,)
            if kwargs is not None
        }

    def holding(self, session: str) -> dict[str, dict[str, Json]]:
        """What the leaves of every waiting instance but clones hold by now; of a sequence, its met leaves."""
        return {
            one.name: self.holds(self.sessions[session], one)
            for one in self.instances(session)
            if one.status in WAITING and one.origin is None
        }

    def holds(self, session: Session, one: One) -> dict[str, Json]:
        """The data that the leaves of the file in force hold, met or not; of a sequence, its met leaves."""
        tree = conditions(self.file[one.task], "after")
        held = self.held(session, one, "after")
        return {name: brings(tree, name, held) for name in leaves(tree) if has_something(tree, name, held)}

    def all_due_us(self, session: str) -> list[int]:
        """The due times of all timers of a session."""
        due = [self.due_us(self.sessions[session], one) for one in self.instances(session)]
        return [due_us for due_us in due if due_us is not None]

    def instances(self, session: str) -> list[One]:
        """The instances of a session."""
        return self.sessions[session].instances if session in self.sessions else []

    # ---- what instances hold and leaves remember

    def held(self, session: Session, one: One, side: str, until: int | None = None) -> Held:
        """What the leaves of a side hold for an instance, after everything before the moment ``until``."""
        return self.followed(session, one, side, until)[0]

    def opened_us(self, session: Session, one: One) -> int | None:
        """The session's clock when an instance took its first event of ``after``."""
        return self.followed(session, one, "after")[1]

    def followed(
        self, session: Session, one: One, side: str, until: int | None = None
    ) -> tuple[Held, int | None]:
        """The events that the leaves of a side hold, and the clock when they took the first."""
        end = len(session.happened) if until is None else until
        held: Held = {}
        file = file_at(session, one.born)
        tree = conditions(file[one.task], side)
        if one.origin is not None:
            held = self.held(session, one.origin, side, one.born + 1)
        elif one.before is not None:
            held = self.held(session, one.before, side, one.born + 1)
            if side == "after":
                held = {n: brought(tree, n, held) for n in leaves(tree) if is_met(tree, n, held)}
        elif side == "after" or file[one.task].get("unlessFrom") != "instance":
            # An instance that a file makes is judged at the next event, and forgets nothing before (R9.12).
            made_by_file = isinstance(session.happened[one.born], Met)
            names = list(leaves(tree))
            self.offer_remembered(
                session, one.task, side, held, names, until=one.born + 1, forgets=not made_by_file
            )
        opened_us = clock_at(session, one.born) if held else None
        for moment in range(one.born + 1, end):
            what = session.happened[moment]
            task = file_at(session, moment).get(one.task)
            if task is None or isinstance(what, Closed):
                continue
            taken = False
            if side == "unless":
                if isinstance(what, Fired):
                    tree = conditions(task, side)
                    offer(tree, held, what, list(leaves(tree)))
                elif isinstance(what, Met):
                    self.change_unless(session, one, held, moment)
            else:
                taken = self.follow_after(session, one, held, moment)
            if taken and opened_us is None:
                opened_us = clock_at(session, moment)
        return held, opened_us

    def follow_after(self, session: Session, one: One, held: Held, moment: int) -> bool:
        """What the leaves of ``after`` make of what happened at a moment; True if one took an event."""
        what, status = session.happened[moment], one.status_at(moment)
        task = file_at(session, moment)[one.task]
        tree = conditions(task, "after")
        if one.origin is not None or status not in WAITING:
            return False
        if isinstance(what, Fired):
            if status != "unstarted" and not one.is_debounced(status, task):
                return False
            within_us = window_of(task) if status == "unstarted" else None
            return offer(tree, held, what, list(leaves(tree)), newest=holds_newest(task), within_us=within_us)
        if isinstance(what, Met):
            return self.change_after(session, one, held, moment)
        if isinstance(what, Judged) and what.only in {None, one} and status == "unstarted":
            within_us = window_of(task)
            if within_us is not None:
                forget(tree, held, within_us)
        return False

    def change_after(self, session: Session, one: One, held: Held, moment: int) -> bool:
        """A waiting instance meets the file that took force at ``moment``; True if a leaf took an event.

        A leaf that says what it said in the file before keeps what it holds. An offer to any other one
        forgets what lies outside the window, unless the instance is satisfied.
        """
        task = file_at(session, moment)[one.task]
        tree = conditions(task, "after")
        old = conditions(file_at(session, moment - 1).get(one.task, {"after": []}), "after")
        unstarted = one.status_at(moment) == "unstarted"
        newest, within_us = holds_newest(task), window_of(task) if unstarted else None
        kept = {name: held.pop(name) for name in leaves(tree) if name in held}
        every = [(event, name) for name, events in kept.items() for event in events]
        changed = {name for name in leaves(tree) if says(tree, name) != says(old, name)}
        offered = False
        for event, name in sorted(every, key=lambda pair: pair[0].moment):
            taken = offer(tree, held, event, [name], newest=newest)
            offered = offered or (taken and name in changed)
        if unstarted:
            without = [name for name in leaves(tree) if not held.get(name)]
            if self.offer_remembered(session, one.task, "after", held, without, until=moment + 1):
                offered = True
        if offered and within_us is not None:
            forget(tree, held, within_us)
        return offered

    def change_unless(self, session: Session, one: One, held: Held, moment: int) -> None:
        """An unresolved instance meets the file that took force at ``moment``."""
        task = file_at(session, moment)[one.task]
        tree = conditions(task, "unless")
        before = file_at(session, moment - 1).get(one.task, {"after": []})
        old = conditions(before, "unless")
        new = [
            name
            for name in leaves(tree)
            if name not in leaves(old) or identity(tree, name) != identity(old, name)
        ]
        for name in list(held):
            if name in new or name not in leaves(tree):
                del held[name]
        if task.get("unlessFrom") == "instance":
            self.offer_remembered(
                session, one.task, "unless", held, new, until=moment + 1, after=one.first.born
            )
        else:
            if before.get("unlessFrom") == "instance":
                new = [name for name in leaves(tree) if not held.get(name)]
            self.offer_remembered(session, one.task, "unless", held, new, until=moment + 1)

    def offer_remembered(
        self,
        session: Session,
        task: str,
        side: str,
        held: Held,
        names: list[str],
        *,
        until: int,
        after: int = -1,
        forgets: bool = True,
    ) -> bool:
        """Offer leaves what they remember, in log order, if that came later than the moment ``after``.

        With ``forgets``, they forget what is too old. True if one of them took something.
        """
        there = file_at(session, until - 1)[task]
        tree = conditions(there, side)
        newest, within_us = False, None
        if side == "after":
            newest, within_us = holds_newest(there), window_of(there) if forgets else None
        pairs = [(self.remembered(session, task, side, name, until), name) for name in names]
        later = [(event, name) for event, name in pairs if event is not None and event.moment > after]
        taken = False
        for event, name in sorted(later, key=lambda pair: pair[0].moment):
            if offer(tree, held, event, [name], newest=newest, within_us=within_us):
                taken = True
        return taken

    def remembered(self, session: Session, task: str, side: str, name: str, until: int) -> Fired | None:
        """The event that a leaf remembers after everything before the moment ``until``."""
        tree = conditions(file_at(session, until - 1)[task], side)
        begin = max([at for at in range(until) if isinstance(session.happened[at], Closed)], default=-1) + 1
        trigger = leaves(tree)[name]["trigger"]
        events = [
            what
            for what in session.happened[begin:until]
            if isinstance(what, Fired) and what.trigger == trigger
        ]
        if "andEvery" in file_at(session, until - 1)[task]:
            since = self.same_since(session, task, side, name, until)
            later = [event for event in events if event.moment >= since and matches(tree, name, event)]
            if later:
                return later[-1]
            events = [event for event in events if event.moment < since]
        return events[-1] if events and matches(tree, name, events[-1]) else None

    def same_since(self, session: Session, task: str, side: str, name: str, until: int) -> int:
        """The moment of the file since which a repeatable task has had a leaf with the same identity."""
        now = identity(conditions(file_at(session, until - 1)[task], side), name)
        since = until
        for moment in reversed(range(until)):
            what = session.happened[moment]
            if not isinstance(what, Met):
                continue
            there = what.file.get(task)
            if there is None or "andEvery" not in there:
                break
            tree = conditions(there, side)
            if name not in leaves(tree) or identity(tree, name) != now:
                break
            since = moment
        return since

    def is_blocked(self, session: Session, one: One) -> bool:
        """Whether ``unless`` is satisfied."""
        unless = conditions(self.file[one.task], "unless")
        return bool(unless) and is_satisfied(unless, unless, self.held(session, one, "unless"))

    # ---- triggers

    def fire(self, session: Session, trigger: str, data: dict[str, Json], at: Line) -> None:
        if session.closed:
            session.closed = False
            session.instances = []
        event = Fired(
            moment=len(session.happened),
            offset=at.offset,
            trigger=trigger,
            data=data,
            time_us=at.time_us,
            clock_us=session.clock_us,
            session=session.name,
            id=at.id,
        )
        session.happened.append(event)
        for name, task in self.file.items():
            self.offer_to_task(session, name, task, event)

    def offer_to_task(self, session: Session, name: str, task: dict[str, Any], event: Fired) -> None:
        after, unless = conditions(task, "after"), conditions(task, "unless")
        in_after = [leaf for leaf in leaves(after) if matches(after, leaf, event)]
        in_unless = [leaf for leaf in leaves(unless) if matches(unless, leaf, event)]
        if not in_after and not in_unless:
            return
        accepted, judged = False, []
        for one in session.of(name):
            took = noted = False
            if one.status == "unstarted" or one.is_debounced(one.status, task):
                held = self.held(session, one, "after", event.moment)
                took = offer(after, held, event, in_after, newest=holds_newest(task))
            if one.status in OPEN:
                noted = offer(unless, self.held(session, one, "unless", event.moment), event, in_unless)
            if took and one.status == "delayed":
                one.waits_from_us = session.clock_us
            accepted = accepted or took or (noted and one.status == "unstarted")
            if took or noted:
                judged.append(one)
        makes = bool(in_after) or task.get("unlessFrom") != "instance"
        again = every_name(task) in in_after and not accepted
        if (makes and not session.of(name)) or again or (makes and self.begins_again(session, name, task)):
            judged.append(self.create(session, name, event.moment))
        for one in judged:
            self.judge(session, one)

    def begins_again(self, session: Session, name: str, task: dict[str, Any]) -> bool:
        """A file without the task ended its last instance while it waited, and the task is back."""
        all_of_it = session.of(name)
        if not all_of_it or not all_of_it[-1].removed or any(one.status in OPEN for one in all_of_it):
            return False
        return "andEvery" in task or all(one.decided_us is None for one in all_of_it)

    def create(self, session: Session, name: str, born: int) -> One:
        one = One(task=name, number=len(session.of(name)), born=born)
        session.instances.append(one)
        return one

    def judge(self, session: Session, one: One) -> None:
        if one.status not in WAITING:
            return
        task = self.file[one.task]
        after = conditions(task, "after")
        if self.is_blocked(session, one):
            self.enter(session, one, "abandoned")
        elif one.status == "unstarted" and is_satisfied(after, after, self.held(session, one, "after")):
            one.satisfied_us = session.clock_us
            if "delay" in task or "debounce" in task:
                self.delay(session, one)
            else:
                self.want(session, one, session.clock_us)

    def want(self, session: Session, one: One, at_us: int) -> None:
        """Decide an instance if it has a place, else hold it."""
        others = any(other.status == "held" for other in session.of(one.task))
        if not others and self.is_place_free(session, one.task):
            self.decide(session, one, at_us)
        else:
            self.enter(session, one, "held")
            session.holds += 1
            one.held_no = session.holds

    def is_place_free(self, session: Session, name: str) -> bool:
        """Whether one more instance of a task may be decided."""
        task = self.file[name]
        placed = [one for one in session.of(name) if one.status in PLACED]
        full = "maxConcurrency" in task and len(placed) >= task["maxConcurrency"]
        return not full and not task.get("paused")

    def give_places(self, session: Session) -> None:
        """Decide held instances as far as places go."""
        if session.unjudged:
            return
        for name in self.file:
            held = [one for one in session.of(name) if one.status == "held"]
            for one in sorted(held, key=lambda one: one.held_no):
                if self.is_place_free(session, name):
                    self.decide(session, one, session.clock_us)

    def decide(self, session: Session, one: One, at_us: int) -> None:
        task = self.file[one.task]
        if one.captured is None:
            tree = conditions(task, "after")
            held = self.held(session, one, "after")
            one.captured = {n: brings(tree, n, held) for n in leaves(tree) if is_met(tree, n, held)}
        self.enter(session, one, "scheduled")
        one.decided_us = at_us
        one.run = task["run"]
        one.kwargs = with_params(task, one.captured if one.replaced is None else one.replaced)
        self.ask(session, one)
        if one.origin is None and "repeat" in task and one.repeats < task["repeat"]["max"]:
            following = self.create(session, one.task, len(session.happened) - 1)
            following.before, following.repeats = one, one.repeats + 1
            following.satisfied_us = one.satisfied_us
            self.delay(session, following)

    def ask(self, session: Session, one: One) -> None:
        session.asked.append(
            Asked(
                id=self.command(session, one),
                session=session.name,
                instance=one.name,
                run=one.run,
                kwargs=one.kwargs,
                attempt=one.attempt,
                retries=one.retries,
                decided_us=one.decided_us or 0,
            )
        )

    def command(self, session: Session, one: One) -> str:
        """The id of an instance's command."""
        generation = session.generation - session.closed
        app, name, task = self.app, session.name, one.task
        text = f"{len(app)}:{app}{len(name)}:{name}{generation}:{len(task)}:{task}{one.number}"
        return str(uuid5(NAMESPACE, text))

    def command_of(self, session: str, instance: str) -> str:
        """The id of the command of an instance in the first generation of a session."""
        task, _, number = instance.rpartition("#")
        return self.command(Session(name=session), One(task=task, number=int(number), born=0))

    def enter(self, session: Session, one: One, status: str) -> None:
        """An instance gets a status."""
        one.status = status
        one.entered.append((len(session.happened), status))

    # ---- time and files

    def due_us(self, session: Session, one: One) -> int | None:
        """The instant at which the timer of an instance is due by the file in force; None without one."""
        task = self.file.get(one.task)
        if task is None or one.status not in {"unstarted", "delayed"}:
            return None
        if one.status == "unstarted":
            opened_us = self.opened_us(session, one) if "deadline" in task else None
            return None if opened_us is None else opened_us + duration_us(task["deadline"])
        if one.waits_us is not None:
            return one.waits_from_us + one.waits_us
        if one.origin is not None:
            return one.waits_from_us + (wait_us(task["retry"], one.retries) if "retry" in task else 0)
        if one.before is not None:
            return one.waits_from_us + (duration_us(task["repeat"]["every"]) if "repeat" in task else 0)
        debounce = task.get("debounce", {})
        if isinstance(debounce, str):
            debounce = {"quiet": debounce}
        due_us = one.waits_from_us + duration_us(task.get("delay", debounce.get("quiet")))
        at_most = debounce.get("atMost")
        return due_us if at_most is None else min(due_us, one.satisfied_us + duration_us(at_most))

    def fire_timers(self, session: Session, until_us: int) -> None:
        """Fire the timers that are due at or before an instant, one by one."""
        places = list(self.file)
        while True:
            pairs = [(one, self.due_us(session, one)) for one in session.instances]
            due = [
                (due_us, places.index(one.task), one.number, one)
                for one, due_us in pairs
                if due_us is not None
            ]
            if not due or min(due)[0] > until_us:
                return
            due_us, _, _, first = min(due)
            session.clock_us = max(session.clock_us, due_us)
            self.fire_timer(session, first, due_us)
            self.give_places(session)

    def fire_timer(self, session: Session, one: One, due_us: int) -> None:
        """Fire the timer of an instance."""
        if one.status == "delayed":
            if self.is_blocked(session, one):
                self.enter(session, one, "abandoned")
            else:
                self.want(session, one, due_us)
            return
        if session.unjudged:
            session.happened.append(Judged(one))
            self.judge(session, one)
        if one.status == "unstarted":
            data = self.holds(session, one)
            self.enter(session, one, "expired")
            session.timeouts -= 1
            at = Line(offset=session.timeouts, arrival_us=session.clock_us, time_us=due_us)
            self.fire(session, f"{one.task}.timeout", data, at)

    def meet(self, session: Session, file: File, arrival_us: int) -> None:
        """A session meets a file when it arrives."""
        if session.is_empty():
            session.happened.append(Met(file, session.clock_us))
            return
        clock_us = max(session.clock_us, arrival_us)
        self.fire_timers(session, clock_us)
        session.clock_us = clock_us
        session.happened.append(Met(file, clock_us))
        for one in session.instances:
            if one.task not in file and one.status in WAITING:
                self.enter(session, one, "cancelled")
                one.removed = True
        if session.closed:
            return
        session.unjudged = True
        for name, task in file.items():
            if task.get("appliesTo") == "existing" and not session.of(name):
                names = leaves(conditions(task, "after"))
                now = len(session.happened)
                if any(self.remembered(session, name, "after", leaf, now) is not None for leaf in names):
                    self.create(session, name, now - 1)

    # ---- outcomes and orders

    def apply(self, session: Session, line: Line) -> None:
        data = line.data
        kind = line.type.removeprefix("triggerstream.")
        if kind == line.type:
            if line.id is not None and self.names(line.type):
                if (line.type, line.source, line.id) in session.ids:
                    return
                session.ids.add((line.type, line.source, line.id))
            self.fire(session, line.type, data, line)
        elif kind in {"timer", "session.touch"}:
            pass
        elif kind == "session.close":
            if not session.closed:
                for one in session.instances:
                    if one.status in WAITING:
                        self.enter(session, one, "cancelled")
                session.generation += 1
                session.closed = True
                session.holds = session.timeouts = 0
                session.happened.append(Closed())
        elif kind == "session.erase":
            session.generation += 1
            session.closed = session.unjudged = False
            session.clock_us = 0
            session.happened = [Met(self.file)]
            session.ids, session.instances = set(), []
        else:
            found = next((one for one in session.instances if one.name == data["instance"]), None)
            if found is not None and kind.startswith("task."):
                if data["command"] == self.command(session, found):
                    self.outcome(session, found, kind, line)
            elif found is not None:
                self.order(session, found, kind, line)

    def names(self, trigger: str) -> bool:
        """Whether a leaf of the file is of the trigger."""
        return any(
            leaf["trigger"] == trigger
            for task in self.file.values()
            for side in ("after", "unless")
            for leaf in leaves(conditions(task, side)).values()
        )

    def outcome(self, session: Session, one: One, kind: str, line: Line) -> None:
        data = line.data
        if kind in {"task.failed", "task.revoked"} and data.get("attempt") is not None:
            nobody_ran_it = kind == "task.revoked" or data.get("reason") not in {
                None,
                "result not reportable",
            }
            if data["attempt"] < one.attempt and nobody_ran_it:
                return
        task = self.file.get(one.task)
        match kind, one.status:
            case "task.started", "scheduled":
                self.enter(session, one, "running")
            case "task.finished", "scheduled" | "running":
                self.enter(session, one, "finished")
                self.cascade(session, one, line)
            case "task.failed", "scheduled" | "running":
                retry = (task or {}).get("retry")
                if (
                    retry is None
                    or one.retries >= retry["max"]
                    or data.get("reason") == "result not reportable"
                    or session.closed
                    or self.is_blocked(session, one)
                ):
                    self.enter(session, one, "failed")
                else:
                    self.delay(session, self.clone(session, one, retries=one.retries + 1))
            case "task.skipped", "scheduled" | "running":
                self.enter(session, one, "skipped")
            case "task.retried", "running":
                if task is None or session.closed or self.is_blocked(session, one):
                    self.enter(session, one, "failed")
                    return
                clone = self.clone(session, one, retries=one.retries + 1)
                if data.get("kwargs") is not None:
                    clone.replaced = data["kwargs"]
                self.delay(session, clone, round(data.get("after", 0) * SECOND_US))
            case "task.revoked", "scheduled":
                self.enter(session, one, "expired")
            case _:
                pass

    def order(self, session: Session, one: One, kind: str, line: Line) -> None:
        data = line.data
        match kind, one.status:
            case "instance.skip", "failed":
                self.enter(session, one, "skipped")
                if data.get("cascade"):
                    self.cascade(session, one, line)
            case "instance.replay", "failed" | "scheduled" | "running":
                force = bool(data.get("force"))
                if one.task not in self.file or session.closed or (one.status != "failed" and not force):
                    return
                if not force and self.is_blocked(session, one):
                    return
                clone = self.clone(session, one, retries=0)
                if data.get("kwargs") is not None:
                    clone.replaced = data["kwargs"]
                if force:
                    self.decide(session, clone, session.clock_us)
                else:
                    self.want(session, clone, session.clock_us)
            case "instance.cancel", "unstarted" | "delayed" | "held":
                self.enter(session, one, "cancelled")
            case "instance.cancel", "scheduled" | "running":
                self.enter(session, one, "cancelled")
                session.asked.append(
                    Asked(id=self.command(session, one), session=session.name, instance=one.name)
                )
            case "instance.resend", "scheduled" | "running":
                one.attempt += 1
                self.ask(session, one)
            case "instance.release", "delayed" | "held":
                self.decide(session, one, session.clock_us)
            case _:
                pass

    def clone(self, session: Session, one: One, *, retries: int) -> One:
        self.enter(session, one, "replayed")
        clone = self.create(session, one.task, len(session.happened) - 1)
        clone.origin, clone.captured, clone.replaced = one, one.captured, one.replaced
        clone.retries = retries
        return clone

    def delay(self, session: Session, one: One, waits_us: int | None = None) -> None:
        self.enter(session, one, "delayed")
        one.waits_from_us, one.waits_us = session.clock_us, waits_us

    def cascade(self, session: Session, one: One, line: Line) -> None:
        result = line.data.get("result")
        if not session.closed:
            data = {} if result is None else result if isinstance(result, dict) else {"result": result}
            self.fire(session, one.task, data, line)


def file_at(session: Session, moment: int) -> File:
    """The file in force at a moment."""
    for what in reversed(session.happened[: moment + 1]):
        if isinstance(what, Met):
            return what.file
    raise AssertionError


def clock_at(session: Session, moment: int) -> int:
    """The session's clock at a moment."""
    for what in reversed(session.happened[: moment + 1]):
        if isinstance(what, Fired | Met):
            return what.clock_us
    raise AssertionError


def holds_newest(task: dict[str, Any]) -> bool:
    """Whether the leaves of ``after`` hold their newest events."""
    return "within" in task or "debounce" in task


def window_of(task: dict[str, Any]) -> int | None:
    """The window in which all that satisfies ``after`` lies."""
    return duration_us(task["within"]) if "within" in task else None


def says(tree: Node, name: str) -> Json:
    """All that a leaf says, with its place in a sequence and the ``each`` that name it."""
    leaf = leaves(tree).get(name)
    return leaf and (leaf, sequence_of(tree, name), identity(tree, name))


def wait_us(retry: dict[str, Any], retries: int) -> int:
    """The wait before a retry."""
    backoff = duration_us(retry.get("backoff"))
    wait = backoff * float(retry.get("factor", 1)) ** (retries - 1)
    return int(min(wait, duration_us(retry["maxBackoff"])) if "maxBackoff" in retry else wait)


def duration_us(text: str | None) -> int:
    """A duration such as ``1h30m``."""
    return sum(int(n) * UNITS_US[unit] for n, unit in re.findall(r"(\d+)([smhd])", text or ""))
