"""The Python that `make install` uses: ``python3 tests/support/interpreter.py`` prints its path.

It is the first on the PATH that was built with profile-guided optimisation (PGO), if it can make virtual
environments; else the first that can. ``interpreter.py PYTHON`` describes the one at that path instead.
It runs before anything is installed, under the ``python3`` that is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 11)
NAMES = ("python3", "python3.11", "python3.12", "python3.13", "python3.14")
_ANSWER_S = 20.0

# Builds say `--enable-optimizations`. Debian and Ubuntu build with a profile by other means, and then remove
# its flag from the record: PGO_PROF_USE_FLAG is empty there, and has a value in every build of another kind.
ASK = """
import json, sys, sysconfig
from importlib.util import find_spec
of = sysconfig.get_config_var
pgo = "--enable-optimizations" in (of("CONFIG_ARGS") or "") or of("PGO_PROF_USE_FLAG") == ""
able = find_spec("venv") is not None and find_spec("ensurepip") is not None
print(json.dumps([list(sys.version_info[:3]), pgo, able]))
"""


class Interpreter(NamedTuple):
    """A Python, and what it says of itself. ``can_install``: it can make a virtual environment with pip."""

    path: str
    version: tuple[int, ...]
    has_pgo: bool
    can_install: bool

    @property
    def build(self) -> str:
        """How it was built, for rows and sentences."""
        return "with PGO" if self.has_pgo else "without PGO"

    def describe(self) -> str:
        """One line for people."""
        return f"Python {'.'.join(map(str, self.version))}, built {self.build}"


def ask(path: str) -> Interpreter | None:
    """The interpreter at ``path``; None if it gives no answer, as a pyenv shim of a version not in use."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", ASK],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_S,
            check=True,
        ).stdout
        version, has_pgo, can_install = json.loads(answer)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(path, tuple(version), has_pgo, can_install)


def candidates(search_path: str) -> list[Interpreter]:
    """The supported Pythons in the folders of ``search_path``: by name, then in the order of the folders."""
    folders = list(dict.fromkeys(folder for folder in search_path.split(os.pathsep) if folder))
    paths: dict[Path, str] = {}
    for name in NAMES:
        for path in (Path(folder, name) for folder in folders):
            if os.access(str(path), os.X_OK):
                paths.setdefault(path.resolve(), str(path))  # `python3` and `python3.11` are often one file
    found = [ask(path) for path in paths.values()]
    return [one for one in found if one is not None and one.version >= OLDEST]


def choose(found: list[Interpreter]) -> Interpreter | None:
    """The first with PGO that can make an environment, else the first that can."""
    able = [one for one in found if one.can_install]
    return next((one for one in able if one.has_pgo), able[0] if able else None)


def advice(chosen: Interpreter, found: list[Interpreter]) -> str:
    """A sentence that names a faster Python than ``chosen``; empty if none is known."""
    if chosen.has_pgo:
        return ""
    faster = "a worker is about 1.25 × as fast on a Python built with PGO"
    unable = next((one for one in found if one.has_pgo), None)
    if unable is None:
        return f"{faster}; none is on the PATH, and PYTHON=… names one elsewhere"
    return f"{faster}, such as {unable.path}, which lacks venv or pip (Debian: apt install python3-venv)"


def main(arguments: list[str]) -> int:
    """Write the path of the chosen one, or the description of the one named; the status is 1 without one."""
    if arguments:
        named = ask(arguments[0])
        sys.stdout.write(f"{named.describe() if named else arguments[0] + ' is no Python'}\n")
        return 0 if named else 1
    found = candidates(os.environ.get("PATH", os.defpath))
    chosen = choose(found)
    if chosen is None:
        sys.stderr.write("No Python 3.11 or later with venv and pip is on the PATH\n")
        sys.stdout.write("python3\n")
        return 1
    said = advice(chosen, found)
    if said:
        sys.stderr.write(f"{chosen.path} is {chosen.describe()}: {said}\n")
    sys.stdout.write(f"{chosen.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
