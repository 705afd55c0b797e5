"""Tasks files as commands read them."""

from __future__ import annotations

from pathlib import Path

from triggerstream.core.errors import UsageError
from triggerstream.core.tasks import Configuration
from triggerstream.engine.configuration_cache import ConfigurationCache


def load(path: Path, configurations: ConfigurationCache | None = None) -> Configuration:
    """The configuration in ``path``, parsed unless ``configurations`` has it.

    Raises:
        UsageError: it cannot be read.
        ConfigError: it cannot be used.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    return (configurations or ConfigurationCache()).read(content, name=str(path))
