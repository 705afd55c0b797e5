"""Tasks files as commands read them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from triggerstream.core.errors import ConfigError, Finding, UsageError
from triggerstream.core.tasks import Configuration
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.wire.tasksfile import Check, check

_SCHEMA: Final = "tasks.schema.json"


def schema_text() -> str:
    """The JSON schema of the tasks file: a wheel holds it, beside a source tree it stands in ``schemas``."""
    packaged = files("triggerstream") / _SCHEMA
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "schemas" / _SCHEMA).read_text(encoding="utf-8")


def load(path: Path, configurations: ConfigurationCache | None = None) -> Configuration:
    """The configuration in ``path``, which ``configurations`` then has.

    Raises:
        UsageError: it cannot be read.
        ConfigError: it cannot be used.
    """
    return load_with_findings(path, configurations)[0]


def load_with_findings(
    path: Path, configurations: ConfigurationCache | None = None, *, further: Iterable[Check] = ()
) -> tuple[Configuration, Sequence[Finding]]:
    """The configuration in ``path``, and the warnings about it; ``further`` checks may find more.

    Raises:
        UsageError: it cannot be read.
        ConfigError: it cannot be used.
    """
    content = read_content(path)
    config, findings = usable(content, path, further=further)
    if configurations is not None:
        configurations.add(config)
    return config, findings


def read_content(path: Path) -> bytes:
    """The bytes of a tasks file; ``-`` is standard input.

    Raises:
        UsageError: it cannot be read.
    """
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc


def usable(
    content: bytes, path: Path, *, further: Iterable[Check] = ()
) -> tuple[Configuration, Sequence[Finding]]:
    """The configuration in ``content``, the bytes of ``path``, and the warnings about it.

    Raises:
        ConfigError: it cannot be used.
    """
    config, findings = check(content, name=str(path), further=further)
    if config is None:
        raise ConfigError(str(path), findings)
    return config, findings
