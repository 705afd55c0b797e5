"""The planted faults of time and places, which ``README.md`` describes.

Each is a function that makes a wrong version of one function of the fold out of the right one.
"""

# ruff: noqa: ANN401, ARG001, ARG005 - a function that takes the place of another one has all of its arguments

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from msgspec import structs

from tests.core.planted.plant import Fault, Function, Make, beside, replaces
from triggerstream.core import fold, newest, timers, triggering
from triggerstream.core.conditions import Takes
from triggerstream.core.deciding import Deciding
from triggerstream.core.draft import Draft
from triggerstream.core.events import Finished, Timer
from triggerstream.core.firing import FiringTimers
from triggerstream.core.held import hold_one, ref_at
from triggerstream.core.newest import Forgetting, TimeWindow
from triggerstream.core.offering import Offering
from triggerstream.core.orders import ApplyingOrders
from triggerstream.core.outcomes import ApplyingOutcomes
from triggerstream.core.slots import captured_refs, of_met_leaves
from triggerstream.core.state import Status
from triggerstream.core.tasks import Repeat
from triggerstream.core.timers import DueOf
from triggerstream.core.triggering import FiringTriggers

Fold = fold._Fold  # noqa: SLF001 - what is replaced is private


# ---- timers -------------------------------------------------------------------------------------


@replaces((FiringTimers, "fire_timers"))
def due_time_is_in_time(fire_timers: Function) -> Function:
    def wrong(self: Any, until_us: int) -> None:
        # After the event, the clock has come to its arrival.
        fire_timers(self, until_us - 1 if until_us > self.state.clock_us else until_us)

    return wrong


def firing(
    *,
    order: Callable[[Any], Any] = lambda timer: timer,
    clock: Callable[[int, int, int], int] = lambda now, due, until: max(now, due),
) -> Make:
    """A wrong ``fire_timers``. ``clock``: of the clock, the due time, and the instant until which to fire."""

    def make(fire_timers: Function) -> Function:
        def wrong(self: Any, until_us: int) -> None:
            while True:
                self.timers = []
                due = [one for one in timers.timers_of(self.config, self.state) if one[0] <= until_us]
                if not due:
                    break
                due_us, _, number, name = min(due, key=order)
                instance = self.state.tasks[name].open[number]
                self.state.clock_us = clock(self.state.clock_us, due_us, until_us)
                self._fire_timer(self.config.by_name[name], self._edit(name, instance), due_us)
            fire_timers(self, until_us)

        return wrong

    return make


timers_by_place_first = Fault(
    name="timers_by_place_first",
    says="",
    replacements=(((FiringTimers, "fire_timers"), firing(order=lambda one: (one[1], one[0], one[2]))),),
)
timers_by_number_first = Fault(
    name="timers_by_number_first",
    says="",
    replacements=(((FiringTimers, "fire_timers"), firing(order=lambda one: (one[0], one[2], one[1]))),),
)
clock_at_arrival = Fault(
    name="clock_at_arrival",
    says="",
    replacements=(
        ((FiringTimers, "fire_timers"), firing(clock=lambda now, due_us, until_us: max(now, until_us))),
    ),
)
clock_goes_back = Fault(
    name="clock_goes_back",
    says="",
    replacements=(((FiringTimers, "fire_timers"), firing(clock=lambda now, due_us, until_us: due_us)),),
)


@replaces((FiringTimers, "fire_timers"))
def timers_before_only(fire_timers: Function) -> Function:
    def wrong(self: Any, until_us: int) -> None:
        if not any(one is self for one in _applied):
            fire_timers(self, until_us)

    return wrong


_applied: list[Any] = []


def _noting_applied(apply: Function) -> Function:
    def noting(self: Any, event: Any) -> Any:
        _applied[:] = [self]
        return apply(self, event)

    return noting


timers_before_only = beside(timers_before_only, (Fold, "_apply"), _noting_applied)


# ---- within -------------------------------------------------------------------------------------


def holding_first(holds_first: Callable[[Any, Any], bool]) -> Make:
    """A wrong ``_capture``: plain leaves of some tasks and instances hold their first event."""

    def make(capture: Function) -> Function:
        def wrong(self: Any, task: Any, instance: Any, matches: Any) -> Any:
            if not holds_first(task, instance):
                return capture(self, task, instance, matches)
            held = instance.captured
            new = [one for one in matches if one.slot.takes is not Takes.FIRST or one.slot.name not in held]
            return (capture(self, task, instance, new) if new else None) or dict(held)

        return wrong

    return make


within_holds_first = Fault(
    name="within_holds_first",
    says="",
    replacements=(
        ((Offering, "_capture"), holding_first(lambda task, instance: task.within_us is not None)),
    ),
)


@replaces((newest, "hold_newest"))
def within_holds_latest_arrival(hold_newest: Function) -> Function:
    def wrong(slot: Any, moment: Any, held: Any, **more: Any) -> Any:
        if slot.takes is Takes.FIRST:
            return hold_one(slot.leaf, ref_at(moment[1]))
        return hold_newest(slot, moment, held, **more)

    return wrong


@replaces((newest, "_window"))
def within_is_shorter(window: Function) -> Function:
    def wrong(condition: Any, orders: Any) -> Any:
        right = window(condition, orders)
        return None if right is None else TimeWindow(right.start_us + 1, right.newest)

    return wrong


@replaces((newest, "forget_too_old"))
def too_late_is_held(forget_too_old: Function) -> Function:
    def wrong(condition: Any, held: Any, time_of: Any) -> Any:
        right = forget_too_old(condition, held, time_of)
        if right is None:
            return None
        latest = max(ref for _, ref in captured_refs(held))
        kept = {name: held[name] for name, refs in right.forgotten.items() if refs == [latest]}
        now = {name: right.held.get(name, kept.get(name)) for name in held}
        return Forgetting(
            right.window,
            {name: one for name, one in now.items() if one is not None},
            {name: refs for name, refs in right.forgotten.items() if name not in kept},
        )

    return wrong


@replaces((newest, "hold_newest"))
def equal_time_keeps_earlier(hold_newest: Function) -> Function:
    def wrong(slot: Any, moment: Any, held: Any, *, time_of: Any, **more: Any) -> Any:
        if slot.takes is Takes.FIRST and held is not None:
            order = newest.moments(slot.name, held, time_of)
            if order[-1][0] == moment[0]:
                return held
        return hold_newest(slot, moment, held, time_of=time_of, **more)

    return wrong


# ---- deadline -----------------------------------------------------------------------------------


@replaces((Offering, "_create"))
def deadline_from_unless(create: Function) -> Function:
    def wrong(self: Any, task: Any, record: Any, *, made_by: int) -> Any:
        instance = create(self, task, record, made_by=made_by)
        instance.opened_us = None
        return instance

    return wrong


_until: list[int] = [0]


def _noting_until(fire_timers: Function) -> Function:
    def noting(self: Any, until_us: int) -> None:
        _until[0] = until_us
        fire_timers(self, until_us)

    return noting


@replaces((FiringTimers, "_fire_timeout"))
def timeout_at_the_clock(fire_timeout: Function) -> Function:
    return lambda self, task, instance, data, due_us: fire_timeout(self, task, instance, data, _until[0])


timeout_at_the_clock = beside(timeout_at_the_clock, (FiringTimers, "fire_timers"), _noting_until)


@replaces((FiringTimers, "_fire_timeout"))
def timeout_brings_met_only(fire_timeout: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, data: Any, due_us: int) -> None:
        met = of_met_leaves(task.after, instance.captured)
        met_data = {name: value for name, value in data.items() if name in met}
        fire_timeout(self, task, instance, met_data, due_us)

    return wrong


@replaces((FiringTimers, "_pass_deadline"))
def unjudged_expires(pass_deadline: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, due_us: int) -> None:
        unjudged, self.state.unjudged = self.state.unjudged, False
        pass_deadline(self, task, instance, due_us)
        self.state.unjudged = unjudged

    return wrong


@replaces((FiringTimers, "_fire_timeout"))
def expires_without_timeout(fire_timeout: Function) -> Function:
    return lambda self, task, instance, data, due_us: None


# ---- delay, debounce ----------------------------------------------------------------------------


@replaces((Draft, "_blocked"))
def delayed_is_never_abandoned(blocked: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> bool:
        return instance.status is not Status.DELAYED and bool(blocked(self, task, instance))

    return wrong


@replaces((Deciding, "_satisfied"))
def delay_from_the_beginning(satisfied: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> None:
        satisfied(self, task, instance)
        if instance.status is Status.DELAYED and task.delay_us is not None:
            instance.waits_from_us = instance.created_us
            self._start_timer(task, instance)

    return wrong


_kept: set[Any] = set()


def _noting_kept(capture: Function) -> Function:
    def noting(self: Any, task: Any, instance: Any, matches: Any) -> Any:
        taken = capture(self, task, instance, matches)
        _kept.clear()
        if taken == instance.captured:
            _kept.add((task.name, instance.number))
        return taken

    return noting


@replaces((Deciding, "_delay"))
def late_event_restarts_nothing(delay: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, *, waits_us: int | None = None) -> None:
        if instance.status is not Status.DELAYED or (task.name, instance.number) not in _kept:
            delay(self, task, instance, waits_us=waits_us)

    return wrong


late_event_restarts_nothing = beside(late_event_restarts_nothing, (Offering, "_capture"), _noting_kept)


@replaces((timers, "_quiet_until"))
def at_most_from_the_last_event(quiet_until: Function) -> Function:
    def wrong(debounce: Any, instance: Any, start_us: int) -> int:
        return int(quiet_until(debounce, structs.replace(instance, satisfied_us=start_us), start_us))

    return wrong


debounce_holds_first = Fault(
    name="debounce_holds_first",
    says="",
    replacements=(
        (
            (Offering, "_capture"),
            holding_first(
                lambda task, instance: task.debounce is not None and instance.status is Status.UNSTARTED
            ),
        ),
    ),
)


@replaces((FiringTriggers, "_offer"))
def debounced_accepts_nothing(offer: Function) -> Function:
    def wrong(self: Any, use: Any, arrival: Any, previous: Any) -> None:
        task = use.task
        record = self.state.tasks.get(task.name)
        before = None if record is None else record.next
        statuses = set() if record is None else {one.status for one in record.open.values()}
        offer(self, use, arrival, previous)
        matched = {one.slot.name for one in self._matching(use.after, arrival)}
        if (
            task.debounce is not None
            and task.every in matched
            and before == self.state.tasks[task.name].next
            and Status.UNSTARTED not in statuses
        ):
            self._judge(task, self._create(task, self._own(task.name), made_by=arrival.offset))

    return wrong


# ---- repeat -------------------------------------------------------------------------------------


@replaces((Deciding, "_decide"))
def repeats_once_more(decide: Function) -> Function:
    def wrong(self: Any, task: Any, *args: Any, **more: Any) -> None:
        decide(self, with_rounds(task, 1), *args, **more)

    return wrong


def with_rounds(task: Any, more: int) -> Any:
    """A task with more rounds, or fewer."""
    if task.repeat is None:
        return task
    rounds = task.repeat.max + more
    return replace(task, repeat=None if rounds <= 0 else Repeat(every_us=task.repeat.every_us, max=rounds))


@replaces((Deciding, "_decide"))
def repeats_when_finished(decide: Function) -> Function:
    def wrong(self: Any, task: Any, *args: Any, **more: Any) -> None:
        decide(self, with_rounds(task, -1_001), *args, **more)

    return wrong


def _repeating_the_finished(outcome: Function) -> Function:
    def repeating(self: Any, body: Any) -> Any:
        before = self.resolved
        effect = outcome(self, body)
        found = self._find(body.instance)
        if isinstance(body, Finished) and self.resolved > before and isinstance(found, tuple):
            name, instance = found
            task = self.config.by_name.get(name)
            if (
                task is not None
                and task.repeat is not None
                and instance.status is Status.FINISHED
                and instance.clone_of is None
                and instance.repeats < task.repeat.max
                and not self.state.closed
            ):
                self._make_next_round(task, instance, instance.captured)
        return effect

    return repeating


repeats_when_finished = beside(repeats_when_finished, (ApplyingOutcomes, "_outcome"), _repeating_the_finished)


@replaces((Deciding, "_make_next_round"))
def repeats_without_notes(make_next_round: Function) -> Function:
    def wrong(self: Any, task: Any, decided: Any, held: Any) -> None:
        make_next_round(self, task, structs.replace(decided, noted={}), held)

    return wrong


@replaces((Deciding, "_make_next_round"))
def repeats_from_its_start(make_next_round: Function) -> Function:
    def wrong(self: Any, task: Any, decided: Any, held: Any) -> None:
        make_next_round(self, task, decided, held)
        record = self.state.tasks[task.name]
        following = record.open.get(record.next - 1)
        if following is not None and decided.waits_from_us is not None:
            following.waits_from_us = decided.waits_from_us
            self._start_timer(task, following)

    return wrong


# ---- clone --------------------------------------------------------------------------------------


_replaying: list[Any] = []


def _noting_replay(replay: Function) -> Function:
    def noting(self: Any, order: Any) -> Any:
        _replaying[:] = [self]
        effect = replay(self, order)
        _replaying.clear()
        return effect

    return noting


@replaces((Deciding, "_decide"))
def clone_is_delayed(decide: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, *args: Any, **more: Any) -> None:
        if any(one is self for one in _replaying) and task.delay_us is not None:
            self._delay(task, instance, waits_us=task.delay_us)
        else:
            decide(self, task, instance, *args, **more)

    return wrong


clone_is_delayed = beside(clone_is_delayed, (ApplyingOrders, "_replay"), _noting_replay)


@replaces((Deciding, "_decide"))
def clone_repeats(decide: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, *args: Any, **more: Any) -> None:
        decide(self, task, instance, *args, **more)
        again = task.repeat is not None and instance.repeats < task.repeat.max
        if again and instance.clone_of is not None and instance.status is Status.SCHEDULED:
            self._make_next_round(task, instance, instance.captured)

    return wrong


@replaces((triggering, "_is_debounced"))
def clone_is_debounced(is_debounced: Function) -> Function:
    return lambda task, instance: task.debounce is not None and instance.repeat_of is None


# ---- places -------------------------------------------------------------------------------------


@replaces((Deciding, "_give_places"))
def last_held_first(give_places: Function) -> Function:
    def wrong(self: Any, tasks: Any) -> None:
        for task in tasks:
            places = self._places_of(task.name)
            for number in reversed(list(places.held)):
                if places.is_one_free(task):
                    instance = self._edit(task.name, self.state.tasks[task.name].open[number])
                    self._decide(task, instance, self.state.clock_us)

    return wrong


@replaces((Deciding, "_decide_or_hold"))
def retry_needs_no_place(decide_or_hold: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, at_us: int, *, fits: bool = False) -> None:
        decide = decide_or_hold if instance.clone_of is None else type(self)._decide  # noqa: SLF001
        decide(self, task, instance, at_us, fits=fits)

    return wrong


@replaces((Deciding, "_decide"))
def forced_replay_needs_a_place(decide: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, at_us: int, *, fits: bool = False) -> None:
        if any(one is self for one in _replaying):
            _replaying.clear()
            self._decide_or_hold(task, instance, at_us, fits=fits)
        else:
            decide(self, task, instance, at_us, fits=fits)

    return wrong


forced_replay_needs_a_place = beside(forced_replay_needs_a_place, (ApplyingOrders, "_replay"), _noting_replay)


@replaces((Deciding, "_decide_or_hold"))
def overtakes_the_held(decide_or_hold: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, at_us: int, *, fits: bool = False) -> None:
        if self._places_of(task.name).is_one_free(task):
            self._decide(task, instance, at_us, fits=fits)
        else:
            decide_or_hold(self, task, instance, at_us, fits=fits)

    return wrong


@replaces((Draft, "_blocked"))
def held_is_never_abandoned(blocked: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> bool:
        return instance.status is not Status.HELD and bool(blocked(self, task, instance))

    return wrong


@replaces((Deciding, "_judge_all"))
def held_decided_while_unjudged(judge_all: Function) -> Function:
    def wrong(self: Any) -> None:
        if self.state.holds:
            self._give_places(self.config.among(self.state.tasks))
        judge_all(self)

    return wrong


def _giving_places(fire_timer: Function) -> Function:
    def giving(self: Any, task: Any, instance: Any, due_us: int) -> None:
        fire_timer(self, task, instance, due_us)
        if self.state.unjudged and self.state.holds:
            self._give_places(self.config.among(self.state.tasks))

    return giving


held_decided_while_unjudged = beside(
    held_decided_while_unjudged, (FiringTimers, "_fire_timer"), _giving_places
)


@replaces((Deciding, "_decide_or_hold"))
def running_only_have_places(decide_or_hold: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any, at_us: int, *, fits: bool = False) -> None:
        there = self.state.tasks[task.name].open.values()
        running = sum(one.status is Status.RUNNING for one in there)
        if task.max_concurrency is not None and not task.paused and running < task.max_concurrency:
            self._decide(task, instance, at_us, fits=fits)
        else:
            decide_or_hold(self, task, instance, at_us, fits=fits)

    return wrong


# ---- a changed tasks file -----------------------------------------------------------------------


@replaces((timers, "due"))
def deadline_of_first_file(due: Function) -> Function:
    first: dict[Any, Any] = {}

    def wrong(task: Any, instance: Any) -> Any:
        if instance.status is Status.UNSTARTED and task.deadline_us is not None:
            key = (task.name, instance.number, instance.created_us)
            task = replace(task, deadline_us=first.setdefault(key, task.deadline_us))
        return due(task, instance)

    return wrong


@replaces((timers, "due"))
def delay_gone_waits(due: Function) -> Function:
    def wrong(task: Any, instance: Any) -> Any:
        right = due(task, instance)
        gone = right is not None and right.of is DueOf.DELAY and task.delay_us is None
        return None if gone else right

    return wrong


@replaces((Fold, "meet"))
def new_deadline_from_the_file(meet: Function) -> Function:
    def wrong(self: Any, applied: Any) -> None:
        before = self.config
        meet(self, applied)
        for name in list(self.state.tasks):
            task, old = self.config.by_name.get(name), before.by_name.get(name)
            if task is None or old is None or task.deadline_us is None or old.deadline_us is not None:
                continue
            for instance in list(self.state.tasks[name].open.values()):
                if instance.status is Status.UNSTARTED and instance.opened_us != 0:
                    self._edit(name, instance).opened_us = self.state.clock_us

    return wrong


@replaces((Fold, "meet_configurations"))
def due_under_the_new_file(meet_configurations: Function) -> Function:
    def wrong(self: Any) -> None:
        for applied in self.rules.missed(self.state.config):
            self.offset = applied.offset
            self.meet(applied)

    return wrong


_judging_files: list[Any] = []


def _noting_judging(judge: Function) -> Function:
    def noting(self: Any, *args: Any) -> None:
        _judging_files[:] = [self]
        judge(self, *args)
        _judging_files.clear()

    return noting


@replaces((Deciding, "_forget_too_old"))
def within_unseen_until_offered(forget: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> None:
        if not any(one is self for one in _judging_files):
            forget(self, task, instance)

    return wrong


within_unseen_until_offered = beside(within_unseen_until_offered, (Deciding, "_judge_all"), _noting_judging)


@replaces((Deciding, "_judge"))
def within_undoes_satisfied(judge: Function) -> Function:
    def wrong(self: Any, task: Any, instance: Any) -> None:
        waits = instance.status in {Status.DELAYED, Status.HELD} and instance.clone_of is None
        if waits and task.within_us is not None:
            self._forget_too_old(task, instance)
        judge(self, task, instance)

    return wrong


@replaces((Deciding, "_give_places"))
def held_stays_held(give_places: Function) -> Function:
    def wrong(self: Any, tasks: Any) -> None:
        if not any(one is self for one in _judging_files):
            give_places(self, tasks)

    return wrong


held_stays_held = beside(held_stays_held, (Deciding, "_judge_all"), _noting_judging)


@replaces((Fold, "_apply"))
def held_decided_by_timer(apply: Function) -> Function:
    def wrong(self: Any, event: Any) -> Any:
        if type(event.body) is Timer and self.state.unjudged and self.state.holds:
            self._give_places(self.config.among(self.state.tasks))
        return apply(self, event)

    return wrong


FAULTS_OF_TIME = {fault.name: fault for fault in list(globals().values()) if isinstance(fault, Fault)}
