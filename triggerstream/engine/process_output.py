"""Lines of a worker or bridge on standard error, for people and logs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from triggerstream.core.printable import escape


def write_process_line(kind: str, line: str) -> None:
    """Write one line of this process, a ``worker`` or ``bridge``, with control characters escaped.

    A process does not end because nobody can read its lines, for example on a full disk.
    """
    with suppress(OSError, ValueError):
        print(f"triggerstream {kind} {os.getpid()}: {escape(line)}", file=sys.stderr, flush=True)  # noqa: T201 - its purpose
