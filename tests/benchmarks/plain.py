"""Lists of triggers cost what they cost before there were conditions: both releases, round by round.

The earlier release is built as a wheel from its commit and installed into an environment of its own. It folds
the same logs in a process beside this release's. Their commands must be the same, byte for byte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Self

from tests.benchmarks import baseline, plain_rounds
from tests.benchmarks.rows import Row

BASELINE = "362725b458808db091499e80ee664bec0279283a"
"""The last commit before conditions."""
ROUNDS = 9
NAMES = {
    "one": "a task of four triggers, 1 of 1,000 tasks uses each",
    "ten": "tasks of four triggers, 10 of 1,000 use each",
    "repeated": "a repeatable task, triggers that come again",
    "waiting": "900 waiting instances, triggers that no task uses",
    "finished": "sessions with one instance, which is finished",
    "recovered": "the state of a session with one finished instance read again",
    "stored": "the state of a session with one finished instance",
}
UNITS = {"recovered": "µs/session", "stored": "B"}
"""Units of values that are not µs an event."""


def run() -> list[Row]:
    """Median µs an event of this release, and the median ratio to the earlier one."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        build = baseline.build(BASELINE, Path(folder))
        earlier = stack.enter_context(FoldRounds(build.python, build.variables))
        ours = stack.enter_context(FoldRounds(Path(sys.executable), {}))
        if earlier.hashes != ours.hashes:
            raise AssertionError("commands of a list of triggers differ from those of the baseline")
        rounds = [(earlier.round(), ours.round()) for _ in range(ROUNDS)]
    return [
        Row(
            name=f"fold: {name}",
            value=median(now[case] for _, now in rounds),
            unit=UNITS.get(case, "µs/event"),
            peer="the release before conditions",
            ratio=median(now[case] / before[case] for before, now in rounds),
        )
        for case, name in NAMES.items()
    ]


class FoldRounds:
    """A process that folds the logs once for each call."""

    def __init__(self, python: Path, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, plain_rounds.__file__],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hashes = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def round(self) -> dict[str, float]:
        """µs an event, by case."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        times: dict[str, float] = self._read()
        return times

    def _read(self) -> Any:  # noqa: ANN401 - JSON
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())
