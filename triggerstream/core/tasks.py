"""The configuration: which task runs when which triggers have arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from triggerstream.core.conditions import Condition, Leaf, Slot, all_of
from triggerstream.core.ids import AppId, ConfigHash, JsonObject, LeafName, TaskName, TriggerName

FOLD_VERSION = 1
"""The meaning that this release gives to a configuration and a log: docs/semantics.md describes it."""
LANGUAGE_VERSION = 2
"""The version in a configuration event whose file uses more than lists of triggers. A release that does not
know it refuses that file and no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits that the fold keeps (R10.1). They are part of the file (``$bounds``), so every replay agrees."""

    trigger_names: int = 1_000
    """Trigger names that a session has seen and that no task of the file in force uses."""
    unresolved_instances: int = 1_000
    resolved_instances: int = 100
    """Resolved instances that a task keeps in the state; the oldest go first, the numbers go on."""
    resolved_bytes: int = 1024 * 1024
    """Size of all resolved instances and the events that only they captured; the oldest are forgotten
    first."""
    state_bytes: int = 4 * 1024 * 1024
    """Size of the encoded state without its resolved instances."""
    command_bytes: int = 1024 * 1024
    decided_bytes: int = 64 * 1024 * 1024
    """Size of all commands that one event decides: they are made durable in one transaction."""
    positions: int = 50
    digests: int = 256
    """Identities of events that a session keeps for each trigger, 8 bytes each. A file may ask for up to
    ``MOST_DIGESTS``."""


MOST_DIGESTS = 10_000
"""80 kB of a state for each trigger, some 107 kB as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Up to ``max`` further attempts, ``backoff_us`` × ``factor`` ^ (attempts made) apart."""

    max: int
    backoff_us: int = 0
    factor: float = 1.0
    max_backoff_us: int | None = None

    def wait_us(self, retries: int) -> int:
        """The wait before attempt ``retries`` (0 for the first), in microseconds (R3.3)."""
        limit = self.max_backoff_us if self.max_backoff_us is not None else LONGEST_US
        if self.backoff_us == 0:
            return 0
        try:
            wait = self.backoff_us * self.factor**retries
        except OverflowError:
            return limit
        return limit if wait >= limit else int(wait)


MOST_PRIORITY = 9
"""The largest priority that Celery passes to every broker."""

LONGEST_US = 100 * 366 * 86_400 * 1_000_000
"""The longest duration, a hundred years. For a longer time, a key is omitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debounce:
    """A wait of ``quiet_us`` without events; at most ``at_most_us`` after the condition was satisfied."""

    quiet_us: int
    at_most_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Up to ``max`` further rounds after the first, ``every_us`` apart."""

    every_us: int
    max: int


class UnlessFrom(StrEnum):
    """The events that count for ``unless``: all that the session has seen, or those after the instance."""

    SESSION = "session"
    INSTANCE = "instance"


class AppliesTo(StrEnum):
    """The sessions in which a new task begins: at an event that uses it, or at once in existing ones."""

    NEW = "new"
    EXISTING = "existing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One entry of the tasks file; durations in microseconds.

    ``every`` is the leaf of ``after`` that ``andEvery`` marks. With ``within_us`` and ``debounce`` the leaves
    of ``after`` hold their newest events. ``with_params`` is by leaf name.
    ``max_concurrency`` limits the instances of a session that are scheduled or running; ``paused``: no
    command is decided.
    """

    name: TaskName
    run: str
    after: Condition
    unless: Condition | None = None
    every: LeafName | None = None
    unless_from: UnlessFrom = UnlessFrom.SESSION
    applies_to: AppliesTo = AppliesTo.NEW
    with_params: JsonObject = field(default_factory=dict)
    within_us: int | None = None
    deadline_us: int | None = None
    delay_us: int | None = None
    debounce: Debounce | None = None
    repeat: Repeat | None = None
    retry: Retry | None = None
    queue: str | None = None
    priority: int | None = None
    expires_us: int | None = None
    max_concurrency: int | None = None
    paused: bool = False
    extras: JsonObject = field(default_factory=dict)
    listed: tuple[Leaf, ...] = field(init=False, repr=False, compare=False)
    """The leaves of ``after`` that bring more than one event: those with ``count`` or ``each``."""
    needs: tuple[TriggerName, ...] = field(init=False, repr=False, compare=False)
    """The triggers of ``after``, that of ``andEvery`` among them: each once, in the order of the file."""
    leaf_names: frozenset[LeafName] = field(init=False, repr=False, compare=False)
    """The names of the leaves of ``after``."""
    unless_triggers: tuple[TriggerName, ...] = field(init=False, repr=False, compare=False)
    """The triggers of ``unless``, each once, in the order of the file."""
    is_list: bool = field(init=False, repr=False, compare=False)
    """Both conditions are lists of triggers: each leaf takes the first event of the trigger of its name.

    With ``within`` and ``debounce`` leaves hold their newest events instead.
    """
    limits_places: bool = field(init=False, repr=False, compare=False)
    """Instances may have to wait for a place: the task is paused, or limits how many run at a time."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits_places", self.paused or self.max_concurrency is not None)
        after, within_us = self.after, self.within_us
        newest = within_us is not None or self.debounce is not None
        if after.newest is not newest or after.within_us != within_us:
            after = Condition(root=after.root, newest=newest, within_us=within_us)
            object.__setattr__(self, "after", after)
        unless_language = self.unless is not None and self.unless.uses_language
        counts_all = self.unless_from is UnlessFrom.SESSION
        lists = counts_all and not self.after.uses_language and not unless_language
        object.__setattr__(self, "is_list", lists and not newest)
        leaves = tuple(slot.leaf for slot in self.after.slots.values() if not slot.leaf.is_plain)
        object.__setattr__(self, "listed", leaves)
        object.__setattr__(self, "needs", self.after.triggers)
        object.__setattr__(self, "leaf_names", self.after.names)
        object.__setattr__(self, "unless_triggers", () if self.unless is None else self.unless.triggers)

    @property
    def after_triggers(self) -> tuple[TriggerName, ...]:
        """The triggers of ``after`` but for the leaf that ``andEvery`` marks."""
        leaves = [slot.leaf for name, slot in self.after.slots.items() if name != self.every]
        return tuple(dict.fromkeys(leaf.trigger for leaf in leaves))

    @property
    def and_every(self) -> TriggerName | None:
        """The trigger of the leaf that ``andEvery`` marks."""
        return None if self.every is None else self.after.slots[self.every].leaf.trigger

    @property
    def uses_language(self) -> bool:
        """True if the fold before version 2 does not understand the task."""
        if not self.is_list or self.applies_to is not AppliesTo.NEW or self.paused:
            return True
        later = (self.deadline_us, self.delay_us, self.repeat, self.priority, self.max_concurrency)
        return any(value is not None for value in later)

    @property
    def uses_time(self) -> bool:
        """True if the task has a key of time other than ``retry``."""
        keys = (self.within_us, self.deadline_us, self.delay_us, self.debounce, self.repeat)
        return any(key is not None for key in keys)


def plain_task(
    *,
    name: TaskName,
    run: str,
    after: Iterable[TriggerName],
    unless: Iterable[TriggerName] = (),
    and_every: TriggerName | None = None,
    with_params: JsonObject | None = None,
    retry: Retry | None = None,
    queue: str | None = None,
    expires_us: int | None = None,
    extras: JsonObject | None = None,
) -> Task:
    """A task whose conditions are lists of triggers. ``and_every`` is added to ``after``."""
    blockers = tuple(unless)
    return Task(
        name=name,
        run=run,
        after=all_of((*after, *(() if and_every is None else (and_every,)))),
        unless=all_of(blockers) if blockers else None,
        every=None if and_every is None else LeafName(and_every),
        with_params=with_params or {},
        retry=retry,
        queue=queue,
        expires_us=expires_us,
        extras=extras or {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A task that uses a trigger, and the leaves of ``after`` and ``unless`` that wait for that trigger.

    ``is_list``: the trigger stands in lists of triggers, and the task has no key of time. ``is_every``: it is
    that of ``andEvery``. ``needs`` is the number of leaves of ``after``. They are here because an event
    should touch few objects: with 1,000 tasks, looking them up in the conditions makes a step slower by a
    quarter.
    """

    task: Task
    after: tuple[Slot, ...]
    unless: tuple[Slot, ...]
    is_list: bool
    in_after: bool
    in_unless: bool
    is_every: bool
    needs: int


def _use(task: Task, after: tuple[Slot, ...], unless: tuple[Slot, ...]) -> Use:
    is_every = any(slot.name == task.every for slot in after)
    is_list = task.is_list and not task.uses_time
    return Use(
        task=task,
        after=after,
        unless=unless,
        is_list=is_list,
        in_after=bool(after),
        in_unless=bool(unless),
        is_every=is_every,
        needs=len(task.after.names),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A tasks file that has been read and found usable. ``users`` maps a trigger to the tasks that use it."""

    hash: ConfigHash
    text: str
    tasks: tuple[Task, ...]
    bounds: Bounds = field(default_factory=Bounds)
    by_name: dict[TaskName, Task] = field(init=False, repr=False, compare=False)
    places: dict[TaskName, int] = field(init=False, repr=False, compare=False)
    """The position of each task in the file."""
    users: dict[TriggerName, tuple[Use, ...]] = field(init=False, repr=False, compare=False)
    uses_language: bool = field(init=False, repr=False, compare=False)
    """True if a task has more than lists of triggers."""
    for_existing: tuple[Task, ...] = field(init=False, repr=False, compare=False)
    """The tasks that begin in existing sessions."""
    limits_places: bool = field(init=False, repr=False, compare=False)
    """Instances of some task may have to wait for a place."""
    starts_timers: bool = field(init=False, repr=False, compare=False)
    """Meeting the file may start a timer in a session that has none: a task has a deadline."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {task.name: task for task in self.tasks})
        object.__setattr__(self, "places", {task.name: place for place, task in enumerate(self.tasks)})
        users: dict[TriggerName, list[Use]] = {}
        for task in self.tasks:
            after = task.after.by_trigger
            unless = {} if task.unless is None else task.unless.by_trigger
            for name in dict.fromkeys((*after, *unless)):
                users.setdefault(name, []).append(_use(task, after.get(name, ()), unless.get(name, ())))
        object.__setattr__(self, "users", {name: tuple(uses) for name, uses in users.items()})
        object.__setattr__(self, "uses_language", any(task.uses_language for task in self.tasks))
        existing = tuple(task for task in self.tasks if task.applies_to is AppliesTo.EXISTING)
        object.__setattr__(self, "for_existing", existing)
        object.__setattr__(self, "limits_places", any(task.limits_places for task in self.tasks))
        has_deadline = any(task.deadline_us is not None for task in self.tasks)
        object.__setattr__(self, "starts_timers", has_deadline)

    @property
    def fold_version(self) -> int:
        """The version of the fold that understands the file: 1 if it has only lists of triggers."""
        return LANGUAGE_VERSION if self.uses_language else FOLD_VERSION

    def among(self, names: Iterable[TaskName]) -> list[Task]:
        """The tasks among ``names``, in the order of the file."""
        there = sorted((name for name in names if name in self.places), key=self.places.__getitem__)
        return [self.by_name[name] for name in there]


NO_CONFIGURATION = Configuration(hash=ConfigHash(""), text="{}", tasks=())


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedConfiguration:
    """A configuration and the offset at which it took force; offset -1 is before the first record.

    ``number`` counts the configurations that have been in force in the partition.
    """

    config: Configuration
    offset: int
    arrival_us: int
    number: int = 0

    @property
    def hash(self) -> ConfigHash:
        """The configuration's hash."""
        return self.config.hash

    @property
    def size(self) -> int:
        """Size of the configuration's text in bytes."""
        return len(self.config.text.encode())


class StoredVersion(Protocol):
    """A configuration in the history of a partition, however its text is stored."""

    @property
    def hash(self) -> ConfigHash: ...

    @property
    def offset(self) -> int: ...

    @property
    def arrival_us(self) -> int: ...

    @property
    def number(self) -> int: ...

    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PastConfiguration:
    """A past configuration. ``read`` returns it, the same each time.

    It is not kept in parsed form, because many parsed configurations take much memory.
    """

    hash: ConfigHash
    offset: int
    arrival_us: int
    number: int
    size: int
    read: Callable[[], Configuration] = field(repr=False, compare=False)

    @classmethod
    def of(cls, version: StoredVersion, *, read: Callable[[], Configuration]) -> PastConfiguration:
        """``version``, with its configuration returned by ``read``."""
        return cls(
            hash=version.hash,
            offset=version.offset,
            arrival_us=version.arrival_us,
            number=version.number,
            size=version.size,
            read=read,
        )

    @property
    def config(self) -> Configuration:
        """The configuration."""
        return self.read()


Version: TypeAlias = AppliedConfiguration | PastConfiguration
"""A configuration in the history of a partition."""

NEVER_APPLIED = AppliedConfiguration(config=NO_CONFIGURATION, offset=-1, arrival_us=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything but the log that a decision depends on (docs/semantics.md, R9.1).

    ``history`` holds the configurations that some session may still have to meet, oldest first; the last
    one is in force.
    """

    app: AppId
    history: tuple[Version, ...] = (NEVER_APPLIED,)
    current: AppliedConfiguration = field(init=False, repr=False, compare=False)
    """The configuration in force."""

    def __post_init__(self) -> None:
        last = self.history[-1]
        if isinstance(last, PastConfiguration):
            last = AppliedConfiguration(
                config=last.config, offset=last.offset, arrival_us=last.arrival_us, number=last.number
            )
        object.__setattr__(self, "current", last)

    def met(self, offset: int) -> Version:
        """The configuration that a session at ``offset`` has met last."""
        for applied in reversed(self.history):
            if applied.offset <= offset:
                return applied
        return NEVER_APPLIED

    def missed(self, offset: int) -> Sequence[Version]:
        """The configurations that took force after ``offset``, in log order."""
        return [applied for applied in self.history if applied.offset > offset]

    def apply(self, applied: AppliedConfiguration) -> Rules:
        """These rules with one more configuration in force."""
        return Rules(app=self.app, history=(*self.history, applied))

    def forget(self, oldest_met: int) -> Rules:
        """These rules without the configurations that every session is past."""
        keep = [a for a in self.history if a.offset >= oldest_met] or [self.current]
        return self if len(keep) == len(self.history) else Rules(app=self.app, history=tuple(keep))

    def unload_past(
        self,
        reader: Callable[[AppliedConfiguration], Callable[[], Configuration]],
        *,
        below: int | None = None,
    ) -> Rules:
        """These rules, with past configurations parsed again when needed by the function from ``reader``.

        ``below``: only configurations that took force before this offset.
        """
        limit = self.current.offset if below is None else min(below, self.current.offset)
        if not any(isinstance(one, AppliedConfiguration) and 0 <= one.offset < limit for one in self.history):
            return self
        history = tuple(
            PastConfiguration.of(one, read=reader(one))
            if isinstance(one, AppliedConfiguration) and 0 <= one.offset < limit
            else one
            for one in self.history
        )
        return Rules(app=self.app, history=history)
