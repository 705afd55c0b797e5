"""Compares a tasks file with the tasks that an executor has: their names, and what their functions take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from triggerstream.core.similar_names import nearest
from triggerstream.wire.tasksfile.entries import Entry, TasksFile
from triggerstream.wire.tasksfile.logic import required
from triggerstream.wire.tasksfile.nodes import Findings, LocatedName, listed, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The keyword arguments of a function. ``any``: it takes or ignores all others too."""

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    any: bool = False

    @classmethod
    def of(cls, signature: inspect.Signature, *, any_: bool = False) -> Parameters:
        """Parameters of a function; ``any_``: arguments that it does not name are left out of its call."""
        named = [
            one
            for one in signature.parameters.values()
            if one.kind in {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        ]
        return cls(
            names=frozenset(one.name for one in named),
            required=frozenset(one.name for one in named if one.default is inspect.Parameter.empty),
            any=any_
            or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values()),
        )


def check_executor(
    file: TasksFile,
    findings: Findings,
    *,
    tasks: Mapping[str, Parameters | None],
    where: str,
    severity: Literal["error", "warning"] = "error",
) -> None:
    """Report each ``run`` that is not among ``tasks``, and arguments that its function refuses or lacks.

    ``where`` names the app or apps in messages. A task without parameters (None) is not looked into.
    """

    def report(at: LocatedName, code: str, message: str) -> None:
        findings.add(code, at.at, at.path, message, severity=severity)

    for entry in file.entries:
        if entry.run is None:
            continue
        if entry.run.text not in tasks:
            likely = nearest(entry.run.text, tasks)
            hint = "" if likely is None else f": did you mean `{shown(likely)}`?"
            report(entry.run, "unknown-task", f"there is no task `{shown(entry.run.text)}` in {where}{hint}")
            continue
        parameters = tasks[entry.run.text]
        if parameters is None or not entry.clear:
            continue
        given = _arguments(entry)
        certain = _certain_arguments(entry)
        lacking = sorted(parameters.required - given.keys())
        uncertain = sorted(parameters.required & given.keys() - certain)
        for name, at in given.items():
            if parameters.any or name in parameters.names:
                continue
            likely = nearest(name, lacking or parameters.names)
            hint = f"did you mean `{shown(likely)}`?" if likely else "add the parameter, or `**triggers`"
            message = f"`{shown(entry.run.text)}` takes no argument `{shown(name)}`: {hint}"
            report(at, "unexpected-argument", message)
        if lacking:
            message = (
                f"`{shown(entry.run.text)}` needs {listed(lacking)}, which neither a trigger of this task "
                "nor `withParams` brings"
            )
            report(entry.run, "missing-argument", message)
        if uncertain:
            message = (
                f"`{shown(entry.run.text)}` needs {listed(uncertain)}, which is not passed where `after` is "
                "satisfied without it: give the parameter a default"
            )
            report(entry.run, "missing-argument", message)


def _arguments(entry: Entry) -> dict[str, LocatedName]:
    """The keyword arguments with which the task is called, each where the file names it first."""
    arguments: dict[str, LocatedName] = {}
    for name in (*(leaf.name for leaf in entry.after.leaves), *entry.params):
        arguments.setdefault(name.text, name)
    return arguments


def _certain_arguments(entry: Entry) -> set[str]:
    """The arguments that are passed whichever leaves satisfy ``after``.

    A plain leaf that is not met is passed if ``withParams`` has it.
    """
    leaves = entry.after.by_name
    given = {name.text for name in entry.params if name.text not in leaves or leaves[name.text].leaf.is_plain}
    return given | {str(name) for name in required(entry.after.root)}
