"""A broker, a worker and what they reported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest
from celery import Celery, _state
from celery.app import builtins

from tests.adapters.celery.filelog import FileLog
from tests.support.processes import CeleryWorker, celery_worker
from tests.support.valkey import valkey_server
from tests.support.waiting import eventually
from triggerstream.adapters.celery.dispatch import CeleryDispatcher
from triggerstream.core.commands import Cause, Command
from triggerstream.core.ids import (
    AppId,
    ConfigHash,
    Json,
    SessionId,
    TaskName,
    TriggerName,
    command_id,
    instance_id,
)

MODULE = "tests.adapters.celery.workerapp"
FINAL = {"finished", "failed", "skipped", "retried", "revoked"}
GO = TriggerName("go")
_numbers = count()


def command(run: str, /, *, number: int = 0, attempt: int = 0, retries: int = 0, **go: Json) -> Command:
    """A command of a session of its own, for the task ``run`` of the tests' app."""
    session, task = SessionId(f"s{next(_numbers)}"), TaskName(f"t_{run}")
    return Command(
        id=command_id(AppId("tests"), session, generation=0, task=task, number=number),
        session=session,
        task=task,
        instance=instance_id(task, number),
        run=f"{MODULE}.{run}",
        kwargs={"go": go},
        config=ConfigHash("c0ffee"),
        causes=[
            Cause(trigger=TriggerName("go"), offset=7, id="e1"),
            Cause(trigger=TriggerName("go"), offset=9),
        ],
        decided_us=1,
        attempt=attempt,
        retries=retries,
    )


@dataclass
class Farm:
    """A broker and a directory that workers report into."""

    broker: str
    home: Path
    env: dict[str, str]
    stack: ExitStack
    queue: str = "celery"
    log: FileLog = field(init=False)
    app: Celery = field(init=False)
    dispatcher: CeleryDispatcher = field(init=False)

    def __post_init__(self) -> None:
        self.log = FileLog(self.home / "log")
        self.app = Celery("dispatching", broker=self.broker)
        self.app.conf.task_default_queue = self.queue
        self.dispatcher = CeleryDispatcher(self.app)

    def worker(self, *arguments: str, **env: str) -> CeleryWorker:
        """One more worker, ready."""
        name = f"w{next(_numbers)}"
        return self.stack.enter_context(
            celery_worker(
                MODULE,
                *("-n", f"{name}@tests"),
                *(arguments or ("-c", "2")),
                env={**self.env, **env},
                output=self.home / name,
            )
        )

    def kept_worker(self, *arguments: str, **env: str) -> KeptWorker:
        """A worker that is started again each time it ends."""
        name = f"w{next(_numbers)}"

        def start() -> CeleryWorker:
            options = ("-n", f"{name}@tests", *(arguments or ("-c", "2")))
            return CeleryWorker(MODULE, *options, env={**self.env, **env}, output=self.home / name)

        return self.stack.enter_context(KeptWorker(start))

    def waiting(self) -> list[dict[str, Any]]:
        """The headers of the messages in the queue, with what the broker says of each; they stay there."""
        found = []
        with self.app.connection_for_read() as connection, connection.channel() as channel:
            get: Any = channel
            while (message := get.basic_get(self.queue)) is not None:
                found.append({**message.headers, "is redelivered": message.delivery_info.get("redelivered")})
        return found

    async def run(self, command: Command, *, within_s: float = 60.0) -> list[dict[str, Any]]:
        """Dispatch ``command``; the session's events once there is an outcome."""
        await self.dispatcher.dispatch(command)
        return await self.outcome(command, within_s=within_s)

    async def outcome(
        self, command: Command, *, count: int = 1, within_s: float = 60.0
    ) -> list[dict[str, Any]]:
        """The session's events once ``count`` of them end a command."""

        def ended() -> bool:
            return sum(kind in FINAL for kind in self.log.kinds(command.session)) >= count

        await eventually(ended, within_s=within_s, what=self.said)
        return self.log.events(command.session)

    async def appears(self, name: str, *, lines: int = 1, within_s: float = 60.0) -> list[str]:
        """The lines of the file ``name`` that tasks write, once it has ``lines``."""
        path = self.home / name
        return await eventually(
            lambda: found if path.exists() and len(found := path.read_text().splitlines()) >= lines else None,
            within_s=within_s,
            what=self.said,
        )

    def go(self, name: str) -> None:
        (self.home / name).touch()

    def said(self) -> str:
        """What the workers printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.home.glob("w*")))


class KeptWorker:
    """A worker under a supervisor that starts it again, whatever it ended by."""

    def __init__(self, start: Callable[[], CeleryWorker]) -> None:
        self._start = start
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._worker: CeleryWorker | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The main process of the one that runs now."""
        worker = self._worker
        return worker.pid if worker is not None and worker.is_running() else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._ends.is_set():
            worker = self._worker = self._start()
            self.starts += 1
            try:
                while worker.is_running() and not self._ends.wait(0.02):
                    pass
            finally:
                worker.kill()


@contextmanager
def make_farm(home: Path, *, broker: str | None = None, **env: str) -> Iterator[Farm]:
    """A farm with a broker of its own, or with a queue of its own at ``broker``."""
    with ExitStack() as stack:
        queue = "celery" if broker is None else f"queue{uuid4().hex}"
        broker = broker or stack.enter_context(valkey_server())
        own = {"TEST_HOME": str(home), "TEST_BROKER": broker, "TEST_QUEUE": queue}
        farm = Farm(
            broker=broker,
            home=home,
            env={**own, "PYTHONPATH": str(Path.cwd()), **env},
            stack=stack,
            queue=queue,
        )
        yield farm


@pytest.fixture
def own_tasks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tasks of other apps from the test's: Celery shares them with each app made later."""
    shared: set[Any] = getattr(_state, "_on_app_finalizers")  # noqa: B009 - the stubs lack it
    own = {one for one in shared if one.__module__ == builtins.__name__}
    monkeypatch.setattr(_state, "_on_app_finalizers", own)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with make_farm(tmp_path) as farm:
        yield farm


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm with one ordinary worker, for tests that leave it as it was."""
    with make_farm(tmp_path_factory.mktemp("farm")) as farm:
        farm.worker()
        yield farm
