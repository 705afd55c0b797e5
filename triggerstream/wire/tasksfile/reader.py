"""Reads the tasks file: text to configuration, with all that is wrong or doubtful about it.

``schemas/tasks.schema.json`` is the published form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TypeAlias

from triggerstream.core.errors import ConfigError, Finding
from triggerstream.core.ids import ConfigHash
from triggerstream.core.tasks import Configuration
from triggerstream.wire.bounds import CONFIG_BYTES
from triggerstream.wire.tasksfile.entries import TasksFile
from triggerstream.wire.tasksfile.finishes import check_finishes
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.keys import read_tasks
from triggerstream.wire.tasksfile.names import check_names
from triggerstream.wire.tasksfile.nodes import Findings
from triggerstream.wire.tasksfile.rings import check_rings
from triggerstream.wire.tasksfile.rules import check_rules
from triggerstream.wire.tasksfile.timeouts import check_timeout_names, check_timeouts
from triggerstream.wire.tasksfile.workable import check_workable

_EVENT_BYTES = 1_024
"""The most bytes that the event of a configuration has beside the file's text."""


Check: TypeAlias = Callable[[TasksFile, Findings], None]
"""Adds findings about the tasks of a file."""


def check(
    text: str | bytes, *, name: str, further: Iterable[Check] = ()
) -> tuple[Configuration | None, tuple[Finding, ...]]:
    """A tasks file that was read, and every finding in the order of the file.

    The configuration is None where a finding is an error. ``name`` is how messages call the file. ``further``
    checks compare the tasks with what is outside of the file.
    """
    return _check(text, name, (_rules, check_timeouts, check_names), (check_workable, *further))


def _rules(file: TasksFile, findings: Findings) -> None:
    check_timeout_names(file.entries, findings)
    check_rings(file.entries, findings)
    check_finishes(file.entries, findings)
    check_rules(file.entries, findings)


def _check(
    text: str | bytes, name: str, checks: Iterable[Check], of_whole: Iterable[Check] = ()
) -> tuple[Configuration | None, tuple[Finding, ...]]:
    document = parse(text)
    findings = Findings(document)
    file = TasksFile()
    if document.root is not None:
        file = read_tasks(document.root, findings, name=name)
        # A text with a mistake may be misread.
        for add_findings in checks if document.findings else (*checks, *of_whole):
            add_findings(file, findings)
    found = sorted((*document.findings, *findings.sorted()), key=lambda f: (f.line, f.column))
    # The event that brings a file into force holds its text as a JSON string.
    quoted = json.dumps(document.text, ensure_ascii=False).encode(errors="replace")
    if (length := len(quoted) + _EVENT_BYTES) > CONFIG_BYTES:
        message = f"the file has {length:,} bytes as an event: at most {CONFIG_BYTES:,} can be applied"
        found.append(Finding(severity="error", code="too-long", line=1, column=1, path="", message=message))
        return None, tuple(found)
    if document.findings or findings.errors:
        return None, tuple(found)
    tasks = tuple(entry.task for entry in file.entries if entry.task is not None)
    source = document.text
    config = Configuration(
        hash=ConfigHash(sha256(source.encode()).hexdigest()), text=source, tasks=tasks, bounds=file.bounds
    )
    return config, tuple(found)


def read(text: str | bytes, *, name: str) -> Configuration:
    """The configuration of a tasks file that is in force: :func:`check` finds more errors in a new one.

    Raises:
        ConfigError: there is at least one error; it carries every finding. Nothing else is raised.
    """
    # Every process that reads a file comes here: warnings that take long are only for people.
    config, _ = _check(text, name, (_rules,))
    if config is None:
        raise ConfigError(name, check(text, name=name)[1])
    return config
