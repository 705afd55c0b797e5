"""The command `worker`: the Kafka engine's process that folds."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from triggerstream.cli.console_log import console_handler
from triggerstream.cli.options import (
    kafka_app_options,
    probes_options,
    session_timeout_option,
    skip_option,
    web_options,
)
from triggerstream.core.errors import UsageError
from triggerstream.engine.checkpoint import LostRange
from triggerstream.engine.process_output import write_process_line
from triggerstream.settings import DEFAULT_DIRECTORY, KafkaAddress
from triggerstream.supervision.child import Supervision


@click.command()
@kafka_app_options
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Directory for its copy of the states. Each worker needs a directory of its own.",
)
@session_timeout_option("workers")
@click.option(
    "--instance-id",
    metavar="NAME",
    help="Its name in the group; random without this option. With it, a restarted worker need not wait "
    "until its old session times out.",
)
@click.option(
    "--stay",
    is_flag=True,
    help="Stay in the group at an orderly end: its partitions wait until its session times out. For rolling "
    "restarts; needs --instance-id.",
)
@skip_option
@web_options
@probes_options
@click.option("-v", "--verbose", is_flag=True, help="Log more, libraries included.")
@click.pass_obj
def worker(
    supervision: Supervision | None,
    *,
    address: KafkaAddress,
    directory: Path,
    web_host: str,
    web_port: int | None,
    web_tokens: Path | None,
    web_url: str | None,
    web_public_url: str | None,
    peer_key: Path | None,
    without_web: bool,
    session_timeout_us: int,
    instance_id: str | None,
    stay: bool,
    lost: tuple[LostRange, ...],
    probes_host: str,
    probes_port: int | None,
    stuck_us: int,
    verbose: bool,
) -> None:
    """Fold the events of an app into sessions, and decide commands.

    Start as many as you need: they share the partitions. A small supervisor runs the worker as its child
    process, and restarts it after a failure once Kafka is available. Exit status: 0 after SIGTERM or SIGINT,
    with all work in progress durable; 2 if you must repair something first; 70 or 75 if the child fails
    repeatedly although Kafka is available.
    """
    from triggerstream import bootstrap
    from triggerstream.engine.health.liveness import PublishedHealth
    from triggerstream.web.view import PageSettings

    if stay and instance_id is None:
        raise UsageError(
            "--stay: a worker that stays in the group must come back under the same name: add --instance-id"
        )
    supervision = supervision or Supervision()
    supervision.connecting(address.bootstrap)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        handlers=[console_handler()],
    )
    owned = bootstrap.own_worker_directory(directory, address.app)
    web_parts = None
    if not without_web:
        pages = PageSettings(
            app=address.app,
            host=web_host,
            directory=directory,
            port=web_port,
            tokens=web_tokens,
            peer_key=peer_key,
            url=web_url,
            public_url=web_public_url,
            lasting=instance_id is not None,
        )
        web_parts = bootstrap.web_parts(pages, supervision=supervision)
    health = PublishedHealth(stuck_s=stuck_us / 1_000_000)
    answering = bootstrap.probes(
        health, host=probes_host, port=probes_port, supervision=supervision, store=directory
    )
    with owned, answering as url:
        if url is not None:
            write_process_line("worker", f"probes and metrics: {url}")
        status = bootstrap.run_worker(
            address,
            directory=directory,
            session_timeout_s=session_timeout_us / 1_000_000,
            instance_id=instance_id or supervision.member,
            leaves=not stay,
            lasting=instance_id is not None,
            lost=lost,
            web_parts=web_parts,
            health=health,
            on_end=supervision.ending,
        )
    sys.exit(status)
