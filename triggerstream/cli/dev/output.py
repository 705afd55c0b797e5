"""Output of `dev`: lines for people, or JSON lines for programs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

from triggerstream.cli.findings import finding_fields, finding_line
from triggerstream.cli.printing import Styled, brief, count_of, json_line, print_line, without_passwords
from triggerstream.core.errors import ConfigError, Finding, describe_error
from triggerstream.core.ids import Json, JsonObject
from triggerstream.engine.logfacts import facts_of
from triggerstream.engine.loglimit import LibraryLimit

_COLOURS = {
    "decided": "cyan",
    "started": "blue",
    "finished": "green",
    "failed": "red",
    "dead letter": "red",
    "retried": "yellow",
    "revoked": "yellow",
}


class DevOutput(Protocol):
    """The output of `dev`."""

    def write_event(self, event: JsonObject) -> None:
        """Write a decision, an outcome or a dead letter."""

    def write_line(self, source: str, line: str) -> None:
        """Write a line of the worker, the broker or the engine's log."""

    def write_ready(self, ready: JsonObject) -> None:
        """Write that all processes run."""

    def write_applied(self, file: Path, tasks: int) -> None:
        """Write that a changed tasks file is in force."""

    def write_restored(self, file: Path, tasks: int) -> None:
        """Write that a tasks file that was refused again has the text that is in force."""

    def write_warnings(self, file: Path, warnings: Sequence[Finding]) -> None:
        """Write what is doubtful about a tasks file in force, if anything is."""

    def write_refused(self, file: Path, error: Exception) -> None:
        """Write why a changed tasks file cannot be used."""


class PlainOutput:
    """Lines for people."""

    def write_event(self, event: JsonObject) -> None:
        """One line with time, session, instance and event."""
        kind = str(event["event"])
        if kind == "sum":
            counted = (("events", "event"), ("decided", "decision"), ("deadLetters", "dead letter"))
            print_line("… " + ", ".join(count_of(cast("int", event[field]), noun) for field, noun in counted))
            return
        print_line(
            Styled(text=_clock(event.get("time")), dim=True),
            f"  {event.get('session') or '-'}  {event.get('instance', '')}  ",
            Styled(text=kind, colour=_COLOURS.get(kind), bold=kind in {"failed", "dead letter"}),
            _details(kind, event),
        )

    def write_line(self, source: str, line: str) -> None:
        """The line, after its source."""
        if line.strip():
            print_line(Styled(text=f"{source:<6} │ ", dim=True), without_passwords(line))

    def write_ready(self, ready: JsonObject) -> None:
        """The running processes, their addresses, and the next steps."""
        print_line(Styled(text="triggerstream dev", bold=True))
        tasks = count_of(cast("int", ready["count"]), "task")
        print_line(f"  tasks    {ready['tasks']} ({tasks}), applied when it changes")
        print_line(f"  state    {ready['directory']}")
        print_line(f"  intake   {ready['url']}")
        print_line(f"  pages    {ready['url']}/")
        if ready["celery"] is None:
            print_line("  worker   none: decisions are kept until there is one (--celery module:app)")
        else:
            broker = (
                "a Valkey server that dev started" if ready["ownBroker"] else "from the app's configuration"
            )
            if ready["broker"] and not ready["ownBroker"]:
                broker = without_passwords(str(ready["broker"]))
            print_line(f"  worker   {ready['celery']}, broker: {broker}")
        print_line(f"  try      {ready['try']}")
        print_line("Press Ctrl-C to stop dev and all its processes.")
        print_line()

    def write_applied(self, file: Path, tasks: int) -> None:
        """One line."""
        print_line(Styled(text=f"{file}: applied ({count_of(tasks, 'task')})", colour="green"))

    def write_restored(self, file: Path, tasks: int) -> None:
        """One line."""
        says = f"{file}: usable again, as it was applied before ({count_of(tasks, 'task')})"
        print_line(Styled(text=says, colour="green"))

    def write_warnings(self, file: Path, warnings: Sequence[Finding]) -> None:
        """One line for each, as `config check` prints it."""
        for finding in warnings:
            print_line(*finding_line(str(file), finding), err=True)

    def write_refused(self, file: Path, error: Exception) -> None:
        """One line for every finding, as `config check` prints it, and one that nothing has changed."""
        print_findings(error)
        print_line(f"{file}: nothing has changed; the file that was applied before stays in force", err=True)


class JsonOutput:
    """JSON lines on standard output; lines of other sources on standard error."""

    def write_event(self, event: JsonObject) -> None:
        """The object itself."""
        json_line(event)

    def write_line(self, source: str, line: str) -> None:
        """The line on standard error, after its source."""
        print_line(f"{source}: {without_passwords(line)}", err=True)

    def write_ready(self, ready: JsonObject) -> None:
        """The addresses."""
        json_line({"event": "ready", **{name: value for name, value in ready.items() if name != "try"}})

    def write_applied(self, file: Path, tasks: int) -> None:
        """The file and its number of tasks."""
        json_line({"event": "applied", "file": str(file), "tasks": tasks})

    def write_restored(self, file: Path, tasks: int) -> None:
        """The file and its number of tasks."""
        json_line({"event": "restored", "file": str(file), "tasks": tasks})

    def write_warnings(self, file: Path, warnings: Sequence[Finding]) -> None:
        """The file and each of them, as `config check --json` prints it."""
        if warnings:
            found: list[Json] = [finding_fields(str(file), finding) for finding in warnings]
            json_line({"event": "warnings", "file": str(file), "findings": found})

    def write_refused(self, file: Path, error: Exception) -> None:
        """The file and every finding, as `config check --json` prints it; or why it cannot be read."""
        refused: JsonObject = {"event": "refused", "file": str(file)}
        if isinstance(error, ConfigError):
            refused["findings"] = [finding_fields(error.name, finding) for finding in error.findings]
        else:
            refused |= {"findings": [], "error": str(error)}
        json_line(refused)


def print_findings(error: Exception) -> None:
    """Print on standard error one line for every finding of a tasks file, or why it cannot be read."""
    if not isinstance(error, ConfigError):
        print_line(str(error), err=True)
        return
    for finding in error.findings:
        print_line(*finding_line(error.name, finding), err=True)


class LogLines(logging.Handler):
    """Log handler that writes each record as one line: the message, then its facts.

    ``write_line`` gets the level and the line. The number of lines from libraries is limited.
    """

    def __init__(self, write_line: Callable[[str, str], None]) -> None:
        super().__init__(level=logging.WARNING)
        self.addFilter(LibraryLimit())
        self._write_line = write_line

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; an exception adds its message, and its type unless it is one of ours."""
        cause = record.exc_info[1] if record.exc_info else None
        error = f": {describe_error(cause)}" if cause is not None else ""
        first = record.getMessage().partition("\n")[0]
        self._write_line(record.levelname, f"{first}{error}{facts_of(record)}")


def _clock(instant: Json) -> str:
    """The time of day of an RFC 3339 instant, UTC."""
    return str(instant)[11:19] if isinstance(instant, str) else " " * 8


def _details(kind: str, event: JsonObject) -> str:
    because = event.get("because")
    match kind:
        case "decided":
            names = ", ".join(str(name) for name in because) if isinstance(because, list) else ""
            again = f" (attempt {event['attempt']})" if "attempt" in event else ""
            return f" to run {event['run']}{again}" + (f": {names} arrived" if names else "")
        case "finished":
            return f" {brief(event.get('result'))}"
        case "failed":
            return f": {event['error']}"
        case "retried":
            return f" in {event['after']:g} s" if isinstance(event.get("after"), float) else ""
        case "dead letter":
            return f" offset {event['offset']}: {event['reason']}"
        case _:
            return ""
