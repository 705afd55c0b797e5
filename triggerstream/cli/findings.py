"""The findings about a tasks file as commands print them: one line, or one object, for each."""

from __future__ import annotations

from triggerstream.cli.printing import Styled
from triggerstream.core.errors import Finding
from triggerstream.core.ids import JsonObject

_COLOURS = {"error": "red", "warning": "yellow"}


def finding_line(file: str, finding: Finding) -> tuple[str | Styled, ...]:
    """The parts of a finding's line, ``FILE:LINE:COLUMN: SEVERITY: PATH: MESSAGE [CODE]``."""
    path = f"{finding.path}: " if finding.path else ""
    return (
        f"{file}:{finding.line}:{finding.column}: ",
        Styled(text=finding.severity, colour=_COLOURS[finding.severity], bold=True),
        f": {path}{finding.message} ",
        Styled(text=f"[{finding.code}]", dim=True),
    )


def finding_fields(file: str, finding: Finding) -> JsonObject:
    """A finding as a JSON object."""
    return {
        "file": file,
        "line": finding.line,
        "column": finding.column,
        "path": finding.path,
        "severity": finding.severity,
        "code": finding.code,
        "message": finding.message,
    }
