"""A real Apache Kafka: one process, broker and controller in one, on the loopback interface.

Its jars come from Maven Central, once, into the git-ignored ``.kafka/libs``. A server owns a folder for its
settings, its data and its log.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.ports import HOST, free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
HOME = ROOT / ".kafka"
"""Everything that this module leaves behind, test runs aside."""
LIBS = HOME / "libs"
_FORMATTED = LIBS / "formatted"
_CLASSES = LIBS / "classes.jsa"
"""Kafka's classes as the JVM has them in memory: with them, a start takes little more than half the time."""

START_TIMEOUT_S = 180.0
"""A start takes 3 s on two idle cores; beside other work it may take many times that."""
STOP_TIMEOUT_S = 20.0

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    # Alone, it cannot replicate anything.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A topic that nobody created is a mistake that a test should see.
    "auto.create.topics.enable": "false",
    # The internal topics are made when first asked for: 8 folders each in place of 50.
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    # No waiting for members that a test does not have.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Else an idle controller appends a record every 500 ms: half of an idle server's processor time.
    "metadata.max.idle.interval.ms": "0",
    # Time after which an expired transaction is aborted.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # The default, 128 MiB, is a quarter of the heap.
    "log.cleaner.dedupe.buffer.size": "16777216",
}

# The server becomes the JVM, under the same process id, and the kernel ends it with the one who started it,
# however that one ends. Elsewhere than on Linux only an orderly end of the starter does.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the starter is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def _wait_until_stopped(process: int) -> None:
    """Return once no thread runs any more: each stops by itself, later on a busy machine."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        threads = list(Path(f"/proc/{process}/task").glob("*/stat"))
        with suppress(OSError):
            # The state stands behind the name, which is in brackets and may hold any character.
            if all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads):
                return
        time.sleep(0.01)


class KafkaUnavailableError(Exception):
    """There is no Kafka to be had here; the message says what is missing."""


class KafkaStartError(Exception):
    """Kafka was there and did not start; the message ends with what it logged last."""


def missing() -> str | None:
    """The tool that this machine lacks to start a Kafka, or None."""
    if shutil.which("java") is None:
        return "Java 17 or newer (`java` is not on the PATH)"
    if not _complete() and shutil.which("mvn") is None:
        return "Maven, which brings Kafka (`mvn` is not on the PATH)"
    return None


def fetch_libs() -> None:
    """Have Kafka's jars in ``.kafka/libs``: fetched when they are not there or not those of the ``pom.xml``.

    Raises:
        KafkaUnavailableError: they cannot be fetched.
    """
    HOME.mkdir(exist_ok=True)
    with (HOME / "libs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _complete():
            _fetch()
        if not _FORMATTED.exists():
            _format()
        if not _CLASSES.exists():
            _archive_classes()


def _fetch() -> None:
    if shutil.which("mvn") is None:
        raise KafkaUnavailableError("Maven, which brings Kafka, is not on the PATH")
    shutil.rmtree(LIBS, ignore_errors=True)
    arguments = ["--quiet", "--batch-mode", "--file", str(HERE / "pom.xml")]
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={LIBS}"]
    done = subprocess.run(["mvn", *arguments, *goal], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KafkaUnavailableError(f"Maven could not bring Kafka:\n{done.stdout}{done.stderr}")
    (LIBS / "complete").write_text(_pom_digest())


def _format() -> None:
    """Have Kafka's own tool format a storage, once: each server begins with a copy, a second JVM less."""
    properties, begun = LIBS / "format.properties", LIBS / "formatting"
    shutil.rmtree(begun, ignore_errors=True)
    _write(properties, {**_SETTINGS, **_listeners(free_port(), free_port()), "log.dirs": str(begun)})
    tool = ["kafka.tools.StorageTool", "format", "-t", new_id(), "-c", str(properties)]
    done = subprocess.run([*_java(), *tool], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KafkaUnavailableError(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
    begun.rename(_FORMATTED)


def _archive_classes() -> None:
    """Have the JVM write the classes that a start of a server has loaded, when the server ends in order."""
    begun = LIBS / "classes.begun"
    begun.unlink(missing_ok=True)
    server = KafkaServer(LIBS / "archiving", java=[f"-XX:ArchiveClassesAtExit={begun}"])
    server.launch_fetched()
    server.await_answer()
    server.stop(within_s=START_TIMEOUT_S)
    shutil.rmtree(server.folder)
    if not begun.exists():
        begun.touch()  # this JVM cannot
    begun.rename(_CLASSES)


def _java(*, optimised: bool = False) -> list[str]:
    # The JVM's second compiler pays only after a minute of load, and takes processor time from the tests.
    quick = [] if optimised else ["-XX:TieredStopAtLevel=1"]
    if _CLASSES.exists() and _CLASSES.stat().st_size:
        quick.append(f"-XX:SharedArchiveFile={_CLASSES}")
    logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
    return ["java", "-Xmx512m", *quick, logging, "-cp", f"{LIBS}/*"]


def _listeners(port: int, controller_port: int) -> dict[str, str]:
    plain = f"PLAINTEXT://{HOST}:{port}"
    return {
        "listeners": f"{plain},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": plain,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
    }


def _write(path: Path, settings: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def new_id() -> str:
    """An id as Kafka makes them, for a cluster or a directory."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _complete() -> bool:
    stamp = LIBS / "complete"
    return stamp.exists() and stamp.read_text() == _pom_digest()


def _pom_digest() -> str:
    return hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()


def answers(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Whether a Kafka broker answers there: to ApiVersions, which it does once it is part of its cluster."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(10)
    except OSError:
        return False
    return len(answer) == 10 and answer[4:] == struct.pack(">ih", 1, 0)


class KafkaServer:
    """One server in ``folder``. It may be killed and started again: ports and data stay.

    With ``keep_running`` it outlives the process that starts it. ``optimised`` is for long load: it starts
    more slowly, and is faster after a minute. ``node`` and ``cluster`` are its id and that of its cluster,
    ``java`` further arguments of the JVM.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        controller_port: int | None = None,
        settings: Mapping[str, str] | None = None,
        keep_running: bool = False,
        optimised: bool = False,
        node: int = 1,
        cluster: str | None = None,
        java: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._node = node
        self._cluster = cluster or new_id()
        self.port = port or free_port()
        self._controller_port = controller_port or free_port()
        self._extra = dict(settings or {})
        self._keep_running = keep_running
        self._optimised = optimised
        self._arguments = java
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the JVM."""
        if self._process is None:
            raise AssertionError("this server was not started")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The log of the server."""
        return self.folder / "kafka.log"

    def start(self) -> None:
        """Start it, with an empty storage where there is none; it answers when this returns.

        Raises:
            KafkaUnavailableError: its jars cannot be fetched.
            KafkaStartError: it ended, or did not answer in time.
        """
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start it, and do not wait until it answers."""
        fetch_libs()
        self.launch_fetched()

    def launch_fetched(self) -> None:
        """The same where the jars are known to be there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data, properties = self.folder / "data", self.folder / "server.properties"
        _write(properties, self._settings(data))
        if not (data / "meta.properties").exists():
            self._begin(data)
        command = [*_java(optimised=self._optimised), *self._arguments, "kafka.Kafka", str(properties)]
        with self.log.open("ab") as log:
            if not self._keep_running:
                command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C ends the tests, and they end the server
            )

    def _settings(self, data: Path) -> dict[str, str]:
        listeners = _listeners(self.port, self._controller_port)
        own = {"node.id": str(self._node), "log.dirs": str(data)}
        return {**_SETTINGS, **listeners, **own, **self._extra}

    def _begin(self, data: Path) -> None:
        """A formatted storage, with ids of its own."""
        shutil.copytree(_FORMATTED, data)
        ids = {"node.id": str(self._node), "directory.id": new_id(), "cluster.id": self._cluster}
        _write(data / "meta.properties", {"version": "1", **ids})

    def await_answer(self) -> None:
        """Return once it answers.

        Raises:
            KafkaStartError: it ended, or did not answer in time.
        """
        process = self._process
        assert process is not None, "this server was not started"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(HOST, self.port):
            if process.poll() is not None:
                raise KafkaStartError(f"Kafka ended with status {process.returncode}:\n{self._last_lines()}")
            if time.monotonic() > deadline:
                self.kill()
                raise KafkaStartError(
                    f"Kafka does not answer after {START_TIMEOUT_S:g} s:\n{self._last_lines()}"
                )
            time.sleep(0.05)

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, *, within_s: float = STOP_TIMEOUT_S) -> None:
        """End it in order; at once where it takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a loss of power to the process would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers once this returns."""
        self._signal(signal.SIGSTOP)
        if self._process is not None and sys.platform == "linux":
            _wait_until_stopped(self._process.pid)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
