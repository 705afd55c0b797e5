"""The clients of ``examples/producers``: what each needs, how it is built, and how it fires."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.environment import with_authorities
from tests.support.kafka.server import ROOT

FOLDER = ROOT / "examples" / "producers"
_STAMPS = ROOT / "build" / "producers"
_BUILD_TIMEOUT_S = 900.0
"""Go compiles its client and its library in 75 s of one core; a loaded machine takes a few times that."""
_QUICK_JVM = "-XX:TieredStopAtLevel=1"
"""A build is too short to repay the work of the JVM's second compiler."""
_FIRE_TIMEOUT_S = 120.0


class ProducerError(Exception):
    """A client cannot be built, or an event was not acknowledged; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program in a folder of its own. ``hash`` is the hash of keys that its client uses by default.

    ``slow``: its build takes more than a minute.
    """

    language: str
    library: str
    folder: str
    trigger: str
    hash: str
    tools: Sequence[str] = ()
    sources: Sequence[str] = ()
    build: Sequence[str] = ()
    built: str = ""
    slow: bool = False
    run: Sequence[str]

    @property
    def home(self) -> Path:
        """The folder in which its commands run."""
        return FOLDER / self.folder

    def missing(self) -> str | None:
        """The tools that this machine lacks for it, or None."""
        lacking = [tool for tool in self.tools if shutil.which(tool) is None]
        return " and ".join(lacking) or None

    def left_out(self, *, quick: bool) -> str | None:
        """Why it cannot be run, or None. ``quick``: or because it is not built yet, which would take long."""
        if (lacking := self.missing()) is not None:
            return f"for want of {lacking} on the PATH"
        if quick and self.slow and not self._is_built():
            return "as its build takes more than a minute: `make producers` builds it"
        return None

    def make(self) -> bool:
        """Build it; False where that was done for these sources.

        Raises:
            ProducerError: it cannot be built.
        """
        if not self.build:
            return False
        _STAMPS.mkdir(parents=True, exist_ok=True)
        with (_STAMPS / f"{self.folder}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._is_built():
                return False
            self._execute(self.build, timeout_s=_BUILD_TIMEOUT_S)
            (_STAMPS / self.folder).write_text(self._digest())
        return True

    def _is_built(self) -> bool:
        stamp = _STAMPS / self.folder
        return stamp.exists() and stamp.read_text() == self._digest() and (self.home / self.built).exists()

    def fire(self, *, bootstrap: str, app: str, sessions: Sequence[str]) -> None:
        """Fire its trigger for ``sessions``; all are acknowledged when this returns.

        Raises:
            ProducerError: the program says that they are not.
        """
        arguments = [bootstrap, app, self.trigger, *sessions]
        self._execute([*self.run, *arguments], timeout_s=_FIRE_TIMEOUT_S)

    def _digest(self) -> str:
        sources = [(self.home / source).read_bytes() for source in self.sources]
        return hashlib.sha256(b"\0".join(sources)).hexdigest()

    def _execute(self, command: Sequence[str], *, timeout_s: float) -> None:
        said = " ".join(command[: len(self.run)] if command is not self.build else command)
        try:
            done = subprocess.run(
                [sys.executable if word == "python" else word for word in command],
                cwd=self.home,
                # In other locales Java takes the bytes of an argument for something else than UTF-8.
                env={"MAVEN_OPTS": _QUICK_JVM, **with_authorities(os.environ), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as exc:
            raise ProducerError(f"{self.language}: `{said}` has not ended after {timeout_s:g} s") from exc
        if done.returncode:
            lines = (done.stderr + done.stdout).strip().splitlines()
            why = f": {lines[0]}" if lines else ""
            raise ProducerError(f"{self.language}: `{said}` ended with status {done.returncode}{why}")


CLIENTS = (
    Client(
        language="Java",
        library="kafka-clients",
        folder="java",
        trigger="firedInJava",
        hash="murmur2",
        tools=("java", "mvn"),
        sources=("pom.xml", "src/main/java/Fire.java"),
        build=("mvn", "--quiet", "--batch-mode", "package"),
        built="target/fire.jar",
        run=("java", "-jar", "target/fire.jar"),
    ),
    Client(
        language="Go",
        library="franz-go",
        folder="go",
        trigger="firedInGo",
        hash="murmur2",
        tools=("go",),
        sources=("go.mod", "go.sum", "main.go"),
        build=("go", "build", "-o", "fire"),
        built="fire",
        slow=True,
        run=("./fire",),
    ),
    Client(
        language="Node",
        library="kafkajs",
        folder="node",
        trigger="firedInNode",
        hash="murmur2",
        tools=("node", "npm"),
        sources=("package.json", "package-lock.json"),
        build=("npm", "ci", "--no-audit", "--no-fund"),
        built="node_modules/kafkajs",
        run=("node", "fire.js"),
    ),
    Client(
        language="C",
        library="kcat",
        folder="kcat",
        trigger="firedInShell",
        hash="CRC32",
        tools=("kcat",),
        run=("sh", "fire.sh"),
    ),
    Client(
        language="Python",
        library="confluent-kafka",
        folder="python",
        trigger="firedInPython",
        hash="CRC32",
        run=("python", "fire.py"),
    ),
)
