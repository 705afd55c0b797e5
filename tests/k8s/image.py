"""The image without a container engine: the Containerfile is carried out in folders.

What comes of it is run in a root of its own, which it sees read-only beside a /tmp and its volume, as the
image's numeric user, without privileges. The base is a Python of this machine, under /usr/local as in the
base image. It has a program named `python`, as there; Debian's has none.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.k8s.rendering import MANIFESTS, ROOT

FILE = MANIFESTS / "Containerfile"
STATE = "var/lib/triggerstream"
_OF_THE_MACHINE = ("usr", "etc", "dev", "proc")
_SCRATCH = "tmp"
_LINKS = ("bin", "lib", "lib64", "sbin")
_PYTHON = "usr/local"
_TOOLS = ("unshare", "setpriv", "chroot", "mount")
_INSTALL_TIMEOUT_S = 600


@cache
def _prefix() -> Path | None:
    """The prefix of a Python with our version that has a program named `python`; None if there is none."""
    found = [Path(sys.base_prefix)]
    if (other := shutil.which("python")) is not None:
        asked = [other, "-c", "import sys; print(*sys.version_info[:2], sys.base_prefix)"]
        major, minor, prefix = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split(
            maxsplit=2
        )
        if (int(major), int(minor)) == sys.version_info[:2]:
            found.append(Path(prefix.strip()))
    return next((prefix for prefix in found if (prefix / "bin" / "python").exists()), None)


def missing() -> str | None:
    """What this machine lacks to run the image, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "Linux, and root, who may mount"
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            return f"`{tool}` on the PATH"
    if _prefix() is None:
        return "a Python {}.{} with a program named `python`".format(*sys.version_info)
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "a mount namespace: the system grants none" if tried.returncode else None


@dataclass(slots=True, kw_only=True)
class Stage:
    """A stage of the file: its instructions in order, by name."""

    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """What stands behind each instruction of that name."""
        return [text for found, text in self.instructions if found == name]


def stages(text: str) -> list[Stage]:
    """Those of a Containerfile."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append(Stage(name=rest.partition(" AS ")[2]))
        elif name and found:
            found[-1].instructions.append((name, rest))
    return found


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Of this checkout, what Containerfile.dockerignore leaves out."""
    return {"__pycache__"} & set(names) if Path(folder).is_relative_to(ROOT) else set()


class Image:
    """What the Containerfile makes, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        build, self._final = stages(FILE.read_text())
        self._roots = {"build": folder / "build", "": folder / "image"}
        for root in self._roots.values():
            _lay(root)
        self._make(build)
        self._make(self._final)
        self.state = folder / "state"
        shutil.copytree(self._roots[""] / STATE, self.state)
        os.chown(self.state, 10001, 10001)

    @property
    def env(self) -> dict[str, str]:
        """The environment that it sets."""
        pairs = (pair.partition("=") for text in self._final.all("ENV") for pair in shlex.split(text))
        path = "/usr/local/bin:/usr/bin:/bin"
        return {name: value.replace("$PATH", path) for name, _, value in pairs}

    @property
    def entrypoint(self) -> list[str]:
        """What it runs."""
        (text,) = self._final.all("ENTRYPOINT")
        found: list[str] = json.loads(text)
        return found

    @property
    def user(self) -> tuple[int, int]:
        """The user and the group that it runs as, numeric or no user at all."""
        (text,) = self._final.all("USER")
        user, group = text.split(":")
        return int(user), int(group)

    def command(self, arguments: Sequence[str], *, env: dict[str, str] | None = None) -> list[str]:
        """What starts it with ``arguments``; the process is the image's from then on."""
        return self.run([*self.entrypoint, *arguments], env=env)

    def run(self, program: Sequence[str], *, env: dict[str, str] | None = None) -> list[str]:
        """What starts ``program`` in it, as its user."""
        root = self._roots[""]
        user, group = self.user
        mounts = [
            *_mounts(root, read_only=True),
            f"mount -t tmpfs -o mode=1777 tmpfs {root}/{_SCRATCH}",
            f"mount --bind {self.state} {root}/{STATE}",
            f"mount -o remount,bind,ro {root}",
        ]
        (place,) = self._final.all("WORKDIR")
        # The library of this machine's Python is looked for where it was built.
        given = {**self.env, "LD_LIBRARY_PATH": f"/{_PYTHON}/lib", **(env or {})}
        privileges = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups"]
        inside = [
            *(
                _chroot(),
                str(root),
                "env",
                "-i",
                "-C",
                place,
                *(f"{name}={value}" for name, value in given.items()),
            ),
            *("/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", *privileges),
            *program,
        ]
        return _namespace([*mounts, f"exec {shlex.join(inside)}"])

    def _make(self, stage: Stage) -> None:
        root, place = self._roots[stage.name], Path("/")
        for name, text in stage.instructions:
            if name == "WORKDIR":
                place = place / text
                (root / place.relative_to("/")).mkdir(parents=True, exist_ok=True)
            elif name == "COPY":
                self._copy(text.split(), root, place)
            elif name == "RUN":
                _run(text, root, place)

    def _copy(self, words: list[str], root: Path, place: Path) -> None:
        flags = dict(word.removeprefix("--").split("=") for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = self._roots[flags["from"]] if "from" in flags else ROOT
        goal = root / (place / target).relative_to("/")
        for source in sources:
            found = origin / source.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, goal, symlinks=True, dirs_exist_ok=True, ignore=_left_out)
            else:
                goal.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, goal)
        if "chown" in flags:
            os.chown(goal, *map(int, flags["chown"].split(":")))


def _lay(root: Path) -> None:
    root.mkdir(mode=0o755)
    for name in (*_OF_THE_MACHINE, _SCRATCH, "opt", "root", STATE):
        (root / name).mkdir(parents=True)
    (root / _SCRATCH).chmod(0o1777)
    for name in _LINKS:
        (root / name).symlink_to(f"usr/{name}")


def _mounts(root: Path, *, read_only: bool) -> list[str]:
    """The machine's system, and its Python where an image has it. The mounts go with the namespace."""
    lines = ["set -e", f"mount --bind {root} {root}"]
    lines += [f"mount --rbind /{name} {root}/{name}" for name in _OF_THE_MACHINE]
    lines.append(f"mount --bind {_prefix()} {root}/{_PYTHON}")
    if read_only:
        lines += [f"mount -o remount,bind,ro {root}/{name}" for name in ("usr", "etc", _PYTHON)]
    return lines


def _chroot() -> str:
    """Where it is: not in the PATH that a user has."""
    found = shutil.which("chroot")
    assert found is not None
    return found


def _namespace(lines: Sequence[str]) -> list[str]:
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]


def _run(text: str, root: Path, place: Path) -> None:
    env = {**os.environ, "PATH": "/usr/local/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": f"/{_PYTHON}/lib"}
    inside = [_chroot(), str(root), "env", "-C", str(place), "sh", "-c", text]
    done = subprocess.run(
        _namespace([*_mounts(root, read_only=False), f"exec {shlex.join(inside)}"]),
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=_INSTALL_TIMEOUT_S,
    )
    assert done.returncode == 0, f"RUN {text}: {done.stdout}{done.stderr}"
