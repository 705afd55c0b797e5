"""Files that hold secrets: tokens, keys, passwords."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from triggerstream.core.errors import UsageError


def read_secret(path: Path) -> bytes:
    """The content of a file that nobody but its owner and its group can read or change.

    Raises:
        UsageError: it cannot be read, or others can read or change it. The message shows nothing of it.
    """
    try:
        with path.open("rb") as file:
            # Of the open file, so that no other one can stand in its place meanwhile.
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise UsageError(f"{path}: everybody on this machine can read or change it: `chmod o-rw {path}`")
    return content
