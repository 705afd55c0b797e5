"""Runs a test of a tasks file: folds its events, and compares the commands with those that it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from triggerstream.core.answers import ExplainedSession, ExplainedTask
from triggerstream.core.commands import Command
from triggerstream.core.errors import DecodeError
from triggerstream.core.ids import AppId, Json, SessionId, split_instance_id
from triggerstream.core.tasks import Configuration
from triggerstream.engine.replay.simulate import RefusedLine, Simulation, StrayOutcome
from triggerstream.wire.tasksfile.tree import Path, pointer
from triggerstream.wire.xtests import ExpectedCommand, FileTest, FileTests, MalformedTest


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCommand:
    """A command that was expected, decided, or both.

    ``differs``: JSON pointers to what differs, ``/run`` and the first such value of ``/kwargs``.
    ``moved``: it was expected and decided, at different places of the order.
    """

    expected: ExpectedCommand | None
    decided: Command | None
    differs: tuple[str, ...] = ()
    moved: bool = False

    @property
    def same(self) -> bool:
        """True if what was decided is what was expected."""
        return self.expected is not None and self.decided is not None and not self.differs

    @property
    def key(self) -> tuple[SessionId, str]:
        """Session and instance."""
        one = self.expected if self.expected is not None else self.decided
        return (SessionId(""), "") if one is None else (one.session, one.instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTestResult:
    """The result of a test. ``refused``: events that an engine would not have taken as they are.

    ``tasks``: the tasks of which a command was expected and not decided, by session and instance.
    ``mistakes``: why the test could not be run, each with its place; then nothing was compared.
    """

    test: FileTest | MalformedTest
    commands: tuple[ComparedCommand, ...] = ()
    refused: tuple[RefusedLine | StrayOutcome, ...] = ()
    sessions: tuple[ExplainedSession, ...] = ()
    tasks: Mapping[tuple[SessionId, str], ExplainedTask] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if the test was run, each command is as expected, and every event was taken."""
        if self.mistakes or self.refused:
            return False
        return all(command.same for command in self.commands)

    def session(self, session: SessionId) -> ExplainedSession | None:
        """The session of that id, explained."""
        return next((one for one in self.sessions if one.session == session), None)


def run_file_tests(config: Configuration, tests: FileTests, *, app: AppId) -> list[FileTestResult]:
    """The results of all tests, in the order of the file. One that cannot be run has failed."""
    every: list[FileTest | MalformedTest] = [*tests.tests, *tests.malformed]
    every.sort(key=lambda test: (test.place.line or 0, test.place.column or 0))
    return [_result(config, test, app) for test in every]


def _result(config: Configuration, test: FileTest | MalformedTest, app: AppId) -> FileTestResult:
    if isinstance(test, MalformedTest):
        mistakes = tuple(f"{test.place.name}:{mistake}" for mistake in test.mistakes)
        return FileTestResult(test=test, mistakes=mistakes)
    try:
        return run_file_test(config, test, app=app)
    except DecodeError as exc:
        return FileTestResult(test=test, mistakes=(str(exc),))


def run_file_test(config: Configuration, test: FileTest, *, app: AppId) -> FileTestResult:
    """Fold the events of ``test``, and compare.

    Raises:
        DecodeError: an event cannot be folded, with its place.
    """
    simulation = Simulation(config, app=app, name=test.place.name)
    decided: list[Command] = []
    refused: list[RefusedLine | StrayOutcome] = []
    for event in test.events:
        for shown in simulation.take(event.value, place=event.place, applied=event.applied):
            if isinstance(shown, Command):
                decided.append(shown)
            else:
                refused.append(shown)
    commands = tuple(_compare(test.commands, decided))
    tasks = {}
    for command in commands:
        session, instance = command.key
        if command.decided is None:
            parts = split_instance_id(instance)
            task = None if parts is None else simulation.explain_task(session, parts[0])
            if task is not None:
                tasks[command.key] = task
    return FileTestResult(
        test=test,
        commands=commands,
        tasks=tasks,
        refused=tuple(refused),
        sessions=tuple(simulation.explained()),
    )


def _compare(expected: Sequence[ExpectedCommand], decided: Sequence[Command]) -> Iterator[ComparedCommand]:
    """Both lists side by side: equal instances beside one another, the others alone."""
    wanted = [(one.session, one.instance) for one in expected]
    found = [(one.session, str(one.instance)) for one in decided]
    both = set(wanted) & set(found)
    matcher = SequenceMatcher(a=wanted, b=found, autojunk=False)
    for kind, first, last, first_found, last_found in matcher.get_opcodes():
        if kind == "equal":
            for one, other in zip(expected[first:last], decided[first_found:last_found], strict=True):
                yield ComparedCommand(expected=one, decided=other, differs=_differences(one, other))
            continue
        for one in expected[first:last]:
            yield ComparedCommand(expected=one, decided=None, moved=(one.session, one.instance) in both)
        for other in decided[first_found:last_found]:
            yield ComparedCommand(
                expected=None, decided=other, moved=(other.session, str(other.instance)) in both
            )


def _differences(expected: ExpectedCommand, decided: Command) -> tuple[str, ...]:
    paths = []
    if expected.run is not None and expected.run != decided.run:
        paths.append("/run")
    if expected.kwargs is not None:
        different = first_difference(expected.kwargs, decided.kwargs, ("kwargs",))
        if different is not None:
            paths.append(pointer(different))
    return tuple(paths)


def first_difference(one: Json, other: Json, path: Path) -> Path | None:
    """The path at which two JSON values at ``path`` differ first; None if they are equal.

    Numbers are compared by value; true is not 1, as it is in Python.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if key not in one or key not in other:
                return (*path, key)
            found = first_difference(one[key], other[key], (*path, key))
            if found is not None:
                return found
        return None
    if isinstance(one, list) and isinstance(other, list):
        for index, pair in enumerate(zip(one, other, strict=False)):
            found = first_difference(*pair, (*path, index))
            if found is not None:
                return found
        return None if len(one) == len(other) else (*path, min(len(one), len(other)))
    return None if isinstance(one, bool) == isinstance(other, bool) and one == other else path
