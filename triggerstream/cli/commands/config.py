"""`triggerstream config`: check, apply, show and compare tasks files, and print their schema."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triggerstream.cli.findings import finding_fields, finding_line
from triggerstream.cli.opening import administered, existing, reading, run, viewing
from triggerstream.cli.options import at_option, json_option, kafka_at_option, seen_at_option
from triggerstream.cli.printing import Styled, count_of, json_line, print_line, print_lines
from triggerstream.core import advice
from triggerstream.core.errors import Finding, UsageError
from triggerstream.core.ids import TriggerName
from triggerstream.core.printable import escape
from triggerstream.core.tasks import NO_CONFIGURATION, Configuration
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.rows import ConfigurationText
from triggerstream.wire.instants import format_instant
from triggerstream.wire.tasksfile import Check, check, check_seen
from triggerstream.wire.xtests import check_tests

if TYPE_CHECKING:
    from triggerstream.engine.operations.administration import Administration, Change

_STANDARD_INPUT = "-"
_LINE_END = re.compile("\r\n|\n|\r")
_EXCERPT = 100
"""Characters of a source line that are shown: a file may be one long line."""
_SHORT = 12
"""Characters of a hash that people compare."""
_DIFF_COLOURS = {"+": "green", "-": "red"}


@click.group()
def config() -> None:
    """Check, apply, show and compare tasks files."""


@config.command("apply")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--yes",
    "agreed",
    is_flag=True,
    help="Apply it whatever it decides, abandons or cancels at once; nothing is counted.",
)
@kafka_at_option
@json_option
def apply_file(*, file: Path, agreed: bool, at: str | None, as_json: bool) -> None:
    """Apply FILE to all sessions from now on, in every partition or in none.

    If FILE would decide, abandon or cancel instances of existing sessions at once, a terminal is asked;
    without one, FILE is not applied unless --yes is given. `config diff` shows what it would do.
    """
    from triggerstream.cli.tasks_file import load

    why = f"{advice.dev_applies(str(file))}. Only an app in Kafka takes a file by `config apply`"
    administration = administered(at, why)
    found = load(file)
    change = run(_apply(administration, file, found, agreed=agreed, as_json=as_json))
    if as_json:
        json_line(
            {
                "hash": found.hash,
                "number": None if change is None else change.number,
                "applied": change is not None,
                "replaced": None if change is None else change.replaced,
                "offsets": {} if change is None else {str(p): o for p, o in sorted(change.offsets.items())},
            }
        )
    elif change is None:
        print_line(f"{file}: is in force already ({found.hash[:_SHORT]})")
    else:
        before = "" if change.replaced is None else f" in place of {change.replaced[:_SHORT]}"
        print_line(f"{file}: applied ({count_of(len(found.tasks), 'task')}, {found.hash[:_SHORT]}{before})")


async def _apply(
    administration: Administration, file: Path, new: Configuration, *, agreed: bool, as_json: bool
) -> Change | None:
    """Apply ``new``, with consent if it would do what cannot be taken back; None: it is in force already.

    Raises:
        UsageError: there is no consent. Nothing has changed.
    """
    if not agreed:
        from triggerstream.cli.change_lines import count_change, describe_final, show_change

        current = await administration.in_force()
        counting = await count_change(_parsed(current), new, administration.address)
        if counting.change is None or counting.change.is_final:
            if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
                what = (
                    f"it is not known what it would do to sessions ({counting.problem})"
                    if counting.change is None
                    else f"would have {describe_final(counting.change)} at once"
                )
                how = advice.show_consequences(str(file), administration.address)
                raise UsageError(f"{file}: {what}; nothing was applied: {how}")
            show_change(counting)
            if not click.confirm(f"Apply {escape(str(file))}?"):
                print_line(f"{file}: nothing was applied")
                raise click.exceptions.Exit(1)
            if _hash_of(await administration.in_force()) != _hash_of(current):
                raise UsageError(
                    f"another tasks file came into force; {file} was not applied: apply it again"
                )
    return await administration.apply(new)


def _parsed(
    current: ConfigurationText | None, configurations: ConfigurationCache | None = None
) -> Configuration:
    """The configuration in force."""
    if current is None:
        return NO_CONFIGURATION
    return (configurations or ConfigurationCache()).read(current.text, name="configuration in force")


def _hash_of(current: ConfigurationText | None) -> str | None:
    return None if current is None else current.hash


@config.command()
@at_option
@json_option
def show(*, at: str, as_json: bool) -> None:
    """Show the tasks file in force. The exit status is 1 if none is."""
    current = run(_in_force(at))
    if current is None:
        _none(at)
        sys.exit(1)
    if as_json:
        json_line(
            {
                "hash": current.hash,
                "number": current.number,
                "offset": current.offset,
                "time": format_instant(current.arrival_us),
                "text": current.text,
            }
        )
    else:
        print_lines(current.text)


@config.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--without-counts", is_flag=True, help="Do not count what would happen to sessions.")
@at_option
@json_option
def diff(*, file: Path, without_counts: bool, at: str, as_json: bool) -> None:
    """Show what would change if FILE were applied. The exit status is 1 if anything would.

    Counts, by task, the waiting instances of existing sessions that FILE touches, and those that it would
    begin, decide, abandon or cancel at once. This reads every session; FILE is not applied.
    """
    from triggerstream.cli.change_lines import change_fields, count_change, show_change
    from triggerstream.cli.tasks_file import load

    configurations = ConfigurationCache()
    new = load(file, configurations)
    current = run(_in_force(at))
    old = _parsed(current, configurations)
    counting = None if without_counts else run(count_change(old, new, at))
    added = [name for name in new.by_name if name not in old.by_name]
    removed = [name for name in old.by_name if name not in new.by_name]
    changed = [name for name, task in new.by_name.items() if old.by_name.get(name, task) != task]
    if as_json:
        json_line(
            {
                "inForce": old.hash or None,
                "file": new.hash,
                "added": [*added],
                "removed": [*removed],
                "changed": [*changed],
                **({} if counting is None else change_fields(counting)),
            }
        )
    else:
        lines = unified_diff(
            old.text.splitlines() if current is not None else [],
            new.text.splitlines(),
            f"in force ({old.hash[:_SHORT] or 'nothing'})",
            f"{file} ({new.hash[:_SHORT]})",
            lineterm="",
        )
        for line in lines:
            print_line(Styled(text=line.replace("\t", "    "), colour=_DIFF_COLOURS.get(line[:1])))
        tasks = [
            f"{count_of(len(names), 'task')} {what}: {', '.join(names)}"
            for names, what in ((added, "added"), (removed, "removed"), (changed, "changed"))
            if names
        ]
        same = "nothing would change" if old.hash == new.hash else "no task would change"
        print_line("; ".join(tasks) or same)
        if counting is not None and old.hash != new.hash:
            show_change(counting)
    sys.exit(0 if old.hash == new.hash else 1)


@config.command()
def schema() -> None:
    """Print the JSON schema of the tasks file, with which an editor explains and completes its keys."""
    from triggerstream.cli.tasks_file import schema_text

    print_lines(schema_text())


async def _in_force(at: str) -> ConfigurationText | None:
    from triggerstream import bootstrap

    address = existing(at)
    if address.administered:
        return await bootstrap.administration(address).in_force()
    async with reading(at) as reader:
        found = await reader.configurations()
    return found[-1] if found else None


def _none(at: str) -> None:
    how = advice.apply_first_file(at, kafka=existing(at).administered)
    print_line(f"{at}: no tasks file is in force yet: {how}", err=True)


@config.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Count warnings like errors.")
@click.option(
    "--celery",
    metavar="MODULE:APP",
    multiple=True,
    help="A Celery app: each `run` must be one of its tasks, which must take the arguments. May be repeated.",
)
@seen_at_option
@json_option
def check_files(
    *, files: tuple[str, ...], strict: bool, celery: tuple[str, ...], at: str | None, as_json: bool
) -> None:
    """Report every error and warning about each FILE (- reads standard input).

    Exits with 0 if every file is usable, 1 if a finding counts, 2 if a file cannot be read. With --at, it
    warns of triggers that no session kept there has seen, too. Mistakes in `x-tests` are warnings, because
    engines ignore them.
    """
    further: list[Check] = [check_tests]
    if celery:
        from triggerstream.cli.dev.celery_app import executor_check, load_app

        further.append(executor_check([(spec, load_app(spec)) for spec in celery], severity="error"))
    if at is not None:
        count, seen = run(_seen(at))
        if count:
            further.append(partial(check_seen, seen=seen, at=at))
        else:
            print_line(f"{at}: keeps no session with which triggers can be compared", err=True)
    status = 0
    for name in files:
        try:
            data = sys.stdin.buffer.read() if name == _STANDARD_INPUT else Path(name).read_bytes()
        except OSError as exc:
            print_line(f"{name}: cannot be read: {exc.strerror}", err=True)
            status = 2
            continue
        found, findings = check(data, name=name, further=further)
        if any(strict or finding.severity == "error" for finding in findings):
            status = max(status, 1)
        if as_json:
            for finding in findings:
                json_line(finding_fields(name, finding))
        else:
            _print_findings(name, data, findings)
            print_line(_summary(name, found, findings))
    sys.exit(status)


async def _seen(at: str) -> tuple[int, set[TriggerName]]:
    async with viewing(at) as view:
        return await view.seen()


def _print_findings(name: str, data: bytes, findings: Sequence[Finding]) -> None:
    """One line each, so that they can be searched; on a terminal with the source line below."""
    lines = _LINE_END.split(data.decode("utf-8-sig", errors="replace")) if sys.stdout.isatty() else []
    for finding in findings:
        print_line(*finding_line(name, finding))
        if finding.line <= len(lines):
            for shown in excerpt(lines[finding.line - 1], finding.column):
                print_line(shown)


def excerpt(line: str, column: int) -> tuple[str, str]:
    """The part of a source line around ``column``, with a caret under it."""
    start = max(column - 1 - _EXCERPT // 2, 0) if len(line) > _EXCERPT else 0
    shown = line[start : start + _EXCERPT].replace("\t", " ")
    before = escape(shown[: column - 1 - start])
    return f"    {shown}", f"    {' ' * len(before)}^"


def _summary(name: str, found: Configuration | None, findings: Sequence[Finding]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    counts = [
        count_of(count, noun)
        for count, noun in ((errors, "error"), (len(findings) - errors, "warning"))
        if count
    ]
    tasks = "not usable" if found is None else f"usable, {count_of(len(found.tasks), 'task')}"
    return f"{name}: {tasks}: {', '.join(counts) or 'no problems found'}"
