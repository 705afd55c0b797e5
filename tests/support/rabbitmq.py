"""A real RabbitMQ node, from the system's package, on a free port of the loopback interface."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kombu import Connection

from tests.support.ports import HOST, free_port
from tests.support.waiting import wait_until

_DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The program itself. The one on the PATH is a wrapper that changes user and directory."""


def _program() -> str | None:
    return str(_DEBIAN) if _DEBIAN.exists() else shutil.which("rabbitmq-server")


class RabbitNode:
    """A node with a directory and an Erlang port mapper of its own. Its stored data outlives :meth:`kill`."""

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self._home = home
        self._port = free_port()
        self._mapper_port = free_port()
        self._distribution_port = free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self._port}//"

    def start(self, *, within_s: float = 120.0) -> None:
        """Start it, and wait until it takes connections."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"tests{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._home / "data"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "no-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "no-rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "no-plugins"),
            # Otherwise a shell stands between, which would have to be ended beside the node.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }
        if self._mapper is None:
            # A node would start one that outlives it.
            self._mapper = subprocess.Popen(
                ["epmd", "-port", str(self._mapper_port), "-address", HOST],
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        with (self._home / "output").open("ab") as output:
            self._node = subprocess.Popen(
                [self._program],
                env=env,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._answers, within_s=within_s, what=self._text)

    def kill(self) -> None:
        """``kill -9``. Durable queues, and persistent messages that it confirmed, come back with it."""
        node, self._node = self._node, None
        if node is not None:
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait()

    def end(self) -> None:
        self.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()

    def _answers(self) -> bool:
        assert self._node is not None
        status = self._node.poll()
        assert status is None, f"ended with {status}: {self._text()}"
        connection = Connection(self.url, connect_timeout=2)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.release()
        return True

    def _text(self) -> str:
        return (self._home / "output").read_text(errors="replace")


@contextmanager
def rabbitmq_node() -> Iterator[RabbitNode]:
    """A node of one's own, gone at the end with all it held; skips where there is no RabbitMQ to run."""
    program = _program()
    if program is None or shutil.which("epmd") is None:
        pytest.skip("waits for RabbitMQ: no rabbitmq-server found (make test-tools installs it)")
    home = Path(tempfile.mkdtemp(prefix="rabbitmq-", dir="/tmp"))
    node = RabbitNode(program, home)
    try:
        node.start()
        yield node
    finally:
        node.end()
        shutil.rmtree(home, ignore_errors=True)
