"""The environment that tests inherit, and hand on to the processes that they start."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, MutableMapping

CLUSTER = "TRIGGERSTREAM_KAFKA"
"""Names the variable with the ``host:port`` of a cluster to use in place of an own server."""
CHROMIUM = "TRIGGERSTREAM_CHROMIUM"
"""Names the variable with the path of a Chromium to use in place of the system's."""
SHOTS = "TRIGGERSTREAM_SHOTS"
"""Names the variable with a directory that screenshots go to; without it, none are taken."""
_FOR_TESTS = frozenset({CLUSTER, CHROMIUM, SHOTS})
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_SETTINGS = ("MAKE", "MFLAGS", "TRIGGERSTREAM_", "CELERY_")


def forget_settings(environment: MutableMapping[str, str]) -> None:
    """Remove what `make` sets for its recipes, and a developer's settings of the program and of Celery.

    A process that a test starts would do something else because of them.
    """
    for name in [name for name in environment if name.startswith(_SETTINGS) and name not in _FOR_TESTS]:
        del environment[name]


def keep_bytecode(environment: MutableMapping[str, str]) -> None:
    """Have this process, and those that it starts, keep what they compile, whatever the environment says.

    A worker compiles 180 modules otherwise: 0.45 of 1.6 s of processor time, at each of hundreds of starts.
    Each process of a run rewrites the assertions of 300 files, which takes it 20 s.
    """
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def trust_no_authority(environment: MutableMapping[str, str]) -> None:
    """Have processes find no certificates of public authorities, which no server of a test has.

    Each process that imports aiohttp reads them: that takes 0.06 of 0.7 s of a worker's start.
    """
    for name in _AUTHORITIES:
        environment.setdefault(name, os.devnull)


def with_authorities(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` for a tool that downloads something."""
    return {
        name: value for name, value in environment.items() if name not in _AUTHORITIES or value != os.devnull
    }


def heed_interrupts() -> None:
    """Take SIGINT again where it was inherited as ignored, as in a background process of a shell.

    A process that a test starts would ignore it, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
