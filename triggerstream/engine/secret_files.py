"""Reads files with secrets (tokens, keys, passwords), and refuses files that others can access."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from triggerstream.core import advice
from triggerstream.core.errors import UsageError

_ROOT = 0


def read_secret(path: Path) -> bytes:
    """The content of a file that nobody but its owner can read or change.

    One exception: the group may read a file owned by root that the process itself reads as a member of that
    group. Kubernetes mounts a Secret in this way.

    Raises:
        UsageError: it cannot be read, or others can read or change it. The message does not show its content.
    """
    try:
        with path.open("rb") as file:
            # Status of the open file: nobody can replace it between the check and the read.
            status = os.fstat(file.fileno())
            content = file.read()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise UsageError(f"{path}: cannot be read: {exc}") from exc
    who = _others(status)
    if who:
        raise UsageError(f"{path}: {who} can read or change it: {advice.close_file(str(path))}")
    return content


def _others(status: os.stat_result) -> str:
    """Text that names other users who can read or change a file; empty if nobody else can."""
    mode = status.st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return "everybody on this machine"
    handed_over = status.st_uid == _ROOT and status.st_gid in {os.getegid(), *os.getgroups()}
    if mode & stat.S_IWGRP or (mode & stat.S_IRGRP and not handed_over):
        return "its group"
    return ""
