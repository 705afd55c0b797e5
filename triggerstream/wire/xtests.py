"""The tests in a tasks file: ``x-tests``, a list of events with the commands that must be decided.

An engine ignores them, as it ignores all names of the file that begin with ``x-``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from triggerstream.core.errors import DecodeError, Finding
from triggerstream.core.events import ENGINE_PREFIX
from triggerstream.core.ids import Json, JsonObject, SessionId, split_instance_id
from triggerstream.core.similar_names import nearest
from triggerstream.wire.applied_texts import AppliedText, applied_text
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.event_words import Advance, SetClock, read_words
from triggerstream.wire.tasksfile.entries import TasksFile
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.keys import NOTE_PREFIX
from triggerstream.wire.tasksfile.nodes import Findings, Node, listed, meant, shown, unknown_key
from triggerstream.wire.tasksfile.tree import Document, plain

TESTS_KEY: Final = "x-tests"
TEST_KEYS: Final = ("name", "events", "commands")
COMMAND_KEYS: Final = ("session", "instance", "kwargs", "run")
_SHAPE: Final = (
    '`{"name": "…", "events": ["42 module1Received score=3"], "commands": [{"instance": "t_report#0"}]}`'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedEvent:
    """An event of a test, in words or as a line of `simulate`; ``applied`` is the tasks file in the line."""

    __test__ = False  # pytest, in a test that imports it

    value: Json
    place: SourceLocation
    applied: AppliedText | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCommand:
    """A command that must be decided; None: any will do."""

    session: SessionId
    instance: str
    kwargs: JsonObject | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTest:
    """A test: the commands that its events decide, in their order."""

    name: str
    place: SourceLocation
    events: tuple[TestedEvent, ...]
    commands: tuple[ExpectedCommand, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MalformedTest:
    """A test that cannot be run, and every mistake in it. ``name`` is empty if it has none."""

    name: str
    place: SourceLocation
    mistakes: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTests:
    """The tests of a file. ``likely``: a name of a file without tests that was perhaps to be ``x-tests``."""

    tests: tuple[FileTest, ...]
    malformed: tuple[MalformedTest, ...] = ()
    likely: str | None = None


def read_tests(text: str | bytes, *, name: str) -> tuple[FileTests, tuple[Finding, ...]]:
    """The tests in ``text``, a tasks file that can be used, and every mistake outside a single test.

    ``name`` is how messages call the file.
    """
    findings = Findings(parse(text))
    reader = _read(findings, name)
    likely = None if reader.found or reader.malformed else reader.likely
    tests = FileTests(tests=tuple(reader.found), malformed=tuple(reader.malformed), likely=likely)
    return tests, tuple(findings.sorted())


def check_tests(file: TasksFile, findings: Findings) -> None:  # noqa: ARG001 - a check of a tasks file
    """Warn of every mistake in the tests of a tasks file. Engines ignore them: the file can be used."""
    found = Findings(findings.document)
    reader = _read(found, "")
    for one in (found, *reader.findings):
        findings.add_warnings_of(one)


def _read(findings: Findings, name: str) -> _Reader:
    document = findings.document
    members = [] if document.root is None else [*Node(document.root, (), findings).members()]
    tasks = [key.text for key, _ in members if not key.text.startswith(("$", NOTE_PREFIX))]
    reader = _Reader(document, name, tasks)
    for key, node in members:
        if key.text == TESTS_KEY:
            reader.tests(node)
        elif key.text.startswith(NOTE_PREFIX) and meant(key.text, [TESTS_KEY]) is not None:
            reader.likely = key.text
    return reader


class _Reader:
    """Reads ``x-tests``. Each test has findings of its own, so that the others can be run."""

    def __init__(self, document: Document, name: str, tasks: Sequence[str]) -> None:
        self.document = document
        self.name = name
        self.tasks = tasks
        self.found: list[FileTest] = []
        self.malformed: list[MalformedTest] = []
        self.findings: list[Findings] = []
        self.likely: str | None = None

    def place(self, at: int) -> SourceLocation:
        line, column = self.document.position(at)
        return SourceLocation(name=self.name, line=line, column=column)

    def tests(self, node: Node) -> None:
        if not node.is_list:
            node.error("wrong-type", f"must be a list of tests, {_SHAPE}, not {node.kind}")
        known: dict[str, Node] = {}
        for shared in node.items():
            item = Node(shared.value, shared.path, Findings(self.document))
            self.findings.append(item.findings)
            test = self.test(item)
            before = item if test is None else known.setdefault(test.name, item)
            if test is not None and before is not item:
                where = item.findings.where(before.at)
                item.error("duplicate-name", f"the test at {where} has the name `{test.name[:80]}`, too")
            if test is not None and not item.findings.errors:
                self.found.append(test)
                self.check_tasks(item, test)
                continue
            name = next((value.text for key, value in item.members() if key.text == "name"), None)
            mistakes = tuple(item.findings.sorted())
            self.malformed.append(
                MalformedTest(name=name or "", place=self.place(item.at), mistakes=mistakes)
            )

    def check_tasks(self, node: Node, test: FileTest) -> None:
        """Warn of instances of tasks that the file does not have, unless the test applies another file."""
        if any(event.applied is not None for event in test.events):
            return
        for key, part in node.members():
            items = [*part.items()] if key.text in {"events", "commands"} else []
            for item in items:
                value = plain(item.value)
                named = _instance_of_event(value) if key.text == "events" else _text(value, "instance")
                parts = None if named is None else split_instance_id(named)
                if parts is not None and parts[0] not in self.tasks:
                    likely = nearest(parts[0], self.tasks)
                    hint = "" if likely is None else f": did you mean `{shown(likely)}`?"
                    item.warn("no-such-task", f"the file has no task `{shown(parts[0])}`{hint}")

    def test(self, node: Node) -> FileTest | None:
        if not node.is_object:
            node.error("wrong-type", f"must be a test, {_SHAPE}, not {node.kind}")
            return None
        values = _members(node, TEST_KEYS, "a test")
        absent = [key for key in TEST_KEYS if key not in values]
        if absent:
            _report_missing(node, absent, TEST_KEYS, f"a test is {_SHAPE}")
            return None
        name = values["name"].text
        if not name:
            values["name"].error("wrong-type", "must be a text that is not empty, the name of the test")
        for key in ("events", "commands"):
            if not values[key].is_list:
                values[key].error("wrong-type", f"must be a list, not {values[key].kind}")
        if values["events"].is_list and not [*values["events"].items()]:
            values["events"].error("wrong-value", "must hold at least one event")
        sessions: dict[SessionId, None] = {}
        events = [self.event(item, sessions) for item in values["events"].items()]
        commands = [self.command(item, list(sessions)) for item in values["commands"].items()]
        return FileTest(
            name=name or "",
            place=self.place(node.at),
            events=tuple(event for event in events if event is not None),
            commands=tuple(command for command in commands if command is not None),
        )

    def event(self, node: Node, sessions: dict[SessionId, None]) -> TestedEvent | None:
        """An event; ``sessions`` gets its session."""
        value = plain(node.value)
        place = self.place(node.at)
        try:
            if isinstance(value, str):
                words = read_words(value)
                if not isinstance(words, Advance | SetClock):
                    sessions.setdefault(SessionId(str(words["session"])))
                return TestedEvent(value=value, place=place)
        except DecodeError as exc:
            node.error("bad-event", f"`{str(value)[:80]}`: {exc}")
            return None
        if not isinstance(value, dict):
            node.error("wrong-type", f"must be an event in words or a line of `simulate`, not {node.kind}")
            return None
        for key, inner in node.members():
            if key.text == "apply":
                return self.applied(value, inner, place)
        for name in ("session", "type"):
            if not isinstance(value.get(name), str) or not value[name]:
                node.error("missing-key", f"`{name}` is missing: an event is an object with a {name}, a text")
                return None
        sessions.setdefault(SessionId(str(value["session"])))
        return TestedEvent(value=value, place=place)

    def applied(self, value: JsonObject, node: Node, place: SourceLocation) -> TestedEvent | None:
        if not node.is_object and node.text is None:
            node.error("wrong-type", f"must be a tasks file, an object or its text, not {node.kind}")
            return None
        applied = applied_text(self.document, node.value, self.place(node.at))
        return TestedEvent(value=value, place=place, applied=applied)

    def command(self, node: Node, sessions: list[SessionId]) -> ExpectedCommand | None:
        if not node.is_object:
            right = '`{"instance": "t_report#0"}`'
            node.error("wrong-type", f"must be the command of an instance, {right}, not {node.kind}")
            return None
        values = _members(node, COMMAND_KEYS, "a command")
        if "instance" not in values:
            right = "the id of an instance, such as `t_report#0`"
            _report_missing(node, ["instance"], COMMAND_KEYS, right)
            return None
        instance = values["instance"]
        if instance.text is None or split_instance_id(instance.text) is None:
            shown = f"`{instance.text[:80]}`" if instance.text else instance.kind
            instance.error("wrong-value", f"must be the id of an instance, such as `t_report#0`, not {shown}")
            return None
        run, kwargs = values.get("run"), values.get("kwargs")
        if run is not None and not run.text:
            run.error("wrong-type", f"must be the registered name of a Celery task, not {run.kind}")
        if kwargs is not None and not kwargs.is_object:
            kwargs.error("wrong-type", f"must be an object of keyword arguments, not {kwargs.kind}")
        session = self.session(node, values.get("session"), sessions)
        arguments = None if kwargs is None else plain(kwargs.value)
        return ExpectedCommand(
            session=session,
            instance=instance.text,
            kwargs=arguments if isinstance(arguments, dict) else None,
            run=None if run is None else run.text,
        )

    def session(self, node: Node, given: Node | None, sessions: list[SessionId]) -> SessionId:
        """The session of a command: the one that all events have, unless the command names it."""
        if given is not None:
            if not given.text:
                given.error("wrong-type", f"must be the id of a session, not {given.kind}")
            return SessionId(given.text or "")
        if len(sessions) > 1:
            names = listed(sessions[:5])
            node.error("missing-key", f"`session` is missing: the events are of several sessions, {names}")
        return sessions[0] if sessions else SessionId("")


def _members(node: Node, known: tuple[str, ...], what: str) -> Mapping[str, Node]:
    values: dict[str, Node] = {}
    for key, value in node.members():
        if key.text in known:
            values[key.text] = value
        else:
            message = unknown_key(key.text, known, f"the keys of {what} are {listed(known)}")
            key.error(node.findings, "unknown-key", message)
    return values


def _report_missing(node: Node, absent: Sequence[str], known: Sequence[str], right: str) -> None:
    """Report keys that are missing, but for those that a misspelt key was meant to be: it is reported."""
    misspelt = {meant(key.text, known) for key, _ in node.members() if key.text not in known}
    for key in absent:
        if key not in misspelt:
            node.error("missing-key", f"`{key}` is missing: {right}")


def _instance_of_event(value: Json) -> str | None:
    """The instance that an event, in words or as an object, is about; None if it is about none."""
    words = read_words(value) if isinstance(value, str) else value
    if not isinstance(words, dict) or not str(words.get("type")).startswith(ENGINE_PREFIX):
        return None
    return _text(words.get("data"), "instance")


def _text(value: Json, key: str) -> str | None:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None
