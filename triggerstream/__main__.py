"""The command `triggerstream`, installed or as `python -m triggerstream`."""

from __future__ import annotations

import os
import sys

from triggerstream import variables
from triggerstream.supervision.channel import COMMANDS


def main() -> None:
    """Run the command line of this process.

    `worker` and `bridge` run as the child of a supervisor. This process becomes the supervisor unless a
    supervisor has started it. A supervisor must stay small, so only its child imports the command line.
    """
    supervision = None
    if sys.argv[1:] and sys.argv[1] in COMMANDS and os.name == "posix":
        if variables.SUPERVISOR not in os.environ:
            from triggerstream.supervision.parent import supervise  # noqa: PLC0415 - a supervisor needs none of it

            sys.exit(supervise(sys.argv[1], [sys.executable, *sys.orig_argv[1:]]))
        from triggerstream.supervision.child import connect  # noqa: PLC0415 - a supervisor needs none of it

        supervision = connect(os.environ)
    from triggerstream.engine.garbage import raise_thresholds  # noqa: PLC0415 - a supervisor needs none of it

    raise_thresholds()
    from triggerstream.cli import main as program  # noqa: PLC0415 - a supervisor needs none of it

    program(obj=supervision)


if __name__ == "__main__":
    main()
