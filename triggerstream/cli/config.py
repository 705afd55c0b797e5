"""`triggerstream config`: tasks files before they are applied."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from triggerstream.cli.options import json_option
from triggerstream.cli.printing import json_line, plain
from triggerstream.core.errors import Finding
from triggerstream.core.tasks import Configuration
from triggerstream.wire.tasksfile import check

_STANDARD_INPUT = "-"
_LINE_END = re.compile("\r\n|\n|\r")
_EXCERPT = 100
"""Characters of a source line that are shown: a file may be one long line."""
_COLOURS = {"error": "red", "warning": "yellow"}


@click.group()
def config() -> None:
    """Check tasks files."""


@config.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Let warnings count like errors.")
@json_option
def check_files(*, files: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Find all that is wrong or doubtful in each FILE (- reads standard input).

    Exits with 0 if every file is usable, 1 if a finding counts, 2 if a file cannot be read.
    """
    status = 0
    for name in files:
        try:
            data = sys.stdin.buffer.read() if name == _STANDARD_INPUT else Path(name).read_bytes()
        except OSError as exc:
            click.echo(plain(f"{name}: cannot be read: {exc.strerror}"), err=True)
            status = 2
            continue
        found, findings = check(data, name=name)
        if any(strict or finding.severity == "error" for finding in findings):
            status = max(status, 1)
        if as_json:
            for finding in findings:
                _print_json(name, finding)
        else:
            _print_findings(name, data, findings)
            click.echo(_summary(name, found, findings))
    sys.exit(status)


def _print_json(name: str, finding: Finding) -> None:
    json_line(
        {
            "file": name,
            "line": finding.line,
            "column": finding.column,
            "path": finding.path,
            "severity": finding.severity,
            "code": finding.code,
            "message": finding.message,
        }
    )


def _print_findings(name: str, data: bytes, findings: Sequence[Finding]) -> None:
    """One line each, so that they can be searched; on a terminal with the place in the file beneath."""
    lines = _LINE_END.split(data.decode("utf-8-sig", errors="replace")) if sys.stdout.isatty() else []
    for finding in findings:
        severity = click.style(finding.severity, fg=_COLOURS[finding.severity], bold=True)
        code = click.style(f"[{finding.code}]", dim=True)
        place = f"{finding.path}: " if finding.path else ""
        where = plain(f"{name}:{finding.line}:{finding.column}")
        click.echo(f"{where}: {severity}: {plain(place + finding.message)} {code}")
        if finding.line <= len(lines):
            click.echo(excerpt(lines[finding.line - 1], finding.column))


def excerpt(line: str, column: int) -> str:
    """The part of a source line around ``column``, with a caret under it."""
    start = max(column - 1 - _EXCERPT // 2, 0) if len(line) > _EXCERPT else 0
    shown = line[start : start + _EXCERPT].replace("\t", " ")
    return f"    {plain(shown)}\n    {' ' * (column - 1 - start)}^"


def _summary(name: str, found: Configuration | None, findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    counts = [
        _count(count, noun)
        for count, noun in ((errors, "error"), (len(findings) - errors, "warning"))
        if count
    ]
    tasks = "not usable" if found is None else f"usable, {_count(len(found.tasks), 'task')}"
    return plain(f"{name}: {tasks}: {', '.join(counts) or 'nothing to complain of'}")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
