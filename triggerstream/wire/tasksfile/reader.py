"""The tasks file: text to configuration, with all that is wrong or doubtful about it, and back.

``schemas/tasks.schema.json`` is the published form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TypeAlias

from triggerstream.core.errors import ConfigError, Finding
from triggerstream.core.ids import ConfigHash, JsonObject
from triggerstream.core.tasks import Bounds, Configuration, Retry, Task
from triggerstream.wire.bounds import CONFIG_BYTES
from triggerstream.wire.durations import format_duration
from triggerstream.wire.tasksfile.jsonc import parse
from triggerstream.wire.tasksfile.keys import BOUND_KEYS, NOTE_PREFIX, TasksFile, read_tasks
from triggerstream.wire.tasksfile.names import check_names
from triggerstream.wire.tasksfile.nodes import Findings
from triggerstream.wire.tasksfile.rules import check_rules
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
    return _check(text, name, (_rules, check_names), (check_workable, *further))


def _rules(file: TasksFile, findings: Findings) -> None:
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


def encode(config: Configuration) -> str:
    """A tasks file with the tasks and bounds of ``config``; reading it gives equal ones.

    Comments, ``$schema`` and notes between the tasks are no part of the tasks: ``config.text`` has them.
    """
    top: JsonObject = {}
    if any(not key.startswith(NOTE_PREFIX) for task in config.tasks for key in task.extras):
        top["$extras"] = "keep"
    standard = Bounds()
    bounds: JsonObject = {
        key: getattr(config.bounds, bound)
        for key, bound in BOUND_KEYS.items()
        if getattr(config.bounds, bound) != getattr(standard, bound)
    }
    if bounds:
        top["$bounds"] = bounds
    for task in config.tasks:
        top[task.name] = _encode_task(task)
    return json.dumps(top, ensure_ascii=False, indent=2) + "\n"


def _encode_task(task: Task) -> JsonObject:
    out: JsonObject = {"after": list(task.needs), "run": task.run}
    if task.unless is not None:
        out["unless"] = list(task.unless_triggers)
    if task.and_every is not None:
        out["andEvery"] = task.and_every
    if task.with_params:
        out["withParams"] = task.with_params
    if task.retry is not None:
        out["retry"] = _encode_retry(task.retry)
    if task.queue is not None:
        out["queue"] = task.queue
    if task.expires_us is not None:
        out["expires"] = format_duration(task.expires_us)
    return out | task.extras


def _encode_retry(retry: Retry) -> JsonObject:
    out: JsonObject = {"max": retry.max}
    if retry.backoff_us:
        out["backoff"] = format_duration(retry.backoff_us)
    if retry.factor != 1:
        out["factor"] = retry.factor
    if retry.max_backoff_us is not None:
        out["maxBackoff"] = format_duration(retry.max_backoff_us)
    return out
