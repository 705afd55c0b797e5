"""The planted faults of ``README.md``, which says the rule that each one breaks.

Each is a function that makes a wrong version of one function of the fold out of the right one.
"""

# ruff: noqa: ANN401, ARG001, ARG005 - a function that takes the place of another one has all of its arguments

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import Any
from unittest import mock

from msgspec import structs

from tests.core.planted.plant import Fault, Function, Make, beside, replaces
from triggerstream.core import conditions, fold, reoffering, sequences, slots, timers
from triggerstream.core.conditions import AnyOf, AtLeast, Takes
from triggerstream.core.deciding import Deciding
from triggerstream.core.draft import Draft
from triggerstream.core.events import Timer
from triggerstream.core.held import InSequence, Keyed, Several, hold_one
from triggerstream.core.ids import TriggerName
from triggerstream.core.offering import Offering
from triggerstream.core.reoffering import Reoffering
from triggerstream.core.slots import captured_refs, take
from triggerstream.core.state import WAITING, Status
from triggerstream.core.tasks import UnlessFrom
from triggerstream.core.triggering import FiringTriggers
from triggerstream.core.where import evaluation

Fold = fold._Fold  # noqa: SLF001 - what is replaced is private


def every_trigger_the_long_way(offer_list: Function) -> Function:
    """Lists of plain triggers go the way of conditions, where the fault is."""

    def offer(self: Any, use: Any, trigger: TriggerName, offset: int) -> None:
        self._offer(use, self.state.seen[trigger], None)

    return offer


def slowly(fault: Fault) -> Fault:
    return beside(fault, (FiringTriggers, "_offer_list"), every_trigger_the_long_way)


# ---- name ---------------------------------------------------------------------------------------


@replaces((Deciding, "_decide"))
def named_by_trigger(decide: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, *args: Any, **more: Any) -> None:
        decide(self, task, instance, *args, **more)
        triggers = {name: slot.leaf.trigger for name, slot in task.after.slots.items()}
        command = self.decisions[-1]
        kwargs = {triggers.get(name, name): value for name, value in command.kwargs.items()}
        self.decisions[-1] = structs.replace(command, kwargs=kwargs)

    return wrong


@replaces((Draft, "_blocked"))
def one_name_for_both_lists(blocked: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> bool:
        both = copy(instance)
        both.noted = {**instance.captured, **instance.noted}
        return bool(blocked(self, task, both))

    return wrong


# ---- match --------------------------------------------------------------------------------------


@replaces((evaluation, "_matches"))
def truthy_where_matches(matches: Function) -> Function:
    def wrong(evaluate: Function, elements: int) -> Function:
        right = matches(evaluate, elements)

        def truthy(data: Any, time_us: int, session: str, event_id: str | None) -> bool:
            found: list[Any] = []

            def remembering(*args: Any) -> Any:
                found.append(evaluate(*args))
                return found[-1]

            if right(data, time_us, session, event_id):
                return True
            matches(remembering, elements)(data, time_us, session, event_id)
            return bool(found and found[-1])

        return truthy

    return wrong


@replaces((slots, "key_text"))
def any_key_matches(key_text: Function) -> Function:
    def wrong(value: Any) -> Any:
        return str(value) if value is None or isinstance(value, bool | float) else key_text(value)

    return wrong


@replaces((Offering, "_matching"))
def first_leaf_only(matching: Function) -> Function:
    return lambda self, leaves, arrival: matching(self, leaves, arrival)[:1]


@replaces((slots, "list_keys"))
def list_of_anything(list_keys: Function) -> Function:
    def wrong(value: Any) -> Any:
        if isinstance(value, list):
            return list_keys([one for one in value if slots.key_text(one) is not None])
        return None

    return wrong


# ---- hold ---------------------------------------------------------------------------------------


def taking(kind: Takes, wrong: Callable[[Any, Any, Any], Any]) -> Make:
    """A wrong ``_taken`` for leaves of one kind; ``wrong`` has the match, what is held, and what is right."""

    def make(taken: Function) -> Function:
        def other(one: Any, held: Any, *, timed: bool) -> Any:
            right = taken(one, held, timed=timed)
            return wrong(one, held, right) if one.slot.takes is kind else right

        return other

    return make


@replaces((slots, "_taken"))
def plain_takes_latest(taken: Function) -> Function:
    return taking(Takes.FIRST, lambda one, held, right: hold_one(one.slot.leaf, one.ref, one.time_us))(taken)


@replaces((slots, "_taken"))
def count_takes_newest(taken: Function) -> Function:
    def wrong(one: Any, held: Any, right: Any) -> Any:
        if right is not None or not isinstance(held, Several):
            return right
        times = None if held.times is None else [*held.times[1:], one.time_us or 0]
        return Several(of=held.of, at=[*held.at[1:], one.ref], times=times)

    return taking(Takes.COUNT, wrong)(taken)


@replaces((slots, "_taken"))
def key_counts_twice(taken: Function) -> Function:
    def wrong(one: Any, held: Any, right: Any) -> Any:
        if right is None and isinstance(held, Keyed) and len(held.by) < one.slot.leaf.count:
            return Keyed(of=held.of, by={**held.by, f"{one.key}, again {len(held.by)}": one.ref})
        return right

    return taking(Takes.KEYS, wrong)(taken)


@replaces((slots, "with_list"))
def foreign_keys_stay(with_list: Function) -> Function:
    def wrong(leaf: Any, held: Any, keys: Any) -> Any:
        right = with_list(leaf, held, keys)
        foreign = {} if held is None else {key: ref for key, ref in held.by.items() if ref is not None}
        return structs.replace(right, by={**foreign, **right.by})

    return wrong


@replaces((slots, "list_keys"))
def keys_by_type(list_keys: Function) -> Function:
    def wrong(value: Any) -> Any:
        keys = list_keys(value)
        if keys is None:
            return None
        return tuple(f"number {one}" if isinstance(one, int) else one for one in dict.fromkeys(value))

    return wrong


# ---- satisfied ----------------------------------------------------------------------------------


@replaces((conditions, "is_satisfied"))
def at_least_one_less(is_satisfied: Function) -> Function:
    def wrong(node: Any, met: Any) -> bool:
        if isinstance(node, AtLeast) and node.need > 1:
            node = AtLeast(need=node.need - 1, members=node.members)
        return bool(is_satisfied(node, met))

    return wrong


@replaces((slots, "is_met"))
def begun_counts(is_met: Function) -> Function:
    def wrong(slot: Any, held: Any) -> bool:
        return held is not None if slot.takes in {Takes.COUNT, Takes.KEYS} else bool(is_met(slot, held))

    return wrong


@replaces((conditions, "is_satisfied"))
def any_of_first(is_satisfied: Function) -> Function:
    def wrong(node: Any, met: Any) -> bool:
        return bool(is_satisfied(AnyOf(members=node.members[:1]) if isinstance(node, AnyOf) else node, met))

    return wrong


# ---- sequence -----------------------------------------------------------------------------------


def with_times(held: Any, times: Callable[[InSequence], list[int]]) -> dict[Any, Any]:
    return {
        name: structs.replace(one, times=times(one)) if isinstance(one, InSequence) else one
        for name, one in held.items()
    }


@replaces((sequences, "meet_sequences"))
def sequence_by_arrival(meet_sequences: Function) -> Function:
    def wrong(condition: Any, held: Any, before: Any = None) -> Any:
        met = meet_sequences(condition, with_times(held, lambda one: [0] * len(one.at)))
        return {
            name: structs.replace(one, times=held[name].times) if isinstance(one, InSequence) else one
            for name, one in met.items()
        }

    return wrong


@replaces((slots, "_taken"))
def early_event_used_up(taken: Function) -> Function:
    def wrong(one: Any, held: Any, right: Any) -> Any:
        full = isinstance(held, InSequence) and len(held.at) >= (one.slot.leaf.count or 1)
        return None if full else right

    both = taking(Takes.SEQUENCE_START, wrong)(taken)
    return taking(Takes.SEQUENCE, wrong)(both)


@replaces((sequences, "meet_sequences"))
def equal_times_out(meet_sequences: Function) -> Function:
    def wrong(condition: Any, held: Any, before: Any = None) -> Any:
        met = meet_sequences(condition, held, before)
        for sequence in condition.sequences:
            last = None
            for leaf in sequence.leaves:
                one = met.get(leaf.name)
                if not isinstance(one, InSequence) or one.met is None:
                    break
                chosen = [one.met] if isinstance(one.met, int) else one.met
                times = [time for time, ref in zip(one.times, one.at, strict=True) if ref in chosen]
                if last is not None and min(times) == last:
                    met = {**met, leaf.name: structs.replace(one, met=None)}
                    break
                last = max(times)
        return met

    return wrong


# ---- use ----------------------------------------------------------------------------------------


def makes_first(self: Any, task: Any, offset: int) -> None:
    """Make the first instance of a task, if there is none."""
    record = self._own(task.name)
    if record.next == 0:
        self._judge(task, self._create(task, record, made_by=offset))


@replaces((FiringTriggers, "_offer"))
def trigger_alone_uses(offer: Function) -> Function:
    def wrong(self: Any, use: Any, arrival: Any, previous: Any) -> None:
        offer(self, use, arrival, previous)
        if use.after:
            makes_first(self, use.task, arrival.offset)

    return wrong


@replaces((FiringTriggers, "_offer"))
def unless_alone_begins(offer: Function) -> Function:
    def wrong(self: Any, use: Any, arrival: Any, previous: Any) -> None:
        offer(self, use, arrival, previous)
        if self._matching(use.unless, arrival):
            makes_first(self, use.task, arrival.offset)

    return wrong


@slowly
@replaces((Offering, "_capture"))
def match_is_acceptance(capture: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, matches: Any) -> Any:
        taken = capture(self, task, instance, matches)
        return instance.captured if taken is None else taken

    return wrong


# ---- seed ---------------------------------------------------------------------------------------


@replaces((Offering, "_remember"))
def no_memory_of_matches(remember: Function) -> Function:
    return lambda self, use, previous, after, unless: None


@replaces((FiringTriggers, "_offer"))
def memory_without_and_every(offer: Function) -> Function:
    def wrong(self: Any, use: Any, arrival: Any, previous: Any) -> None:
        if use.task.every is None:
            after, unless = self._matching(use.after, arrival), self._matching(use.unless, arrival)
            self._remember(use, previous, after, unless)
        offer(self, use, arrival, previous)

    return wrong


def unfiltered(recalled: Function) -> Function:
    """What a leaf remembers, or the latest event of its trigger that only its ``where`` does not match."""

    def wrong(self: Any, task: Any, slot: Any, *, unless: bool) -> Any:
        right = recalled(self, task, slot, unless=unless)
        latest = self.state.seen.get(slot.leaf.trigger)
        if right is not None or latest is None or slot.leaf.where is None:
            return right
        found = self._match(without_where(slot), latest)
        return None if found is None else found._replace(slot=slot)

    return wrong


def without_where(slot: Any) -> Any:
    """The same leaf without its ``where``."""
    leaf = replace(slot.leaf, where=None)
    return conditions.Slot(leaf=leaf, takes=slot.takes, awaits_list=slot.awaits_list)


def recalling(make: Make) -> Make:
    """Have ``_recalled`` be wrong while a method runs."""

    def wrap(original: Function) -> Function:
        def wrong(self: Any, *args: Any, **more: Any) -> Any:
            with mock.patch.object(Offering, "_recalled", make(vars(Offering)["_recalled"])):
                return original(self, *args, **more)

        return wrong

    return wrap


@replaces((Offering, "_remembered_holdings"))
def seeded_without_filter(remembered_holdings: Function) -> Function:
    return recalling(unfiltered)(remembered_holdings)


# ---- unless -------------------------------------------------------------------------------------


@replaces((Deciding, "_judge"))
def after_first(judge: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> None:
        if instance.status is Status.UNSTARTED and slots.is_satisfied(task.after, instance.captured):
            self._decide(task, instance, self.state.clock_us)
        else:
            judge(self, task, instance)

    return wrong


@slowly
@replaces((Offering, "_note"))
def decided_notes_nothing(note: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, matches: Any) -> Any:
        return note(self, task, instance, matches) if instance.status in WAITING else None

    return wrong


@replaces((Offering, "_create"))
def instance_sees_the_past(create: Function) -> Function:
    def wrong(self: Any, task: Any, record: Any, *, made_by: int) -> Any:
        instance = create(self, task, record, made_by=made_by)
        if task.unless is not None and task.unless_from is UnlessFrom.INSTANCE:
            seeds = self._remembered_holdings(task, task.unless, unless=True)
            past = {n: h for n, h in seeds.items() if all(ref < made_by for _, ref in captured_refs({n: h}))}
            instance.noted = past
        return instance

    return wrong


@replaces((Offering, "_create"))
def own_event_counts(create: Function) -> Function:
    def wrong(self: Any, task: Any, record: Any, *, made_by: int) -> Any:
        instance = create(self, task, record, made_by=made_by)
        if task.unless is not None and task.unless_from is UnlessFrom.INSTANCE:
            for trigger, arrival in self.state.seen.items():
                if arrival.offset == made_by:
                    matches = self._matching(task.unless.by_trigger.get(trigger, ()), arrival)
                    time_of = self.state.time_of
                    instance.noted = take(task.unless, {}, matches, time_of=time_of, timed=True) or {}
        return instance

    return wrong


# ---- end ----------------------------------------------------------------------------------------


def takes_more(status: Status) -> Make:
    """Instances of a status go on to take events of ``after``."""

    def make(offer: Function) -> Function:
        def wrong(self: Any, use: Any, arrival: Any, previous: Any) -> None:
            offer(self, use, arrival, previous)
            record = self.state.tasks.get(use.task.name)
            matches = self._matching(use.after, arrival)
            for instance in [] if record is None or not matches else list(record.open.values()):
                if instance.status is status and arrival.offset != instance.decided_at:
                    captured = self._capture(use.task, instance, matches)
                    if captured is not None:
                        self._edit(use.task.name, instance).captured = captured

        return wrong

    return make


@slowly
@replaces((FiringTriggers, "_offer"))
def delayed_takes_more(offer: Function) -> Function:
    return takes_more(Status.DELAYED)(offer)


@slowly
@replaces((FiringTriggers, "_offer"))
def decided_takes_more(offer: Function) -> Function:
    return takes_more(Status.SCHEDULED)(offer)


# ---- kwargs -------------------------------------------------------------------------------------


@replaces((slots, "of_met_leaves"))
def unmet_is_passed(of_met_leaves: Function) -> Function:
    def wrong(condition: Any, held: Any) -> Any:
        more = {name: one for name, one in held.items() if name in condition.slots}
        unmet = {n: h for n, h in more.items() if not isinstance(h, InSequence)}
        return {**unmet, **of_met_leaves(condition, held)}

    return wrong


@replaces((Deciding, "_sent_by"))
def params_beside_elements(sent_by: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> Any:
        return structs.replace(sent_by(self, task, instance), per_element=[], per_member=[])

    return wrong


@replaces((Deciding, "_sent_by"))
def params_of_unmet_count(sent_by: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> Any:
        return structs.replace(sent_by(self, task, instance), params=task.with_params)

    return wrong


@replaces((Deciding, "_decide"))
def clone_follows_file(decide: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, *args: Any, **more: Any) -> None:
        if instance.clone_of is not None:
            instance.captured = {n: h for n, h in instance.captured.items() if n in task.after.names}
        decide(self, task, instance, *args, **more)

    return wrong


# ---- changed files: leaves of after -------------------------------------------------------------


@replaces((slots, "of_met_leaves"))
def gone_is_passed(of_met_leaves: Function) -> Function:
    def wrong(condition: Any, held: Any) -> Any:
        gone = {name: one for name, one in held.items() if name not in condition.slots}
        return {**of_met_leaves(condition, held), **gone}

    return wrong


def reoffered_from(before: Callable[[Any, Any, Any], dict[Any, Any]]) -> Make:
    """Change what an instance holds before its leaves are offered that again."""

    def make(reoffered: Function) -> Function:
        def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
            changed = copy(instance)
            changed.captured = before(old, task, instance)
            return reoffered(self, old, task, changed)

        return wrong

    return make


@replaces((Reoffering, "_reoffered"))
def gone_is_forgotten(reoffered: Function) -> Function:
    def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
        held = reoffered(self, old, task, instance)
        return {name: one for name, one in held.items() if name in task.after.slots}

    return wrong


@replaces((Reoffering, "_reoffered"))
def new_leaf_unseeded(reoffered: Function) -> Function:
    return recalling(lambda right: lambda self, task, slot, *, unless: None)(reoffered)


@replaces((Reoffering, "_reoffered"))
def new_leaf_unfiltered(reoffered: Function) -> Function:
    return recalling(unfiltered)(reoffered)


@replaces((reoffering, "_is_new_or_changed"))
def changed_leaf_keeps(is_new_or_changed: Function) -> Function:
    return lambda old, new: old is None


@replaces((Reoffering, "_reoffered"))
def changed_leaf_forgets(reoffered: Function) -> Function:
    def unchanged(old: Any, task: Any, instance: Any) -> dict[Any, Any]:
        known = {} if old is None else old.after.slots
        changed = {n for n, slot in task.after.slots.items() if n in known and known[n] != slot}
        return {name: held for name, held in instance.captured.items() if name not in changed}

    return reoffered_from(unchanged)(reoffered)


@replaces((Reoffering, "_reoffered"))
def changed_leaf_stays_empty(reoffered: Function) -> Function:
    def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
        had = set(instance.captured)

        def make(right: Function) -> Function:
            def recalled(self: Any, task: Any, slot: Any, *, unless: bool) -> Any:
                return None if slot.name in had else right(self, task, slot, unless=unless)

            return recalled

        return recalling(make)(reoffered)(self, old, task, instance)

    return wrong


# ---- changed files: shape -----------------------------------------------------------------------


@replaces((Fold, "_apply"))
def judged_by_timer(apply: Function) -> Function:
    def wrong(self: Any, event: Any) -> Any:
        if isinstance(event.body, Timer) and self.state.unjudged:
            self._judge_all()
        return apply(self, event)

    return wrong


@replaces((Deciding, "_judge_all"))
def not_judged_again(judge_all: Function) -> Function:
    def wrong(self: Any) -> None:
        self.state.unjudged = False

    return wrong


# ---- changed files: unless ----------------------------------------------------------------------


@replaces((Reoffering, "_renoted"))
def changed_note_stays(renoted: Function) -> Function:
    def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
        noted = renoted(self, old, task, instance)
        leaves = {} if task.unless is None else task.unless.slots
        return {**noted, **{n: held for n, held in instance.noted.items() if n in leaves}}

    return wrong


@replaces((Reoffering, "_renoted"))
def old_note_for_instance(renoted: Function) -> Function:
    def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
        changed = copy(instance)
        changed.made_by = -1
        return renoted(self, old, task, changed)

    return wrong


@replaces((Reoffering, "_renoted"))
def only_waiting_notes(renoted: Function) -> Function:
    def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
        return renoted(self, old, task, instance) if instance.status in WAITING else instance.noted

    return wrong


@replaces((Reoffering, "_renoted"))
def notes_lost(renoted: Function) -> Function:
    def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
        changed = copy(instance)
        if old is not None and old.unless_from is not task.unless_from:
            changed.noted = {}
        return renoted(self, old, task, changed)

    return wrong


@replaces((Reoffering, "_renoted"))
def session_unseeded(renoted: Function) -> Function:
    def wrong(self: Any, old: Any, task: Any, instance: Any) -> Any:
        noted = renoted(self, old, task, instance)
        if old is None or old.unless_from is task.unless_from or task.unless_from is UnlessFrom.INSTANCE:
            return noted
        return {name: held for name, held in noted.items() if name in instance.noted}

    return wrong


# ---- changed files: what commands are made of ---------------------------------------------------


@replaces((Deciding, "_sent_by"))
def params_of_first_file(sent_by: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> Any:
        first = task
        for applied in self.rules.history:
            if applied.offset < (instance.made_by or 0):
                first = applied.config.by_name.get(task.name, first)
        sent = sent_by(self, first, instance)
        return structs.replace(sent_by(self, task, instance), params=sent.params)

    return wrong


@replaces((Deciding, "_sent_by"))
def clone_keeps_run(sent_by: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> Any:
        sent = sent_by(self, task, instance)
        record = self.state.tasks[task.name]
        origin = None if instance.clone_of is None else record.find(instance.clone_of)
        if origin is None or origin.sent is None:
            return sent
        return structs.replace(sent, run=origin.sent.run, params=origin.sent.params)

    return wrong


@replaces((Fold, "meet"))
def wait_from_file(meet: Function) -> Function:
    def wrong(self: Any, applied: Any) -> None:
        meet(self, applied)
        for name in list(self.state.tasks):
            for instance in list(self.state.tasks[name].open.values()):
                if instance.status is Status.DELAYED:
                    self._edit(name, instance).waits_from_us = self.state.clock_us

    return wrong


@replaces((timers, "_retry_wait_us"))
def wait_without_retry(retry_wait_us: Function) -> Function:
    def wrong(task: Any, clone: Any) -> int:
        wait_us = int(retry_wait_us(task, clone))
        return wait_us + 1_000_000 if task.retry is None and clone.waits_us is None else wait_us

    return wrong


# ---- changed files: memory ----------------------------------------------------------------------


@replaces((reoffering, "_with_same_identity"))
def memory_outlives_filter(with_same_identity: Function) -> Function:
    def wrong(known: Mapping[Any, Any], before: Any, now: Any) -> dict[Any, Any]:
        if before is None or now is None:
            return {}
        same = [name for name, slot in now.slots.items() if name in before.slots]
        return {
            name: held
            for name, held in known.items()
            if name in same and before.slots[name].leaf.trigger == now.slots[name].leaf.trigger
        }

    return wrong


@replaces((Offering, "_recalled"))
def memory_starts_empty(recalled: Function) -> Function:
    def wrong(self: Any, task: Any, slot: Any, *, unless: bool) -> Any:
        right = recalled(self, task, slot, unless=unless)
        if right is None or task.every is None:
            return right
        since = -1
        for applied in met_by(self):
            there = applied.config.by_name.get(task.name)
            side = None if there is None else there.unless if unless else there.after
            known = None if side is None else side.slots.get(slot.name)
            if there is None or there.every is None or known is None or known.identity != slot.identity:
                break
            since = applied.offset
        return right if right.ref > since else None

    return wrong


def met_by(self: Any) -> Iterator[Any]:
    """The files that a session has met, the latest first."""
    return (one for one in reversed(self.rules.history) if one.offset <= self.state.config)


# ---- changed files: new tasks -------------------------------------------------------------------


@replaces((Fold, "meet"))
def new_task_begins(meet: Function) -> Function:
    def wrong(self: Any, applied: Any) -> None:
        before = set(self.config.by_name)
        meet(self, applied)
        if not self.state.is_empty():
            for task in self.config.tasks:
                if task.name not in before:
                    self._begin_in_existing(task, applied.offset)

    return wrong


@replaces((Offering, "_create"))
def new_task_unseeded(create: Function) -> Function:
    def wrong(self: Any, task: Any, record: Any, *, made_by: int) -> Any:
        instance = create(self, task, record, made_by=made_by)
        if instance.number == 0:
            instance.captured = {
                name: held
                for name, held in instance.captured.items()
                if any(ref == made_by for _, ref in captured_refs({name: held}))
            }
        return instance

    return wrong


@replaces((Fold, "_begin_in_existing"))
def applies_again(begin: Function) -> Function:
    def wrong(self: Any, task: Any, offset: int) -> None:
        record = self.state.tasks.get(task.name)
        begin(self, task, offset)
        if record is not None and record.next and not record.open and not self.state.closed:
            self._create(task, self._own(task.name), made_by=offset)

    return wrong


@replaces((Fold, "_begin_in_existing"))
def applies_to_all(begin: Function) -> Function:
    def wrong(self: Any, task: Any, offset: int) -> None:
        begin(self, task, offset)
        if not self.state.closed and self._own(task.name).next == 0:
            self._create(task, self._own(task.name), made_by=offset)

    return wrong


@replaces((Fold, "_begin_in_existing"))
def applies_once(begin: Function) -> Function:
    def wrong(self: Any, task: Any, offset: int) -> None:
        earlier = [one for one in self.rules.history if one.offset < offset]
        if not any(task.name in one.config.by_name for one in earlier):
            begin(self, task, offset)

    return wrong


@replaces((Deciding, "_judge_all"))
def applied_not_judged(judge_all: Function) -> Function:
    def wrong(self: Any) -> None:
        self.state.unjudged = False
        files = {one.offset for one in self.rules.history}
        for task in self.config.among(self.state.tasks):
            for instance in self._waiting(task.name):
                if instance.made_by not in files:
                    self._judge(task, instance)

    return wrong


FAULTS = {fault.name: fault for fault in list(globals().values()) if isinstance(fault, Fault)}
