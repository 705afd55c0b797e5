"""Output of `dev`: lines for people, or JSON lines for programs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from triggerstream.cli.printing import Styled, brief, json_line, say
from triggerstream.core.errors import ConfigError
from triggerstream.core.ids import Json, JsonObject
from triggerstream.engine.loglimit import LibraryLimit

_SECRET = re.compile(r"(://[^:/@]*):[^@/]*@")


def _hidden(line: str) -> str:
    """``line`` without the passwords of URLs."""
    return _SECRET.sub(r"\1:…@", line)


_COLOURS = {
    "decided": "cyan",
    "started": "blue",
    "finished": "green",
    "failed": "red",
    "dead letter": "red",
    "retried": "yellow",
    "revoked": "yellow",
}


class Voice(Protocol):
    """The output of `dev`."""

    def tell(self, said: JsonObject) -> None:
        """A decision, an outcome, a dead letter."""

    def aside(self, who: str, line: str) -> None:
        """A line of the worker, the broker, the engine's log."""

    def ready(self, ready: JsonObject) -> None:
        """Everything runs."""

    def applied(self, file: Path, tasks: int) -> None:
        """A changed tasks file is in force."""

    def refused(self, file: Path, error: Exception) -> None:
        """A changed tasks file cannot be used."""


class PlainVoice:
    """Lines for people."""

    def tell(self, said: JsonObject) -> None:
        """One line: when, which session, which instance, what."""
        kind = str(said["event"])
        if kind == "sum":
            say(f"… {said['events']} events, {said['decided']} decisions, {said['deadLetters']} dead letters")
            return
        say(
            Styled(text=_clock(said.get("time")), dim=True),
            f"  {said.get('session') or '-'}  {said.get('instance', '')}  ",
            Styled(text=kind, colour=_COLOURS.get(kind), bold=kind in {"failed", "dead letter"}),
            _more(kind, said),
        )

    def aside(self, who: str, line: str) -> None:
        """The line, with its source."""
        if line.strip():
            say(Styled(text=f"{who:<6} │ ", dim=True), _hidden(line))

    def ready(self, ready: JsonObject) -> None:
        """The running processes, their addresses, and the next steps."""
        say(Styled(text="triggerstream dev", bold=True))
        say(f"  tasks    {ready['tasks']} ({_count(ready['count'], 'task')}), applied when it changes")
        say(f"  state    {ready['directory']}")
        say(f"  intake   {ready['url']}")
        say(f"  pages    {ready['url']}/")
        if ready["celery"] is None:
            say("  worker   none: decisions are kept until there is one (--celery module:app)")
        else:
            broker = "a Valkey of its own" if ready["ownBroker"] else "its own configuration"
            if ready["broker"] and not ready["ownBroker"]:
                broker = _hidden(str(ready["broker"]))
            say(f"  worker   {ready['celery']}, broker: {broker}")
        say(f"  try      {ready['try']}")
        say("Ctrl-C ends it, and all that it started.")
        say()

    def applied(self, file: Path, tasks: int) -> None:
        """One line."""
        say(Styled(text=f"{file}: applied ({_count(tasks, 'task')})", colour="green"))

    def refused(self, file: Path, error: Exception) -> None:
        """Every finding, a line each, and that nothing has changed."""
        for line in findings(error):
            say(Styled(text=line, colour="red"), err=True)
        say(f"{file}: nothing has changed; the file that was applied before stays in force", err=True)


class JsonVoice:
    """JSON lines; what is not triggerstream's own goes to stderr as it is."""

    def tell(self, said: JsonObject) -> None:
        """The object itself."""
        json_line(said)

    def aside(self, who: str, line: str) -> None:
        """To stderr."""
        say(f"{who}: {_hidden(line)}", err=True)

    def ready(self, ready: JsonObject) -> None:
        """The addresses."""
        json_line({"event": "ready", **{name: value for name, value in ready.items() if name != "try"}})

    def applied(self, file: Path, tasks: int) -> None:
        """The file and its number of tasks."""
        json_line({"event": "applied", "file": str(file), "tasks": tasks})

    def refused(self, file: Path, error: Exception) -> None:
        """The file and every finding."""
        json_line({"event": "refused", "file": str(file), "findings": list(findings(error))})


def findings(error: Exception) -> list[str]:
    """Every finding of a tasks file, a line each."""
    if isinstance(error, ConfigError):
        return [f"{error.name}:{finding}" for finding in error.findings if finding.severity == "error"]
    return [str(error)]


class LogLines(logging.Handler):
    """Log records as lines: the message, then its fields; of libraries, a bounded number."""

    def __init__(self, aside: Callable[[str, str], None]) -> None:
        super().__init__(level=logging.WARNING)
        self.addFilter(LibraryLimit())
        self._aside = aside

    def emit(self, record: logging.LogRecord) -> None:
        """One line; of an exception its last line."""
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        cause = record.exc_info[1] if record.exc_info else None
        error = f": {type(cause).__name__}: {cause}" if cause is not None else ""
        first = record.getMessage().partition("\n")[0]
        self._aside("engine", f"{first}{error}{f' ({said})' if said else ''}")


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _clock(instant: Json) -> str:
    """The time of day of an RFC 3339 instant, UTC."""
    return str(instant)[11:19] if isinstance(instant, str) else " " * 8


def _count(number: Json, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _more(kind: str, said: JsonObject) -> str:
    because = said.get("because")
    match kind:
        case "decided":
            names = ", ".join(str(name) for name in because) if isinstance(because, list) else ""
            again = f" (attempt {said['attempt']})" if "attempt" in said else ""
            return (
                f" to run {said['run']}{again}: {names} arrived" if names else f" to run {said['run']}{again}"
            )
        case "finished":
            return f" {brief(said.get('result'))}"
        case "failed":
            return f": {said['error']}"
        case "retried":
            return f" in {said['after']:g} s" if isinstance(said.get("after"), float) else ""
        case "dead letter":
            return f" offset {said['offset']}: {said['reason']}"
        case _:
            return ""
