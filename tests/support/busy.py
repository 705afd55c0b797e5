"""A machine that has other work to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Have ``processes`` use all the processor time that they get, until the block ends.

    Each has a session of its own: Linux shares the time out by sessions, where ``sched_autogroup_enabled``
    is set. They end with the process that started them, whose end they see by their standard input.
    """
    program = (
        "import os, threading\n"
        "threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()\n"
        "while True: pass"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, start_new_session=True)
        for _ in range(processes)
    ]
    try:
        yield
    finally:
        for one in started:
            one.kill()
        for one in started:
            one.wait()
            assert one.stdin is not None
            one.stdin.close()
