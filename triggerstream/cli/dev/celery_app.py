"""The user's Celery app: found by its name, and its worker run in this process.

    python -m triggerstream.cli.dev.celery_app MODULE:APP [WORKER ARGUMENT …]

is the worker process of `dev`: it sees to it that the app reports to the log of `dev`, and runs the worker.
The environment says where: see :class:`triggerstream.cli.dev.runtime.Worker`.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from triggerstream import variables
from triggerstream.core.errors import TriggerstreamError, UsageError
from triggerstream.core.printable import escape
from triggerstream.wire.tasksfile import Check, Parameters, check_executor

UNUSABLE = 2
"""The worker's exit status where trying again is of no use."""


class CeleryApp(Protocol):
    """The part of a Celery app that `dev` needs."""

    main: str | None
    conf: Any
    amqp: Any

    def worker_main(self, argv: list[str]) -> None:
        """Run a worker until it is stopped."""


def load_app(spec: str) -> CeleryApp:
    """The Celery app that ``module:attribute`` names; of a module alone its ``app``, else its ``celery``.

    Raises:
        UsageError: there is none; the message says where it went wrong.
    """
    name, _, attribute = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as exc:  # a module may call sys.exit, such as one that is a program
        missing = isinstance(exc, ModuleNotFoundError) and exc.name in {name, name.partition(".")[0]}
        where = f"; looked in {Path.cwd()} and the installed packages" if missing else f" ({_place(exc)})"
        raise UsageError(f"--celery {spec}: {_described(exc)}{where}") from exc
    for candidate in [attribute] if attribute else ["app", "celery"]:
        found = getattr(module, candidate, None)
        if found is not None and hasattr(found, "worker_main") and hasattr(found, "conf"):
            return cast("CeleryApp", found)
    wanted = attribute or "`app` or `celery`"
    raise UsageError(f"--celery {spec}: {name} has no Celery app named {wanted}: write module:attribute")


def _described(exc: BaseException) -> str:
    # The text of a SyntaxError has the name of its file, without the directory.
    said = exc.msg if isinstance(exc, SyntaxError) else str(exc)
    return f"{type(exc).__name__}: {said}" if said else type(exc).__name__


def _place(exc: BaseException) -> str:
    """The application's own line at which an import failed, not that of a library."""
    if isinstance(exc, SyntaxError) and exc.filename is not None and Path(exc.filename).is_file():
        return f"{exc.filename}:{exc.lineno}"
    frames = traceback.extract_tb(exc.__traceback__)
    own = [frame for frame in frames if _is_of_project(Path(frame.filename))]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def _is_of_project(file: Path) -> bool:
    """True for a file below the working directory, without packages that are installed there."""
    return file.is_relative_to(Path.cwd()) and "site-packages" not in file.parts


def executor_check(specs: Sequence[tuple[str, CeleryApp]], *, severity: Literal["error", "warning"]) -> Check:
    """The check of a file's tasks against all tasks of Celery apps, each with the name that it was given.

    Raises:
        UsageError: a module with tasks that an app names cannot be imported.
    """
    from triggerstream import bootstrap

    tasks: dict[str, Parameters | None] = {}
    for spec, app in specs:
        try:
            tasks |= bootstrap.celery_parameters(app)
        except (Exception, SystemExit) as exc:
            raise UsageError(f"--celery {spec}: its tasks: {_described(exc)} ({_place(exc)})") from exc
    where = f"the app{'s' if len(specs) > 1 else ''} {', '.join(spec for spec, _ in specs)}"
    return partial(check_executor, tasks=tasks, where=where, severity=severity)


def main(arguments: list[str]) -> int:
    """Run the worker."""
    spec, *rest = arguments
    try:
        app = load_app(spec)
        broker = os.environ.get(variables.DEV_BROKER)
        if broker:
            use_broker(app, broker)
        _install(app)
    except TriggerstreamError as exc:
        print(escape(str(exc)), file=sys.stderr)  # noqa: T201 - for the user who started this
        return UNUSABLE
    warnings.filterwarnings("ignore", message="\\s*You're running the worker with superuser privileges")
    queues = [*app.amqp.queues, *filter(None, os.environ.get(variables.DEV_QUEUES, "").split(","))]
    app.worker_main(["--quiet", "worker", "--queues", ",".join(dict.fromkeys(queues)), *rest])
    return 0


def _install(app: CeleryApp) -> None:
    """Install reporting with settings that lose nothing, unless the app installs it itself."""
    from triggerstream.celery import install

    try:
        install(cast("Any", app))
    except UsageError:
        return  # the app's module calls `install` itself, with its own settings
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
    )


def use_broker(app: CeleryApp, url: str) -> None:
    """Make ``app`` use the broker at ``url`` for everything."""
    app.conf.broker_url = app.conf.broker_read_url = app.conf.broker_write_url = url


def own_broker(app: CeleryApp) -> str | None:
    """The broker that ``app`` is configured to use; None if none is configured."""
    return app.conf.broker_write_url or app.conf.broker_url or os.environ.get(variables.CELERY_BROKER)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
