"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from triggerstream import variables
from triggerstream.cli.parameters import Duration, LostOffsets
from triggerstream.core.errors import UsageError
from triggerstream.settings import (
    DEFAULT_APP,
    DEFAULT_DIRECTORY,
    Address,
    KafkaAddress,
    kafka_address,
    locate,
)

_F = TypeVar("_F", bound=Callable[..., Any])


def _name_kafka_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Set the environment variable while the command runs, because every client reads it."""
    if path is None:
        return
    before = os.environ.get(variables.KAFKA_CONFIG)
    os.environ[variables.KAFKA_CONFIG] = str(path.absolute())

    def undo() -> None:
        if before is None:
            os.environ.pop(variables.KAFKA_CONFIG, None)
        else:
            os.environ[variables.KAFKA_CONFIG] = before

    ctx.call_on_close(undo)


kafka_config_option = click.option(
    "--kafka-config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    envvar=variables.KAFKA_CONFIG,
    show_envvar=True,
    expose_value=False,
    callback=_name_kafka_config,
    help="TLS and SASL for Kafka, as JSON; docs/kafka.md has the members.",
)


def at_option(command: _F) -> _F:
    """The options of a command that reads an app: its address, and how Kafka is reached."""
    where = "sqlite:///path/to/triggerstream.db, kafka://127.0.0.1:9092/app"
    return _place_option("--at", "--dir", where=where)(kafka_config_option(command))


class _AddressOrMoment(click.ParamType):
    """An address, or a moment: the number of an event, or an instant."""

    name = "address or moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401, ARG002
        from triggerstream.engine.queries.past import parse_moment

        return value if (moment := parse_moment(value)) is None else moment

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]  # a path may have blanks


def at_and_moment_option(command: _F) -> _F:
    """``at_option`` that may be given twice: ``moment`` is the ``--at`` that names a moment, if one does."""

    @click.option(
        "--at",
        "--dir",
        "given",
        type=_AddressOrMoment(),
        multiple=True,
        metavar="WHERE|EVENT|TIME",
        envvar=variables.AT,
        show_envvar=True,
        default=(DEFAULT_DIRECTORY,),
        show_default=True,
        help="A state directory, or an address: sqlite:///path/to/triggerstream.db, "
        "kafka://127.0.0.1:9092/app. Also, alone or given a second time, the number of an event or an "
        "instant such as 2026-03-01T12:00:00Z: the session is shown as it was then. (A directory whose name "
        "is a number: ./42.)",
    )
    @wraps(command)
    def with_moment(*, given: tuple[Any, ...], **rest: Any) -> Any:  # noqa: ANN401 - what a command returns
        addresses = [one for one in given if isinstance(one, str)]
        moments = [one for one in given if not isinstance(one, str)]
        if len(moments) > 1 or len(addresses) > 1:
            raise UsageError("--at: give one place and one moment at most")
        at = addresses[0] if addresses else os.environ.get(variables.AT) or DEFAULT_DIRECTORY
        return command(at=at, moment=moments[0] if moments else None, **rest)

    return cast("_F", kafka_config_option(with_moment))


def to_option(command: _F) -> _F:
    """The options of a command that appends to an app, over HTTP too."""
    where = "sqlite:///path/to/triggerstream.db, http://127.0.0.1:8777, kafka://127.0.0.1:9092/app"
    return _place_option("--to", "--at", "--dir", where=where)(kafka_config_option(command))


def _place_option(*names: str, where: str) -> Callable[[_F], _F]:
    return click.option(
        *names,
        "at",
        metavar="WHERE",
        envvar=variables.AT,
        show_envvar=True,
        default=DEFAULT_DIRECTORY,
        show_default=True,
        help=f"A state directory, or an address: {where}.",
    )


def seen_at_option(command: _F) -> _F:
    """The options of a check that compares a file with an app only if one is named; no variable names it."""
    at = click.option(
        "--at",
        metavar="WHERE",
        help="A state directory, or an address: warn of triggers that no session kept there has seen.",
    )
    return at(kafka_config_option(command))


def skip_option(command: _F) -> _F:
    """The option for offsets that an operator has declared lost."""
    return click.option(
        "--skip",
        "lost",
        metavar="PARTITION:FROM-TO",
        type=LostOffsets(),
        multiple=True,
        help="Lost offsets: if they cannot be read, skip them and write one dead letter. May be repeated.",
    )(command)


def state_directory_option(command: _F) -> _F:
    """The option of a command that keeps its state in a directory of this machine."""
    return click.option(
        "--dir",
        "--at",
        "at",
        metavar="DIRECTORY",
        envvar=variables.AT,
        show_envvar=True,
        default=DEFAULT_DIRECTORY,
        show_default=True,
        help="Directory for its state.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


def kafka_at_option(command: _F) -> _F:
    """The options of a command that works on apps in Kafka only: the app's address, and how Kafka is reached.

    ``at`` is None if neither the option nor the environment names an address.
    """
    return click.option(
        "--at",
        metavar="ADDRESS",
        envvar=variables.AT,
        show_envvar=True,
        help="The app's address: kafka://127.0.0.1:9092/app.",
    )(kafka_config_option(command))


def kafka_app_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name an app in Kafka, of a process that works on it: passed on as ``address``."""

    @wraps(command)
    def with_address(
        *arguments: object, at: str | None, kafka: str | None, app: str, **others: object
    ) -> None:
        command(*arguments, address=_kafka_app(at, kafka, app), **others)

    decorated: Callable[..., None] = with_address
    for option in (
        click.option(
            "--app",
            default=DEFAULT_APP,
            show_default=True,
            help="With --kafka: the app's name, with which its topics begin.",
        ),
        click.option(
            "--kafka",
            metavar="HOST:PORT",
            envvar=variables.KAFKA,
            show_envvar=True,
            help="Instead of --at: a broker of the cluster, or several with commas between them.",
        ),
        kafka_at_option,
    ):
        decorated = option(decorated)
    return decorated


def _kafka_app(at: str | None, kafka: str | None, app: str) -> KafkaAddress:
    """The address that ``--at``, or ``--kafka`` and ``--app``, name for the current command.

    An argument counts more than the environment; there, the brokers count more than the address, which may be
    that of a state directory.

    Raises:
        UsageError: they name no app in Kafka, or more than one.
    """
    context = click.get_current_context()
    given = {
        name
        for name in ("at", "kafka", "app")
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    if "at" in given and len(given) > 1:
        raise UsageError("--at names the brokers and the app: leave out --kafka and --app")
    if kafka is not None and "at" not in given:
        return kafka_address(kafka, app)
    address = None if at is None else locate(at)
    if not isinstance(address, KafkaAddress):
        raise no_kafka(address, f"a {context.info_name} works on an app in Kafka")
    if "app" in given:
        raise UsageError(f"{variables.AT} names the app already: leave out --app, or add --kafka")
    return address


def no_kafka(address: Address | None, why: str) -> UsageError:
    """The error of a command for apps in Kafka if ``address`` is none of them; ``why``: the reason."""
    named = "" if address is None else f"{address}: "
    return UsageError(f"{named}{why}: name one with --at kafka://HOST:PORT/APP or {variables.AT}")


def session_timeout_option(others: str) -> Callable[[_F], _F]:
    """The option for the silence after which the partitions of a process go to ``others``."""
    return click.option(
        "--session-timeout",
        "session_timeout_us",
        type=Duration(),
        default="30s",
        show_default=True,
        help=f"After this time without a heartbeat, its partitions go to other {others}.",
    )


def probes_options(command: _F) -> _F:
    """The options of a process that answers probes."""
    for option in (
        click.option(
            "--stuck-after",
            "stuck_us",
            type=Duration(),
            default="5m",
            show_default=True,
            help="/livez fails if a partition with records to read makes no progress for this time.",
        ),
        click.option(
            "--probes-host", default="127.0.0.1", show_default=True, help="Address of the port for probes."
        ),
        click.option(
            "--probes-port",
            type=click.IntRange(0, 65535),
            help="Port for /livez, /startedz, /readyz and /metrics; 0 for a free one. Default: no port.",
        ),
    ):
        command = option(command)
    return command


def web_options(command: _F) -> _F:
    """The options of a worker's pages."""
    for option in (
        click.option("--without-web", is_flag=True, help="Serve no pages."),
        click.option(
            "--web-url",
            metavar="URL",
            help="Address at which other workers reach its pages, if not --web-host and --web-port.",
        ),
        click.option(
            "--web-public-url",
            metavar="URL",
            help="Address that browsers use for its pages, if a proxy with TLS serves them.",
        ),
        click.option(
            "--peer-key",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="File with a key, 32 bytes, the same for all workers: each then shows the sessions of all.",
        ),
        click.option(
            "--web-tokens",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Tokens for its pages: a file of lines viewer:TOKEN or operator:TOKEN. Loopback needs none.",
        ),
        click.option(
            "--web-port",
            type=click.IntRange(0, 65535),
            help="Port of its pages; 0 for a free one. By default 6066, or a free one if that is taken.",
        ),
        click.option(
            "--web-host", default="127.0.0.1", show_default=True, help="Address of the port for its pages."
        ),
    ):
        command = option(command)
    return command
