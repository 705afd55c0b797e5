"""Google's implementation of CEL, an oracle: ``python -m tests.core.where.oracle``, lines of JSON in and out.

It runs in a process of its own because the library can abort the interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from triggerstream.core.ids import JsonObject

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ERROR = ["error"]
REFUSED = ["refused"]


def ask_oracle(
    cases: Iterable[tuple[str, JsonObject]], *, time_us: int, session: str, event_id: str | None
) -> list[Any]:
    """What the oracle makes of each expression: ``["int", "5"]``, ``ERROR``, or ``REFUSED``."""
    event = {"time_us": time_us, "session": session, "id": event_id}
    lines = "".join(json.dumps({"text": text, "data": data, **event}) + "\n" for text, data in cases)
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        # The exit status does not matter: every answer counts that was written.
        answers, _ = process.communicate(lines, timeout=280)
    return [json.loads(line) for line in answers.splitlines()]


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """A value with its type, as JSON that keeps both."""
    match value:
        case None:
            return ["null"]
        case bool():
            return ["bool", value]
        case int():
            return ["int", str(value)]
        case float():
            return ["double", "nan" if value != value else repr(value)]  # noqa: PLR0124 - not a number
        case str():
            return ["string", value]
        case datetime():
            return ["timestamp", (value - EPOCH) // MICROSECOND]
        case timedelta():
            return ["duration", value // MICROSECOND]
        case list():
            return ["list", [plain(item) for item in value]]
        case dict():
            return ["object", {name: plain(item) for name, item in value.items()}]
        case _:
            return [type(value).__name__]


def main() -> None:
    """Answer each line."""
    cel = import_module("cel_expr_python.cel")
    environment = cel.NewEnv(
        variables={
            "data": cel.Type.DYN,
            "time": cel.Type.TIMESTAMP,
            "session": cel.Type.STRING,
            "id": cel.Type.DYN,
        }
    )
    for line in sys.stdin:
        asked = json.loads(line)
        event = {
            "data": asked["data"],
            "time": EPOCH + asked["time_us"] * MICROSECOND,
            "session": asked["session"],
            "id": asked["id"],
        }
        try:
            # Unchecked, as types are known only when the data are.
            expression = environment.compile(asked["text"], disable_check=True)
        except Exception:  # noqa: BLE001 - whatever it refuses with
            answer = REFUSED
        else:
            found = expression.eval(data=event)
            answer = ERROR if found.type() == cel.Type.ERROR else plain(found.plain_value())
        sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    # Not through the library's destructors, which abort now and then.
    os._exit(0)


if __name__ == "__main__":
    main()
