"""Lines of a worker or bridge on standard error, for people and logs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from triggerstream.core.printable import escape
from triggerstream.loglines import line_head


def write_process_line(kind: str, line: str, level: str = "INFO") -> None:
    """Write one line of this process, a ``worker`` or ``bridge``: time, level, name and the escaped ``line``.

    A process does not end because nobody can read its lines, for example on a full disk.
    """
    with suppress(OSError, ValueError):
        head = f"{line_head(level)} triggerstream {kind} {os.getpid()}"
        print(f"{head}: {escape(line)}", file=sys.stderr, flush=True)  # noqa: T201 - its purpose
