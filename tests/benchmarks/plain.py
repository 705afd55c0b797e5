"""Lists of triggers cost what they cost before there were conditions: both releases, round by round.

The earlier release is built as a wheel from its commit and installed into an environment of its own. It folds
the same logs in a process beside this release's. Their states and commands must be the same, byte for byte.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Self

from tests.benchmarks import plain_rounds
from tests.benchmarks.rows import Row

BASELINE = "362725b458808db091499e80ee664bec0279283a"
"""The last commit before conditions."""
ROUNDS = 9
_ROOT = Path(__file__).parents[2]
_NAMES = {
    "one": "a task of four triggers, 1 of 1,000 tasks uses each",
    "ten": "tasks of four triggers, 10 of 1,000 use each",
    "repeated": "a repeatable task, triggers that come again",
    "waiting": "900 waiting instances, triggers that no task uses",
}


def run() -> list[Row]:
    """Median µs an event of this release, and the median ratio to the earlier one."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        earlier = stack.enter_context(_Rounds(_earlier_release(Path(folder)), _libraries()))
        ours = stack.enter_context(_Rounds(Path(sys.executable), {}))
        if earlier.hashes != ours.hashes:
            raise AssertionError("states or commands of a list of triggers differ from those of the baseline")
        rounds = [(earlier.round(), ours.round()) for _ in range(ROUNDS)]
    return [
        Row(
            name=f"fold: {name}",
            value=median(now[case] for _, now in rounds),
            unit="µs/event",
            peer="the release before conditions",
            ratio=median(now[case] / before[case] for before, now in rounds),
        )
        for case, name in _NAMES.items()
    ]


class _Rounds:
    """A process that folds the logs once for each call."""

    def __init__(self, python: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, plain_rounds.__file__],
            env=environment,
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


def _earlier_release(folder: Path) -> Path:
    """The interpreter of an environment with the earlier release."""
    source, wheels, place = folder / "source", folder / "wheels", folder / "venv"
    source.mkdir()
    archive = subprocess.run(
        ["git", "archive", BASELINE], cwd=_ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", wheels, source], check=True)
    venv.create(place, with_pip=False)
    (wheel,) = wheels.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    packages = next((place / "lib").glob("python*")) / "site-packages"
    subprocess.run([*install, "--target", packages, wheel], check=True)
    return place / "bin" / "python"


def _libraries() -> dict[str, str]:
    """This environment's libraries. Its own triggerstream is a link, which is not followed here."""
    return {"PYTHONPATH": sysconfig.get_paths()["purelib"]}
