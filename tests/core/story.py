"""A log told line by line, folded as it is told: what the examples of the fold are written in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.core.entries import Entries
from triggerstream.core.commands import Command, Decision
from triggerstream.core.events import (
    TYPES,
    Body,
    Cancel,
    Close,
    Erase,
    Event,
    Failed,
    FailureReason,
    Finished,
    Release,
    Replay,
    Resend,
    Retried,
    Revoked,
    Skip,
    Skipped,
    Started,
    Timer,
    Touch,
    Trigger,
)
from triggerstream.core.fold import step
from triggerstream.core.ids import (
    AppId,
    CommandId,
    InstanceId,
    Json,
    JsonObject,
    SessionId,
    TriggerName,
    command_id,
    split_instance_id,
)
from triggerstream.core.projections import statuses
from triggerstream.core.results import Folded, LeftOut, Unknown
from triggerstream.core.sizes import Sizes
from triggerstream.core.state import Instance, SessionState
from triggerstream.core.tasks import AppliedConfiguration, Configuration, Rules
from triggerstream.core.timeline import timeline
from triggerstream.wire import tasksfile

SECOND = 1_000_000
START_US = 1_767_225_600 * SECOND


def read(tasks: JsonObject | str) -> Configuration:
    """The configuration of a tasks file, given as its text or as the object that it holds."""
    return tasksfile.read(tasks if isinstance(tasks, str) else json.dumps(tasks), name="tasks.json")


@dataclass
class Story:
    """One session's log under the tasks file ``tasks``; ``at`` is in seconds since the story began.

    Each telling returns what it decided. An event without ``at`` arrives when the one before it did.
    """

    tasks: JsonObject | str
    session: SessionId = field(default=SessionId("s"))
    app: AppId = field(default=AppId("app"))
    rules: Rules = field(init=False)
    state: SessionState | None = field(init=False, default=None)
    commands: list[Command] = field(init=False, default_factory=list)
    rejected: list[str] = field(init=False, default_factory=list)
    settled: list[CommandId] = field(init=False, default_factory=list)
    left_out: list[LeftOut] = field(init=False, default_factory=list)
    prevented: int = field(init=False, default=0)
    unknown: int = field(init=False, default=0)
    """Events for a session of which nothing was known."""
    result: Folded = field(init=False)
    """The result of the last event that was folded."""
    sizes: Sizes | None = None
    entries: Entries = field(init=False, default_factory=Entries)
    offset: int = field(init=False, default=0)
    now_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        config = read(self.tasks)
        self.rules = Rules(
            app=self.app, history=(AppliedConfiguration(config=config, offset=-1, arrival_us=START_US),)
        )

    # ---- telling

    def tell(
        self,
        body: Body,
        *,
        at: float | None = None,
        id: str | None = None,  # noqa: A002 - the attribute's name
        source: str | None = None,
        time: float | None = None,
        traceparent: str | None = None,
    ) -> list[Decision]:
        """Fold one event."""
        self.now_s = self.now_s if at is None else at
        event = Event(
            session=self.session,
            offset=self.offset,
            arrival_us=START_US + round(self.now_s * SECOND),
            time_us=START_US + round((self.now_s if time is None else time) * SECOND),
            type=body.name if isinstance(body, Trigger) else TYPES[type(body)],
            body=body,
            id=id,
            source=source,
            traceparent=traceparent,
        )
        self.offset += 1
        return self.take(event)

    def take(self, event: Event) -> list[Decision]:
        """Fold ``event`` as it is."""
        folded = step(self.rules, self.state, event, sizes=self.sizes)
        if isinstance(folded, Unknown):
            self.unknown += 1
            self.settled += folded.settled
            return []
        if not isinstance(folded, Folded):
            self.rejected.append(folded.reason)
            return []
        self.state = folded.state
        self.entries.take(self.session, folded)
        self.result = folded
        self.commands += [d for d in folded.decisions if isinstance(d, Command)]
        self.settled += folded.settled
        self.left_out += folded.left_out
        self.prevented += folded.prevented
        return list(folded.decisions)

    def apply(self, tasks: JsonObject | str, *, at: float | None = None) -> None:
        """Put another tasks file in force."""
        self.now_s = self.now_s if at is None else at
        arrival_us = START_US + round(self.now_s * SECOND)
        self.rules = self.rules.apply(
            AppliedConfiguration(config=read(tasks), offset=self.offset, arrival_us=arrival_us)
        )
        self.offset += 1

    def fire(
        self,
        name: str,
        data: JsonObject | None = None,
        *,
        at: float | None = None,
        id: str | None = None,  # noqa: A002 - the attribute's name
        source: str | None = None,
        traceparent: str | None = None,
    ) -> list[Decision]:
        body = Trigger(name=TriggerName(name), data=data or {})
        return self.tell(body, at=at, id=id, source=source, traceparent=traceparent)

    def started(self, instance: str, *, at: float | None = None) -> list[Decision]:
        return self.tell(Started(instance=InstanceId(instance), command=self.command(instance)), at=at)

    def finished(self, instance: str, result: Json = None, *, at: float | None = None) -> list[Decision]:
        body = Finished(instance=InstanceId(instance), command=self.command(instance), result=result)
        return self.tell(body, at=at)

    def failed(
        self,
        instance: str,
        error: str = "boom",
        *,
        reason: FailureReason | None = None,
        at: float | None = None,
    ) -> list[Decision]:
        body = Failed(
            instance=InstanceId(instance), command=self.command(instance), error=error, reason=reason
        )
        return self.tell(body, at=at)

    def skipped(
        self, instance: str, metadata: JsonObject | None = None, *, at: float | None = None
    ) -> list[Decision]:
        body = Skipped(instance=InstanceId(instance), command=self.command(instance), metadata=metadata)
        return self.tell(body, at=at)

    def retried(
        self,
        instance: str,
        *,
        after: float = 0,
        kwargs: JsonObject | None = None,
        at: float | None = None,
    ) -> list[Decision]:
        body = Retried(
            instance=InstanceId(instance),
            command=self.command(instance),
            after_us=round(after * SECOND),
            kwargs=kwargs,
        )
        return self.tell(body, at=at)

    def revoked(self, instance: str) -> list[Decision]:
        return self.tell(Revoked(instance=InstanceId(instance), command=self.command(instance)))

    def skip(self, instance: str, *, cascade: bool = False, result: Json = None) -> list[Decision]:
        return self.tell(Skip(instance=InstanceId(instance), cascade=cascade, result=result))

    def replay(
        self, instance: str, *, kwargs: JsonObject | None = None, force: bool = False
    ) -> list[Decision]:
        return self.tell(Replay(instance=InstanceId(instance), kwargs=kwargs, force=force))

    def cancel(self, instance: str, *, reason: str | None = None, by: str | None = None) -> list[Decision]:
        return self.tell(Cancel(instance=InstanceId(instance), reason=reason, by=by))

    def resend(self, instance: str) -> list[Decision]:
        return self.tell(Resend(instance=InstanceId(instance)))

    def release(self, instance: str) -> list[Decision]:
        return self.tell(Release(instance=InstanceId(instance)))

    def close(self, reason: str | None = None) -> list[Decision]:
        return self.tell(Close(reason=reason))

    def erase(self) -> list[Decision]:
        return self.tell(Erase())

    def touch(self, *, at: float | None = None) -> list[Decision]:
        return self.tell(Touch(), at=at)

    def timer(self, *, at: float) -> list[Decision]:
        return self.tell(Timer(), at=at)

    # ---- looking

    def whole(self) -> SessionState | None:
        """The state with all instances, those that have left it included."""
        return None if self.state is None else self.entries.whole(self.session, self.state)

    def command(self, instance: str, *, generation: int | None = None) -> CommandId:
        """The command id of an instance, of the generation that is under way unless told."""
        parts = split_instance_id(instance)
        assert parts is not None
        if generation is None:
            generation = 0 if self.state is None else self.state.instances_generation
        return command_id(self.app, self.session, generation=generation, task=parts[0], number=parts[1])

    def statuses(self) -> dict[str, str]:
        """Each instance's status."""
        state = self.whole()
        return {} if state is None else {n: i.status.value for n, i in statuses(state).items()}

    def stored(self) -> dict[str, JsonObject]:
        """Each instance's kwargs, before ``withParams``."""
        state = self.whole()
        return {} if state is None else {n: state.stored_kwargs(i) for n, i in statuses(state).items()}

    def instance(self, instance: str) -> Instance:
        state = self.whole()
        assert state is not None
        return statuses(state)[instance]

    def refused(self) -> int:
        return 0 if self.state is None else self.state.refused

    def notes(self) -> list[tuple[str, str | None]]:
        """What the timeline says of each event: what it was, and the note."""
        state = self.whole()
        assert state is not None
        rows = timeline(self.rules, self.session, state)
        return [(row.what, row.note) for row in rows if row.what != "decided"]


def task(*after: str, **keys: Json) -> JsonObject:
    """A task of a tasks file; keys are spelt as there."""
    return {"after": list(after), "run": "my_app.tasks.run", **keys}


def names(decisions: list[Decision]) -> list[str]:
    """The instances that were decided, in order; a revocation is marked by a minus."""
    return [d.instance if isinstance(d, Command) else f"-{d.instance}" for d in decisions]
