"""Writes the generated parts of ``docs/semantics.md``: ``python -m tests.core.semantics``.

The tables show what the real fold does with an instance in each status, for each kind of event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.core.story import SECOND, Story, names
from triggerstream.core.commands import Command
from triggerstream.core.events import (
    Body,
    Cancel,
    Close,
    Erase,
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
from triggerstream.core.ids import (
    AppId,
    CommandId,
    InstanceId,
    JsonObject,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    event_digest,
    instance_id,
)
from triggerstream.core.retired import KEPT_RESOLVED
from triggerstream.core.state import DECIDED, RESOLVED, WAITING, Instance, NoEffect, SessionState, Status
from triggerstream.wire import state as wire

PAGE: Final = Path(__file__).parents[2] / "docs" / "semantics.md"
_PART = re.compile(r"(<!-- generated: (?P<name>\w+) -->\n).*?(<!-- end of generated part -->)", re.DOTALL)


# ---- the instance in each status ----------------------------------------------------------------

T: Final = TaskName("t")
_T: JsonObject = {
    "after": ["a", "c"],
    "andEvery": "b",
    "unless": ["no"],
    "run": "my_app.tasks.T",
    "retry": {"max": 1, "backoff": "1h"},
}
_NEXT: JsonObject = {"after": [], "andEvery": "t", "run": "my_app.tasks.Next"}
TASKS: Final[JsonObject] = {"t": _T, "next": _NEXT}
_WITHOUT_RETRY: JsonObject = {"t": {key: value for key, value in _T.items() if key != "retry"}, "next": _NEXT}
_WITHOUT_T: JsonObject = {"next": _NEXT}
_WITHOUT_C: JsonObject = {"t": {**_T, "after": ["a"]}, "next": _NEXT}
_UNLESS_A: JsonObject = {"t": {**_T, "unless": ["a"]}, "next": _NEXT}


def _unstarted(story: Story) -> int:
    story.fire("a", id="1")
    story.fire("b")
    return 0


def _delayed(story: Story) -> int:
    number = _scheduled(story)
    story.failed(instance_id(T, number))
    return number + 1


def _held(story: Story) -> int:
    """Held as if the file had limited the task until now."""
    number = _unstarted(story)
    assert story.state is not None
    story.state = wire.decode(wire.encode(story.state))
    held = story.state.tasks[T].open[number]
    held.status, held.held_no, story.state.holds = Status.HELD, 1, 1
    return number


def _scheduled(story: Story) -> int:
    number = _unstarted(story)
    story.fire("c")
    return number


def _running(story: Story) -> int:
    number = _scheduled(story)
    story.started(instance_id(T, number))
    return number


def _failed(story: Story) -> int:
    number = _running(story)
    story.failed(instance_id(T, number), reason=FailureReason.RESULT_NOT_REPORTABLE)
    return number


def _finished(story: Story) -> int:
    number = _running(story)
    story.finished(instance_id(T, number), {"n": 1})
    return number


def _skipped(story: Story) -> int:
    number = _running(story)
    story.skipped(instance_id(T, number))
    return number


def _replayed(story: Story) -> int:
    number = _failed(story)
    story.replay(instance_id(T, number))
    return number


def _abandoned(story: Story) -> int:
    number = _unstarted(story)
    story.fire("no")
    return number


def _expired(story: Story) -> int:
    number = _scheduled(story)
    story.revoked(instance_id(T, number))
    return number


def _cancelled(story: Story) -> int:
    number = _running(story)
    story.cancel(instance_id(T, number))
    return number


REACHED: Final[dict[Status, Callable[[Story], int]]] = {
    Status.UNSTARTED: _unstarted,
    Status.DELAYED: _delayed,
    Status.HELD: _held,
    Status.SCHEDULED: _scheduled,
    Status.RUNNING: _running,
    Status.FAILED: _failed,
    Status.FINISHED: _finished,
    Status.SKIPPED: _skipped,
    Status.REPLAYED: _replayed,
    Status.ABANDONED: _abandoned,
    Status.EXPIRED: _expired,
    Status.CANCELLED: _cancelled,
}
"""Folds a log after which an instance of ``t`` has the status; returns its number."""


# ---- the events ---------------------------------------------------------------------------------

_EVERY = frozenset(Status)
_FAILED = frozenset({Status.FAILED})
_HANDED_OVER = DECIDED | _FAILED
_NOT_WAITING = _EVERY - WAITING
"""Those that a closing leaves as they are."""


def _nothing(_story: Story, _instance: InstanceId) -> None:
    pass


def _fire_no(story: Story, _instance: InstanceId) -> None:
    story.fire("no")


def _resend(story: Story, instance: InstanceId) -> None:
    story.resend(instance)


def _close(story: Story, _instance: InstanceId) -> None:
    story.close()


def _retire(story: Story, _instance: InstanceId) -> None:
    """Resolve so many further instances that the observed one leaves the state."""
    for _ in range(KEPT_RESOLVED):
        story.fire("b")
        assert story.state is not None
        record = story.state.tasks[T]
        if record.next - 1 in record.open:
            story.cancel(instance_id(T, record.next - 1))


def _apply(tasks: JsonObject) -> Callable[[Story, InstanceId], None]:
    return lambda story, _instance: story.apply(tasks)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One event of the tables: ``before`` is folded first, ``among`` are the statuses it is shown for."""

    label: str
    body: Callable[[InstanceId, CommandId], Body]
    before: Callable[[Story, InstanceId], None] = _nothing
    among: frozenset[Status] = _EVERY
    event_id: str | None = None
    later_s: float = 0


def _trigger(name: str) -> Callable[[InstanceId, CommandId], Body]:
    return lambda _i, _c: Trigger(name=TriggerName(name), data={})


def _lost(instance: InstanceId, command: CommandId) -> Body:
    return Failed(
        instance=instance, command=command, error="gone", reason=FailureReason.WORKER_LOST, attempt=0
    )


def _not_reportable(instance: InstanceId, command: CommandId) -> Body:
    return Failed(
        instance=instance, command=command, error="a set", reason=FailureReason.RESULT_NOT_REPORTABLE
    )


def _fails(instance: InstanceId, command: CommandId) -> Body:
    return Failed(instance=instance, command=command, error="boom")


def _starts(instance: InstanceId, command: CommandId) -> Body:
    return Started(instance=instance, command=command)


def _finishes(instance: InstanceId, command: CommandId) -> Body:
    return Finished(instance=instance, command=command, result={"n": 2})


def _retries(instance: InstanceId, command: CommandId) -> Body:
    return Retried(instance=instance, command=command, after_us=60 * SECOND)


def _skips(instance: InstanceId, _command: CommandId) -> Body:
    return Skip(instance=instance, cascade=True, result={"n": 3})


def _replays(instance: InstanceId, _command: CommandId) -> Body:
    return Replay(instance=instance)


def _forces(instance: InstanceId, _command: CommandId) -> Body:
    return Replay(instance=instance, force=True)


def _cancels(instance: InstanceId, _command: CommandId) -> Body:
    return Cancel(instance=instance)


def _touches(_instance: InstanceId, _command: CommandId) -> Body:
    return Touch()


ROWS: Final = (
    Row(label="trigger `a` (in `after`)", body=_trigger("a")),
    Row(label="trigger `c` (in `after`)", body=_trigger("c")),
    Row(label="trigger `b` (`andEvery`)", body=_trigger("b")),
    Row(label="trigger `no` (in `unless`)", body=_trigger("no")),
    Row(label="trigger `a` with the id `1` again", body=_trigger("a"), event_id="1"),
    Row(label="trigger that no task uses", body=_trigger("other")),
    Row(label="`started`", body=_starts),
    Row(label="`finished`", body=_finishes),
    Row(label="`finished` with another command's id", body=lambda i, _c: _finishes(i, CommandId("other"))),
    Row(label="`failed`", body=_fails),
    Row(label="`failed`, the file has no `retry`", body=_fails, before=_apply(_WITHOUT_RETRY), among=DECIDED),
    Row(label="`failed`, `no` has arrived", body=_fails, before=_fire_no, among=DECIDED),
    Row(label="`failed`, `result not reportable`", body=_not_reportable, among=DECIDED),
    Row(label="`failed`, `worker lost`, attempt 0, resent since", body=_lost, before=_resend, among=DECIDED),
    Row(label="`skipped`", body=lambda i, c: Skipped(instance=i, command=c)),
    Row(label="`retried`", body=_retries),
    Row(label="`retried`, `no` has arrived", body=_retries, before=_fire_no, among=DECIDED),
    Row(label="`revoked`", body=lambda i, c: Revoked(instance=i, command=c)),
    Row(
        label="`revoked`, attempt 0, resent since",
        body=lambda i, c: Revoked(instance=i, command=c, attempt=0),
        before=_resend,
        among=DECIDED,
    ),
    Row(label="`skip`", body=lambda i, _c: Skip(instance=i)),
    Row(label="`skip` with `cascade`", body=_skips),
    Row(label="`replay`", body=_replays),
    Row(label="`replay`, `no` has arrived", body=_replays, before=_fire_no, among=_FAILED),
    Row(label="`replay` with `force`", body=_forces),
    Row(label="`replay` with `force`, `no` has arrived", body=_forces, before=_fire_no, among=_HANDED_OVER),
    Row(label="`cancel`", body=_cancels),
    Row(label="`cancel` for another generation", body=lambda i, _c: Cancel(instance=i, generation=7)),
    Row(label="`resend`", body=lambda i, _c: Resend(instance=i)),
    Row(
        label="`resend` for another attempt",
        body=lambda i, _c: Resend(instance=i, attempt=7),
        among=DECIDED,
    ),
    Row(label="`release`", body=lambda i, _c: Release(instance=i)),
    Row(label="`close`", body=lambda _i, _c: Close()),
    Row(label="`erase`", body=lambda _i, _c: Erase()),
    Row(label="`touch`", body=_touches),
    Row(label="`timer`, nothing is due", body=lambda _i, _c: Timer()),
    Row(label="`timer`, 2 hours later", body=lambda _i, _c: Timer(), later_s=7_200),
    Row(label="closed, then trigger `a`", body=_trigger("a"), before=_close, among=_NOT_WAITING),
    Row(label="closed, then `finished`", body=_finishes, before=_close, among=DECIDED),
    Row(label="closed, then `failed`", body=_fails, before=_close, among=DECIDED),
    Row(label="closed, then `retried`", body=_retries, before=_close, among=DECIDED),
    Row(label="closed, then `skip` with `cascade`", body=_skips, before=_close, among=_FAILED),
    Row(label="closed, then `replay` with `force`", body=_forces, before=_close, among=_HANDED_OVER),
    Row(label="closed, then `cancel`", body=_cancels, before=_close, among=_NOT_WAITING),
    Row(label="closed, then `close`", body=lambda _i, _c: Close(), before=_close, among=_NOT_WAITING),
    Row(label="retired, then `started`", body=_starts, before=_retire, among=RESOLVED),
    Row(label="retired, then `finished`", body=_finishes, before=_retire, among=RESOLVED),
    Row(label="retired, then `cancel`", body=_cancels, before=_retire, among=RESOLVED),
    Row(label="file without `t`, then `touch`", body=_touches, before=_apply(_WITHOUT_T)),
    Row(label="file without `t`, then `finished`", body=_finishes, before=_apply(_WITHOUT_T), among=DECIDED),
    Row(label="file without `t`, then `failed`", body=_fails, before=_apply(_WITHOUT_T), among=DECIDED),
    Row(label="file without `t`, then `retried`", body=_retries, before=_apply(_WITHOUT_T), among=DECIDED),
    Row(label="file without `t`, then `replay`", body=_replays, before=_apply(_WITHOUT_T), among=_FAILED),
    Row(label='file with `"after": ["a"]`, then `touch`', body=_touches, before=_apply(_WITHOUT_C)),
    Row(
        label='file with `"after": ["a"]`, then `timer`',
        body=lambda _i, _c: Timer(),
        before=_apply(_WITHOUT_C),
    ),
    Row(label='file with `"unless": ["a"]`, then `touch`', body=_touches, before=_apply(_UNLESS_A)),
    Row(label="file without `retry`, then `touch`", body=_touches, before=_apply(_WITHOUT_RETRY)),
)


# ---- what happens -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Effects of an event on the observed instance and the session, in the words of the page."""

    becomes: str | None
    """The new status; None if it stays."""
    effect: NoEffect | None
    made: bool
    also: str
    commands: str
    settled: str
    note: str

    def short(self) -> str:
        """The cell of the first table."""
        word = self.becomes or ("·" if self.effect is None else f"*{self.effect.value}*")
        return f"{word} +1" if self.made else word


@dataclass
class _Shown:
    """Names instances relative to the observed one: ``t#n``, ``t#n+1``."""

    number: int
    _pattern: re.Pattern[str] = field(default=re.compile(r"(?<!\w)t#(\d+)"), init=False)

    def __call__(self, text: str) -> str:
        return self._pattern.sub(self._relative, text)

    def _relative(self, match: re.Match[str]) -> str:
        distance = int(match[1]) - self.number
        return "t#n" if distance == 0 else f"t#n{distance:+}".replace("-", "−")


def cell(row: Row, status: Status) -> Cell:
    """Fold the event of ``row`` where the instance has ``status``."""
    story = Story(TASKS)
    number = REACHED[status](story)
    instance = instance_id(T, number)
    assert story.statuses()[instance] == status
    row.before(story, instance)
    before, generation = _known(story)
    command = story.command(instance)
    settled, offset = len(story.settled), story.offset
    decisions = story.tell(row.body(instance, command), at=story.now_s + row.later_s, id=row.event_id)
    after, now_generation = _known(story)
    shown = _Shown(number)
    if now_generation != generation:
        anew = "; ".join(f"anew: `{name}` {one.status.value}" for name, one in after.items())
        before, after = {instance: before[instance]}, {}
    else:
        anew = ""
    now = after.get(instance)
    became = "gone" if now is None else now.status.value
    effect, note = _note(story, offset)
    commands = [
        f"{name} attempt {decision.attempt}" if isinstance(decision, Command) and decision.attempt else name
        for name, decision in zip(names(decisions), decisions, strict=True)
    ]
    others = [
        f"`{name}` {one.status.value}"
        for name, one in after.items()
        if name != instance and (name not in before or before[name].status is not one.status)
    ]
    return Cell(
        becomes=None if became == status else became,
        effect=effect,
        made=any(name not in before and name.startswith("t#") for name in after),
        also=anew or shown("; ".join([*_changes(before[instance], now), *others])),
        commands=", ".join(f"`{name if anew else shown(name)}`" for name in commands),
        settled="yes" if command in story.settled[settled:] else "",
        note=shown(_plain(note, instance, status)),
    )


def _known(story: Story) -> tuple[dict[InstanceId, Instance], int]:
    """The session's instances, and their generation."""
    assert story.state is not None
    whole = story.entries.whole(story.session, story.state)
    return dict(_by_id(whole)), whole.instances_generation


def _by_id(state: SessionState) -> Iterator[tuple[InstanceId, Instance]]:
    for name, record in state.tasks.items():
        for instance in record.instances():
            yield instance_id(name, instance.number), instance


def _note(story: Story, offset: int) -> tuple[NoEffect | None, str]:
    state = story.state
    assert state is not None
    if not state.positions or state.positions[-1][0] != offset:
        return None, ""
    note = state.positions[-1][3]
    if isinstance(note, tuple):
        inert, _, says = note
        return inert, says
    return None, note or "entry"


def _plain(note: str, instance: InstanceId, status: Status) -> str:
    """``note`` without what differs from status to status, so that equal effects share a row."""
    note = re.sub(r"^command \S+ is", "command … is", note)
    return note.replace(f"{instance} is {status}", f"{instance} is *status*")


def _changes(before: Instance, after: Instance | None) -> Iterator[str]:
    """Changes of the observed instance other than its status."""
    if after is None:
        return
    for name in sorted(after.captured.keys() - before.captured.keys()):
        yield f"captures `{name}`"
    for name in sorted(before.captured.keys() - after.captured.keys()):
        yield f"drops `{name}`"
    for name in sorted(after.noted.keys() - before.noted.keys()):
        yield f"notes `{name}`"
    if after.attempt != before.attempt:
        yield f"attempt {after.attempt}"
    if before.started_us is not None and after.started_us is None:
        yield "not started"
    if after.result != before.result:
        yield "result kept"
    if after.error != before.error:
        yield "error kept"
    if after.reason != before.reason:
        yield "no reason" if after.reason is None else f"reason `{after.reason}`"
    if after.note != before.note:
        yield f"note `{after.note}`"


# ---- the parts of the page ----------------------------------------------------------------------


def parts() -> dict[str, str]:
    """The generated parts by name."""
    return {
        "vectors": _vectors(),
        "file": f"```json\n{_file()}\n```\n",
        "matrix": _matrix(),
        "details": _details(),
    }


def _file() -> str:
    lines = [f"  {json.dumps(name)}: {json.dumps(task)}" for name, task in TASKS.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("  |", " |") for line in lines)


def _matrix() -> str:
    rows = (
        (row.label, *(cell(row, status).short() if status in row.among else "–" for status in REACHED))
        for row in ROWS
    )
    return _table(("event", *(f"`{status.value}`" for status in REACHED)), rows)


def _details() -> str:
    return _table(("event", "status", "becomes", "also", "commands", "settled", "timeline"), _detail_rows())


def _detail_rows() -> Iterator[tuple[str, ...]]:
    for row in ROWS:
        groups: dict[Cell, list[str]] = {}
        for status in REACHED:
            if status in row.among:
                groups.setdefault(cell(row, status), []).append(status.value)
        label = row.label
        for found, among in groups.items():
            becomes = found.becomes or "·"
            note = found.note if found.effect is None else f"*{found.effect.value}*: {found.note}"
            yield (label, ", ".join(among), becomes, found.also, found.commands, found.settled, note)
            label = ""


VECTORS: Final = (
    ("triggerstream", "42", 0, "t_report", 0),
    ("triggerstream", "42", 1, "t_report", 0),
    ("triggerstream", "42", 0, "t_report", 10),
    ("shop", "Zoë 😀", 3, "t#1", 0),
)
IDENTITIES: Final = ((None, "A234-1234-1234"), ("app", "1"), ("Zoë 😀", "1"))


def _vectors() -> str:
    ids = (
        (
            f"`{app}`",
            f"`{session}`",
            str(generation),
            f"`{task}#{number}`",
            f"`{len(app)}:{app}{len(session)}:{session}{generation}:{len(task)}:{task}{number}`",
            f"`{_id(app, session, generation, task, number)}`",
        )
        for app, session, generation, task, number in VECTORS
    )
    digests = (
        (
            "none" if source is None else f"`{source}`",
            f"`{event}`",
            f"`{len(source or '')}:{source or ''}{event}`",
            f"`{event_digest(source, event).hex()}`",
        )
        for source, event in IDENTITIES
    )
    head = ("app", "session", "generation", "instance", "name", "command id")
    identities = _table(("source", "id", "text", "digest in hex (R4.1)"), digests)
    return f"{_table(head, ids)}\n{identities}"


def _id(app: str, session: str, generation: int, task: str, number: int) -> CommandId:
    return command_id(
        AppId(app), SessionId(session), generation=generation, task=TaskName(task), number=number
    )


def rendered(page: str) -> str:
    """``page`` with its generated parts written anew."""
    written = parts()

    def write(match: re.Match[str]) -> str:
        return f"{match[1]}{written[match['name']]}{match[3]}"

    return _PART.sub(write, page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
