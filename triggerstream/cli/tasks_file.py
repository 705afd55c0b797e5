"""Tasks files as commands read them."""

from __future__ import annotations

from pathlib import Path

from triggerstream.core.errors import UsageError
from triggerstream.core.tasks import Configuration
from triggerstream.wire import tasksfile


def load(path: Path) -> Configuration:
    """The configuration in ``path``.

    Raises:
        UsageError: it cannot be read.
        ConfigError: it cannot be used.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    return tasksfile.read(content, name=str(path))
