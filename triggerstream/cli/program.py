"""The command line: its commands, imported when they are run, and the printing of errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from triggerstream.cli.streams import OUTPUT, discard_errors, discard_output, prepare_streams
from triggerstream.core.errors import TriggerstreamError

_COMMANDS: dict[str, str] = {
    "demo": "Run the demonstration on this machine, some seconds.",
    "dev": "Run a tasks file: engine, HTTP intake and Celery worker.",
    "worker": "Run a worker: fold events from Kafka, decide commands.",
    "bridge": "Run a bridge: hand commands from Kafka to Celery.",
    "workers": "List workers and bridges, and remove a dead one.",
    "fire": "Fire one trigger for a session.",
    "topics": "Create, check and repair the topics in Kafka.",
    "config": "Check, apply, show and compare tasks files.",
    "simulate": "Print what a tasks file decides for given events.",
    "backtest": "Compare what two tasks files decide for past events.",
    "test": "Run the tests in a tasks file.",
    "replay": "Check stored sessions against the log, or rebuild them.",
    "doctor": "Check that everything an engine needs is there.",
    "sessions": "List, explain, close, erase and export sessions.",
    "instances": "Skip, replay, cancel, resend or release instances.",
    "deadletters": "List, show and redrive records that could not be processed.",
}
"""The line of each command in ``--help``; ``cli.commands`` has a module for each, which has a function of its
name. No module is imported to answer ``--help``."""

_UNUSABLE = 2
_INTERRUPTED = 130


class Program(click.Group):
    """A group that imports a command when it is run, and prints every error in one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"triggerstream.cli.commands.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{_did_you_mean(args[0])}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([*_COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command; if the reader of its output has closed it, end quietly."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click would leave the unwritten output in the buffer, and Python's exit would fail to write it.
            discard_output()
            return 0

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:  # noqa: ANN401
        """Run the command and exit: 0 done, 1 the answer is no, 2 wrong usage or unusable input."""
        extra["standalone_mode"] = False
        prepare_streams()
        try:
            status = super().main(args, *rest, **extra)
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as exc:
            click.echo(exc.ctx.get_help(), err=True)
            status = _UNUSABLE
        except click.ClickException as exc:
            status = _print_error(_usage(exc))
        except TriggerstreamError as exc:
            status = _print_error(str(exc))
        except ModuleNotFoundError as exc:
            status = _print_error(_missing_package(exc))
        except BrokenPipeError:
            # The reader of the output has closed it. Python must not find the pipe broken again at exit.
            discard_output()
            status = 0
        except OSError as exc:
            status = _print_error(_system_error(exc))
        except (click.Abort, KeyboardInterrupt):
            status = _INTERRUPTED
        sys.exit(status if isinstance(status, int) else 0)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="triggerstream", prog_name="triggerstream")
def main() -> None:
    """Fire Celery tasks when the triggers of a session have arrived."""


def _print_error(message: str) -> int:
    from triggerstream.cli.printing import print_line  # imported only when needed

    try:
        print_line(" ".join(message.split("\n")), err=True)
    except OSError:
        # Nobody can read it: the status says that the command failed.
        discard_errors()
    return _UNUSABLE


def _system_error(exc: OSError) -> str:
    if exc.filename == OUTPUT:
        discard_output()
    return f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc)


def _missing_package(exc: ModuleNotFoundError) -> str:
    """The error for a package that one of our extras brings; any other one is a fault of the program."""
    from triggerstream.core import advice

    extra = advice.extra_of(exc.name)
    if exc.name is None or extra is None:
        raise exc
    return f"the package {exc.name} is not installed: {advice.install_extra(extra)} brings it"


def _usage(exc: click.ClickException) -> str:
    message = exc.format_message().replace("\n", " ")
    context = exc.ctx if isinstance(exc, click.UsageError) else None
    if context is None:
        return message
    return f"{message} ({context.command_path} --help says more)"


def _did_you_mean(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, _COMMANDS, n=1)
    return f": did you mean {near[0]!r}?" if near else f": there are {', '.join(_COMMANDS)}"
