"""A real PostgreSQL server, from the system's package, on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_UNPRIVILEGED = "nobody"


def postgres_bin() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``: on the PATH, or Debian's folder for them."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return candidates[-1].parent if candidates else None


@contextmanager
def postgres_server() -> Iterator[str]:
    """The SQLAlchemy URL of a server of one's own; skips where there is no PostgreSQL to run."""
    binaries = postgres_bin()
    if binaries is None:
        pytest.skip("waits for PostgreSQL: no initdb found (Debian: apt-get install postgresql)")
    # A short path: a socket's name has at most 107 bytes. PostgreSQL refuses to run as root.
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    if user is not None:
        os.chown(home, pwd.getpwnam(user).pw_uid, -1)
    data = home / "data"

    def run(*command: str) -> None:
        subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            check=True,
            user=user,
            cwd=home,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )

    try:
        run("initdb", "-D", str(data), "-U", "tests", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
        run("pg_ctl", "-D", str(data), "-l", str(home / "log"), "-o", options, "-w", "start")
        try:
            yield f"postgresql+psycopg://tests@/postgres?host={home}"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
