"""The command `worker`: the Kafka engine's process that folds."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from triggerstream import variables
from triggerstream.cli.logs import console_handler
from triggerstream.cli.options import Duration, LostOffsets, kafka_config_option, probes_options, web_options
from triggerstream.core.errors import UsageError
from triggerstream.engine.checkpoint import LostRange
from triggerstream.settings import DEFAULT_APP, DEFAULT_DIRECTORY, KafkaAddress, parse_address
from triggerstream.supervision.child import Supervision


@click.command()
@click.option(
    "--kafka",
    metavar="HOST:PORT",
    envvar=variables.KAFKA,
    show_envvar=True,
    required=True,
    help="A broker of the cluster, or several with commas between them.",
)
@kafka_config_option
@click.option("--app", default=DEFAULT_APP, show_default=True, help="The name that its topics begin with.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Where it keeps a copy of the states; a worker of its own has a directory of its own.",
)
@click.option(
    "--session-timeout",
    "session_timeout_us",
    type=Duration(),
    default="30s",
    show_default=True,
    help="After so long without a sign of life, its partitions go to other workers.",
)
@click.option(
    "--instance-id",
    metavar="NAME",
    help="Its own name in the group; random without this option. With it, a restarted worker need not wait "
    "until its old session times out.",
)
@click.option(
    "--stay",
    is_flag=True,
    help="Stay in the group at an orderly end: its partitions wait until its session times out. For rolling "
    "restarts; needs --instance-id.",
)
@click.option(
    "--skip",
    "lost",
    metavar="PARTITION:FROM-TO",
    type=LostOffsets(),
    multiple=True,
    help="Lost offsets: if they cannot be read, skip them and write one dead letter. May be repeated.",
)
@web_options
@probes_options
@click.option("-v", "--verbose", is_flag=True, help="Tell more of what happens, libraries included.")
@click.pass_obj
def worker(
    supervision: Supervision | None,
    *,
    kafka: str,
    app: str,
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
    address = parse_address(f"kafka://{kafka}/{app}")
    if not isinstance(address, KafkaAddress):
        raise UsageError(f"--kafka {kafka}: write HOST:PORT")
    from triggerstream import bootstrap
    from triggerstream.adapters.faust.app import WorkerSettings
    from triggerstream.adapters.faust.worker import run_worker, tell
    from triggerstream.engine.health.liveness import Pulse

    if stay and instance_id is None:
        raise UsageError(
            "--stay: a worker that stays in the group must come back under the same name: add --instance-id"
        )
    supervision = supervision or Supervision()
    supervision.connecting(kafka)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        handlers=[console_handler()],
    )
    owned = bootstrap.own_worker_directory(directory, address.app)
    session_timeout_s = session_timeout_us / 1_000_000
    window = None
    if not without_web:
        window = bootstrap.window(
            app=address.app,
            host=web_host,
            port=web_port,
            tokens=web_tokens,
            peer_key=peer_key,
            url=web_url,
            public_url=web_public_url,
            directory=directory,
            lasting=instance_id is not None,
            supervision=supervision,
        )
    settings = WorkerSettings(
        bootstrap=address.bootstrap,
        app=address.app,
        directory=directory,
        web_url=None if window is None else window.front.url,
        session_timeout_s=session_timeout_s,
        heartbeat_s=min(3.0, session_timeout_s / 6),
        instance_id=instance_id or supervision.member,
        leaves=not stay,
        security=bootstrap.kafka_security(),
        lost=lost,
    )
    pulse = Pulse(stuck_s=stuck_us / 1_000_000)
    answering = bootstrap.probes(
        pulse, host=probes_host, port=probes_port, supervision=supervision, store=directory
    )
    with owned, answering as url:
        if url is not None:
            tell(f"probes and metrics: {url}")
        sys.exit(run_worker(settings, pulse=pulse, window=window, on_end=supervision.ending))
