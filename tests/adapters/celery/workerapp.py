"""The Celery app of the tests' workers: an ordinary one, and `install`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from celery import Celery, Task, chain, chord, group
from celery.exceptions import Ignore, Reject
from sqlalchemy import text

from tests.adapters.celery.filelog import FileLog
from triggerstream.adapters.celery.republish import Republisher
from triggerstream.celery import Guard, RedisGuard, SqlGuard, TriggerTask, current, guarded, install
from triggerstream.core.errors import UsageError

Go: TypeAlias = dict[str, Any]
"""The arguments of the trigger `go`: what a test wants the task to do."""

HOME = Path(os.environ["TEST_HOME"])

app = Celery("workerapp", broker=os.environ["TEST_BROKER"], backend=os.environ.get("TEST_BACKEND"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("TEST_VISIBILITY", "3600")),
        "unacked_restore_interval": 0.5,
    },
    broker_connection_retry_on_startup=True,
)
app.conf.update(json.loads(os.environ.get("TEST_CONF", "{}")))
app.conf.task_default_queue = os.environ.get("TEST_QUEUE", "celery")


def guard_at(address: str) -> Guard | None:
    if not address:
        return None
    lease_s = float(os.environ.get("TEST_LEASE", "30"))
    return (
        RedisGuard(address, lease_s=lease_s)
        if address.startswith("redis")
        else SqlGuard(address, lease_s=lease_s)
    )


install(
    app,
    None if os.environ.get("TEST_LOG") == "address" else FileLog(HOME / "log"),
    guard=guard_at(os.environ.get("TEST_GUARD", "")),
    outcome_timeout_s=float(os.environ.get("TEST_OUTCOME_TIMEOUT", "10")),
    allow_loss=json.loads(os.environ.get("TEST_ALLOW_LOSS", "false")),
)


if crashes := int(os.environ.get("TEST_DIE_AFTER_SENDING_ANEW", "0")):
    send = Republisher.send

    def send_and_die(self: Republisher, message: Any, **options: Any) -> None:  # noqa: ANN401 - its own
        send(self, message, **options)
        if note("anew") <= crashes:
            os.kill(os.getpid(), signal.SIGKILL)

    Republisher.send = send_and_die  # type: ignore[method-assign]  # the worker dies between two steps


def note(what: str) -> int:
    """One more line in the file ``what``; how many there are now."""
    with (HOME / what).open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    return len((HOME / what).read_text().splitlines())


def wait_for(what: str) -> None:
    while not (HOME / what).exists():
        time.sleep(0.01)


@app.task
def echo(**triggers: object) -> object:
    context = current()
    assert context is not None
    return {
        "kwargs": triggers,
        "session": context.session,
        "task": context.task,
        "instance": context.instance,
        "command": context.command,
        "attempt": context.attempt,
        "retries": context.retries,
        "causes": [[cause.trigger, cause.offset, cause.id] for cause in context.causes],
        "trigger_kwargs": dict(context.trigger_kwargs),
    }


@app.task(bind=True)
def request_of(self: Task[Any, Any], /, **_: object) -> object:
    return {"id": self.request.id, "retries": self.request.retries}


@app.task
def outside() -> None:
    (HOME / "outside").write_text(repr(current()))


@app.task
def fail(**_: object) -> None:
    note("failed")
    raise ValueError("no good")


class Unreadable(dict[str, object]):
    def items(self) -> Any:  # noqa: ANN401 - never returns
        raise ValueError("its database is gone")


@app.task
def sub(name: str) -> None:
    note(name)


@app.task
def canvas(go: Go) -> object:
    kind = go["kind"]
    one = sub.si(f"sub-{kind}")
    made: dict[str, Callable[[], object]] = {
        "signature": lambda: one,
        "chain": lambda: chain(one, one),
        "group": lambda: group([one, one]),
        "chord": lambda: chord([one], one),
        "within": lambda: {"next": [one]},
        "result": one.apply_async,
        "group result": group([one, one]).apply_async,
    }
    return made[kind]()


class Size(str, Enum):  # noqa: UP042 - the form in question: `str(Size.SMALL)` is "Size.SMALL"
    SMALL = "s"


@app.task
def odd(go: Go) -> object:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    return {
        "object": object(),
        "nan": {"a": [float("nan")]},
        "big": 2**63,
        "deep": deep,
        "long": "x" * 300_000,
        "surrogate": "\ud800",
        "key": {(1, 2): 1},
        "enum": {"size": Size.SMALL},
        "unreadable": Unreadable(),
    }[go["kind"]]


@app.task
def slow(go: Go, **_: object) -> str:
    note(f"{go['name']}.begun")
    wait_for(f"{go['name']}.go")
    note(f"{go['name']}.done")
    return "done"


@app.task
def killed(go: Go) -> str:
    if note(go["name"]) <= go["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task
def raises(go: Go) -> None:
    note(go["name"])
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "CancelledError": asyncio.CancelledError("by nobody"),
        "MemoryError": MemoryError("too big"),
    }[go["kind"]]


@app.task
def dies(go: Go) -> object:
    """Ends its process, the first ``times``."""
    time.sleep(go.get("pauses", 0))
    if note(go["name"]) <= go["times"]:
        if go.get("by") == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    return returned(go, "survived")


def returned(go: Go, otherwise: str) -> object:
    """A result that cannot be reported, where a test asks for one."""
    match go.get("returns"):
        case "object":
            return object()
        case "signature":
            return sub.si(f"sub-{go['name']}")
    return otherwise


@app.task(rate_limit="1/h")
def seldom(go: Go) -> int:
    return note(go["name"])


class ExitsBefore(Task[Any, Any]):
    abstract = True

    def before_start(self, *_: object) -> None:
        raise SystemExit(3)


@app.task(base=ExitsBefore)
def exits_before(**_: object) -> None:
    note("exits_before")


@app.task(bind=True)
def celery_retries(self: Task[Any, Any], go: Go) -> int:
    note(go["name"])
    if self.request.retries < go["times"]:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task(bind=True, max_retries=1)
def celery_gives_up(self: Task[Any, Any], go: Go) -> None:
    note(go["name"])
    raise self.retry(countdown=0, exc=ValueError("again and again"))


@app.task(autoretry_for=(ValueError,), retry_kwargs={"max_retries": 2, "countdown": 0})
def celery_autoretries(go: Go) -> str:
    if note(go["name"]) <= go["times"]:
        raise ValueError("not yet")
    return "at last"


@app.task
def ignores(**_: object) -> None:
    raise Ignore("nothing to see")


@app.task
def rejects(go: Go) -> str:
    if note(go["name"]) <= go.get("times", 1):
        raise Reject("not now", requeue=go["requeue"])
    return "taken"


@app.task(soft_time_limit=1)
def too_slow_soft(**_: object) -> None:
    time.sleep(60)


@app.task(time_limit=1)
def too_slow_hard(**_: object) -> None:
    time.sleep(60)


class Calls(Task[Any, Any]):
    abstract = True

    def __call__(self, *args: object, **kwargs: object) -> object:
        return {"called": super().__call__(*args, **kwargs)}


@app.task(base=Calls)
def called(**triggers: object) -> object:
    return triggers


class FailsBefore(Task[Any, Any]):
    abstract = True

    def before_start(self, *_: object) -> None:
        raise RuntimeError("not even begun")


@app.task(base=FailsBefore)
def never_begun(**_: object) -> None:
    note("never")


@app.task(base=TriggerTask, bind=True)
def skips(self: TriggerTask) -> None:
    note("skips")
    self.context.skip(self.context.trigger_kwargs["go"])


@app.task(base=TriggerTask, bind=True, max_retries=2)
def retries(self: TriggerTask, go: Go) -> int:
    if self.request.retries < go["times"]:
        self.context.retry(after_s=1.5, kwargs={"go": {"times": go["times"], "again": True}})
    return int(self.request.retries)


@app.task(base=TriggerTask, bind=True)
def fires(self: TriggerTask, go: Go) -> str:
    self.context.fire("progress", {"percent": 50})
    self.context.fire("progress", {"percent": 100})
    self.context.fire("other")
    if note(go["name"]) <= go["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        self.context.fire("triggerstream.task.finished")
    except UsageError as exc:
        return str(exc)
    return "fired"


# ---- effects ----


def effect(name: str) -> None:
    context = current()
    assert context is not None
    context.connection.execute(
        text("INSERT INTO effects VALUES (:name, :command)"), {"name": name, "command": context.command}
    )


@app.task
def takes_effect(go: Go) -> object:
    """One row; dies where it is told to, the first ``times``."""
    first = note(go["name"]) <= go.get("times", 0)
    if first and go["dies"] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    effect(go["name"])
    time.sleep(go.get("pauses", 0))
    if first and go["dies"] == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    if go.get("waits"):
        wait_for(f"{go['name']}.go")
    if go.get("fails"):
        raise ValueError("after the effect")
    if go.get("commits"):
        context = current()
        assert context is not None
        context.connection.commit()
    return returned(go, "effected")


@app.task(bind=True)
def effect_then_retry(self: Task[Any, Any], go: Go) -> str:
    effect(go["name"])
    if self.request.retries < 1:
        raise self.retry(countdown=0)
    return "effected"


@app.task
@guarded(None)
def unguarded(go: Go) -> int:
    return note(go["name"])


@app.task
def counts(go: Go) -> int:
    """An effect without a connection."""
    return note(go["name"])
