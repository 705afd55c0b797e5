"""The Kafka of ``make kafka-up``: ``python -m tests.support.kafka up | down | status``.

It listens on 127.0.0.1:9092 and keeps its data in ``.kafka/server`` until that folder is removed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

import click

from tests.support.kafka.server import (
    HOME,
    ROOT,
    STOP_TIMEOUT_S,
    KafkaServer,
    KafkaStartError,
    KafkaUnavailableError,
    answers,
    missing,
)
from tests.support.ports import HOST

PORT = 9092
FOLDER = HOME / "server"
PID = FOLDER / "pid"
ADDRESS = f"{HOST}:{PORT}"


def up() -> str:
    """Start the server unless it runs."""
    if (pid := _running()) is not None and answers(HOST, PORT):
        return f"Kafka already runs on {ADDRESS}, process {pid}"
    if answers(HOST, PORT):
        raise KafkaStartError(f"another Kafka listens on {ADDRESS}: end it, or use it as it is")
    if (lacking := missing()) is not None:
        raise KafkaUnavailableError(f"lacking: {lacking}")
    click.echo("Starting Kafka: some seconds, and half a minute the first time", err=True)
    server = KafkaServer(FOLDER, port=PORT, controller_port=PORT + 1, keep_running=True, optimised=True)
    server.start()
    PID.write_text(f"{server.pid}\n")
    log = server.log.relative_to(ROOT)
    return f"Kafka runs on {ADDRESS}, process {server.pid}; log: {log}; to end it: make kafka-down"


def down() -> str:
    """End the server, by its own process id."""
    pid = _running()
    if pid is None:
        PID.unlink(missing_ok=True)
        return "Kafka does not run"
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while _running() is not None:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    PID.unlink(missing_ok=True)
    return f"Kafka ended; its data stay in {FOLDER.relative_to(ROOT)}"


def status() -> str:
    """Say whether it runs.

    Raises:
        KafkaStartError: it does not.
    """
    pid = _running()
    if pid is None or not answers(HOST, PORT):
        raise KafkaStartError("Kafka does not run" if pid is None else f"process {pid} does not answer")
    return f"Kafka runs on {ADDRESS}, process {pid}"


def _running() -> int | None:
    """The server's process id, if that process is still this server and not another that got its number."""
    if not PID.exists():
        return None
    pid = int(PID.read_text())
    shown = subprocess.run(
        ["ps", "-ww", "-o", "stat=,args=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return pid if str(FOLDER / "server.properties") in shown and not shown.startswith("Z") else None


@click.command()
@click.argument("action", type=click.Choice(["up", "down", "status"]))
def main(action: str) -> None:
    """Start the server, end it, or say whether it runs."""
    try:
        click.echo({"up": up, "down": down, "status": status}[action]())
    except (KafkaUnavailableError, KafkaStartError) as exc:
        raise click.ClickException(str(exc)) from exc


if __name__ == "__main__":
    main()
