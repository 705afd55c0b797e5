"""The worker and its peers, each in its variants: what they are called, and how they are started."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.peers import streams
from tests.benchmarks.peers.arguments import Arguments, Content
from tests.benchmarks.peers.process import Program

ROOT = Path(__file__).resolve().parents[3]
COMMIT_MS = 100
"""The interval that all peers are also measured with. It is Kafka Streams' own, if exactly once."""


class Kind(Enum):
    """The programs."""

    WORKER = "triggerstream worker"
    QUIX = "quix-streams"
    STREAMS = "Kafka Streams"
    FAUST = "stock Faust agent and table (RocksDB, at least once)"
    PLAIN = "aiokafka consume and produce, no state"


_MODULES = {Kind.QUIX: "quix", Kind.FAUST: "stock_faust", Kind.PLAIN: "plain"}
_DEFAULT_COMMITS = {Kind.QUIX: "5 s (default)", Kind.STREAMS: "0.1 s (default)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """An interpreter that has the worker of some commit, and the variables with which it finds it."""

    commit: str
    python: Path
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A program and how it is set. ``build``: the worker of another commit than this one."""

    kind: Kind
    content: Content = "lean"
    commit_ms: int | None = None
    has_web: bool = True
    processes: int = 1
    build: Build | None = None

    @property
    def name(self) -> str:
        """Name in rows and progress lines."""
        match self.kind:
            case Kind.QUIX | Kind.STREAMS:
                content = "lean" if self.content == "lean" else "same content"
                commits = _commits(self.kind, self.commit_ms)
                return f"{self.kind.value} {_version(self.kind)}, {content}, commits every {commits}"
            case Kind.WORKER:
                said = [] if self.processes == 1 else [f"{self.processes} of them"]
                said += [] if self.has_web else ["without web view"]
                said += [] if self.build is None else [f"of commit {self.build.commit[:12]}"]
                return ", ".join([self.kind.value, *said])
            case _:
                return str(self.kind.value)

    def missing(self) -> str | None:
        """Name of the tool that this machine lacks for it, or None. Builds the Java peer if needed."""
        if self.kind is not Kind.STREAMS:
            return None
        if (lacking := streams.missing()) is not None:
            return lacking
        try:
            streams.command()
        except streams.PeerBuildError as exc:
            return str(exc)
        return None

    def programs(self, told: Arguments) -> list[Program]:
        """The programs to start, each with a directory of its own."""
        made = []
        for number in range(self.processes):
            directory = told.directory / str(number)
            directory.mkdir(parents=True, exist_ok=True)
            words = self._words(told, directory)
            # A worker of another build must not find this repository's package in its folder.
            folder = directory if self.kind is Kind.WORKER else ROOT
            variables = {} if self.build is None else self.build.variables
            made.append(Program(name=self.name, words=words, folder=folder, variables=variables))
        return made

    def _words(self, told: Arguments, directory: Path) -> Sequence[str]:
        if self.kind is not Kind.WORKER:
            words = [told.bootstrap, told.app, str(told.partitions), str(directory), str(told.commands_due)]
            commit = "default" if self.commit_ms is None else str(self.commit_ms)
            words += [self.content, commit]
            if self.kind is Kind.STREAMS:
                return [*streams.command(), *words]
            return [sys.executable, "-m", f"tests.benchmarks.peers.{_MODULES[self.kind]}", *words]
        python = sys.executable if self.build is None else str(self.build.python)
        options = ["--kafka", told.bootstrap, "--app", told.app, "--dir", str(directory)]
        options += [] if self.has_web else ["--without-web"]
        return [python, "-m", "triggerstream", "worker", *options]


WORKER = Contender(kind=Kind.WORKER)
PLAIN = Contender(kind=Kind.PLAIN)
FAUST = Contender(kind=Kind.FAUST)


def quix(content: Content, commit_ms: int | None = None) -> Contender:
    """quix-streams, which stops, and commits, with the last command that is due."""
    return Contender(kind=Kind.QUIX, content=content, commit_ms=commit_ms)


def kafka_streams(content: Content) -> Contender:
    """Kafka Streams, whose default interval is the one that others are also measured with."""
    return Contender(kind=Kind.STREAMS, content=content)


def _commits(kind: Kind, commit_ms: int | None) -> str:
    return _DEFAULT_COMMITS[kind] if commit_ms is None else f"{commit_ms / 1_000:g} s"


@cache
def _version(kind: Kind) -> str:
    found: str = version("quixstreams") if kind is Kind.QUIX else streams.version()
    return found
