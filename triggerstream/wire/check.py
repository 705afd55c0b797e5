"""A tasks file to a configuration, with all that is wrong or doubtful about it."""

from __future__ import annotations

from hashlib import sha256

from triggerstream.core.errors import ConfigError, Finding
from triggerstream.core.ids import ConfigHash
from triggerstream.core.tasks import Configuration
from triggerstream.wire.jsonc import parse
from triggerstream.wire.spots import Findings
from triggerstream.wire.taskrules import check_rules
from triggerstream.wire.tasksfile import TasksFile, read_tasks


def check(text: str | bytes, *, name: str) -> tuple[Configuration | None, tuple[Finding, ...]]:
    """What a tasks file says, and every finding in the order of the file.

    The configuration is None where a finding is an error. ``name`` is how messages call the file.
    """
    document = parse(text)
    findings = Findings(document)
    file = TasksFile()
    if document.root is not None:
        file = read_tasks(document.root, findings, name=name)
        check_rules(file.entries, findings)
    found = sorted((*document.findings, *findings.sorted()), key=lambda f: (f.line, f.column))
    if document.findings or findings.errors:
        return None, tuple(found)
    tasks = tuple(entry.task for entry in file.entries if entry.task is not None)
    source = document.text
    config = Configuration(
        hash=ConfigHash(sha256(source.encode()).hexdigest()), text=source, tasks=tasks, bounds=file.bounds
    )
    return config, tuple(found)


def read(text: str | bytes, *, name: str) -> Configuration:
    """The configuration that a tasks file says.

    Raises:
        ConfigError: there is at least one error; it carries every finding. Nothing else is raised.
    """
    config, findings = check(text, name=name)
    if config is None:
        raise ConfigError(name, findings)
    return config
