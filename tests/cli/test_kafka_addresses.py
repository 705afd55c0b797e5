"""The options that name an app in Kafka: ``--at`` for every command, ``--kafka`` and ``--app`` for two."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tests.cli.conftest import Cli
from triggerstream.cli.options import kafka_app_options
from triggerstream.core.errors import UsageError
from triggerstream.settings import KafkaAddress

BOTH = {"TRIGGERSTREAM_AT": "kafka://env:9092/shop", "TRIGGERSTREAM_KAFKA": "old:9092"}
DIRECTORY = {"TRIGGERSTREAM_AT": ".triggerstream"}


def resolved(*arguments: str, **environment: str) -> str:
    """The address that a worker or bridge works at, with these options in this environment.

    Raises:
        UsageError: the options name no app, or two.
    """
    found: list[KafkaAddress] = []

    @click.command()
    @kafka_app_options
    @click.option("--other")
    def command(*, address: KafkaAddress, other: str | None) -> None:
        assert other is None
        found.append(address)

    ran = CliRunner().invoke(command, arguments, env=environment)
    if ran.exception is not None:
        raise ran.exception
    (address,) = found
    return str(address)


def test_at_names_brokers_and_app_like_in_every_command() -> None:
    assert resolved("--at", "kafka://one:9092,two:9092/shop") == "kafka://one:9092,two:9092/shop"
    assert resolved("--at", "kafka://one:9092") == "kafka://one:9092/triggerstream"
    assert resolved(TRIGGERSTREAM_AT="kafka://env:9092/shop") == "kafka://env:9092/shop"


def test_brokers_and_app_may_be_given_apart() -> None:
    assert resolved("--kafka", "one:9092", "--app", "shop") == "kafka://one:9092/shop"
    assert resolved("--kafka", "one:9092") == "kafka://one:9092/triggerstream"
    assert resolved("--app", "shop", TRIGGERSTREAM_KAFKA="one:9092") == "kafka://one:9092/shop"
    assert resolved(TRIGGERSTREAM_KAFKA="one:9092") == "kafka://one:9092/triggerstream"


def test_an_argument_counts_more_than_the_environment() -> None:
    assert resolved("--at", "kafka://one:9092/a", **BOTH) == "kafka://one:9092/a"
    assert resolved("--kafka", "one:9092", **BOTH) == "kafka://one:9092/triggerstream"
    # As it was before these commands read TRIGGERSTREAM_AT.
    assert resolved(**BOTH) == "kafka://old:9092/triggerstream"
    assert resolved("--app", "mail", **BOTH) == "kafka://old:9092/mail"
    # A state directory there is meant for other commands.
    assert resolved("--kafka", "one:9092", **DIRECTORY) == "kafka://one:9092/triggerstream"


@pytest.mark.parametrize(
    "arguments", [("--kafka", "one:9092"), ("--app", "shop"), ("--kafka", "one:9092", "--app", "shop")]
)
def test_an_app_is_named_in_one_way(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--at names the brokers and the app: leave out --kafka and --app"):
        resolved("--at", "kafka://one:9092/shop", *arguments)


def test_an_app_named_beside_an_address_of_the_environment_is_refused() -> None:
    with pytest.raises(UsageError, match="TRIGGERSTREAM_AT names the app already: leave out --app"):
        resolved("--app", "mail", TRIGGERSTREAM_AT="kafka://env:9092/shop")


@pytest.mark.parametrize("command", ["worker", "bridge"])
@pytest.mark.parametrize("at", ["state", "sqlite:///state/triggerstream.db", "http://127.0.0.1:8777"])
def test_a_worker_needs_an_app_in_kafka(cli: Cli, command: str, at: str) -> None:
    more = ("--broker", "memory://", "--allow", "t") if command == "bridge" else ("--without-web",)
    for ran in (cli(command, "--at", at, *more), cli(command, *more, at=at)):
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "name one with --at kafka://HOST:PORT/APP or TRIGGERSTREAM_AT" in ran.err


KAFKA_ONLY = (
    ("topics", "create"),
    ("topics", "check"),
    ("topics", "rehome"),
    ("workers", "list"),
    ("workers", "remove", "w"),
    ("config", "apply", "tasks.json"),
)


@pytest.mark.parametrize("words", KAFKA_ONLY)
def test_a_command_for_kafka_alone_shows_no_default_directory(cli: Cli, words: tuple[str, ...]) -> None:
    shown = cli(*words[:2], "--help").out
    assert ".triggerstream" not in shown
    assert "kafka://127.0.0.1:9092/app" in shown
    assert "sqlite" not in shown


@pytest.mark.parametrize("words", KAFKA_ONLY)
def test_a_command_for_kafka_alone_asks_for_an_address(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli(*words, bare=True)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ".triggerstream" not in ran.err
    assert "name one with --at kafka://HOST:PORT/APP or TRIGGERSTREAM_AT" in ran.err
