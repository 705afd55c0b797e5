"""`triggerstream instances`: give orders to one instance or to many."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from triggerstream.cli.commands.sessions import STATUSES
from triggerstream.cli.opening import appending, run, viewing
from triggerstream.cli.options import at_option, json_option
from triggerstream.cli.orders import answer_fields, giver_options, not_known
from triggerstream.cli.parameters import Duration, json_value
from triggerstream.cli.printing import compact, count_of, json_line, print_line, status_text, table
from triggerstream.core.events import Cancel, Order, Release, Replay, Resend, Skip
from triggerstream.core.ids import InstanceId, SessionId, TaskName, instance_id, split_instance_id
from triggerstream.core.listing import InstanceFilter, in_status
from triggerstream.core.orders import applicable_statuses
from triggerstream.core.state import SessionState, Status
from triggerstream.present import time_words

if TYPE_CHECKING:
    from triggerstream.engine.operations.orders import Answer
    from triggerstream.engine.queries.view import View

_EXAMPLE = InstanceId("task#0")


@click.group()
def instances() -> None:
    """Skip, replay, cancel, resend or release instances: one, or many by task, status and age.

    An order is appended as an event of the session, so that its history shows who gave it and why. The
    command waits until the engine has processed it, and prints the result; the exit status is 1 if it did
    not apply.
    """


def _order(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments and options that every order has."""
    for decorate in reversed(
        [
            click.argument("session", required=False),
            click.argument("names", metavar="[INSTANCE]…", nargs=-1),
            click.option("--task", help="Every instance of this task."),
            click.option("--status", type=click.Choice(STATUSES), help="Every instance in this status."),
            click.option(
                "--older-than",
                type=Duration(),
                metavar="DURATION",
                help="Every instance that has not changed for this long.",
            ),
            click.option("--dry-run", is_flag=True, help="Only list the selected instances."),
            giver_options,
            at_option,
            json_option,
        ]
    ):
        command = decorate(command)
    return command


@instances.command()
@_order
@click.option("--cascade", is_flag=True, help="Fire the task's name as if it had returned --result.")
@click.option("--result", metavar="JSON", help="The result for --cascade.")
def skip(*, cascade: bool, result: str | None, **common: Any) -> None:  # noqa: ANN401 - see `_order`
    """Skip failed instances: they end without having succeeded."""
    if result is not None and not cascade:
        raise click.UsageError("--result is the result that --cascade passes on: give both")
    value = None if result is None else json_value(result, "--result")
    _carry_out(
        lambda instance, reason, by: Skip(
            instance=instance, cascade=cascade, result=value, reason=reason, by=by
        ),
        **common,
    )


@instances.command()
@_order
@click.option("--kwargs", metavar="JSON", help="Arguments in place of those that arrived: {trigger: data}.")
@click.option(
    "--force", is_flag=True, help="Also replay scheduled or running ones, even if `unless` is fulfilled."
)
def replay(*, kwargs: str | None, force: bool, **common: Any) -> None:  # noqa: ANN401 - see `_order`
    """Run failed instances again, as new ones."""
    value = None if kwargs is None else json_value(kwargs, "--kwargs")
    if value is not None and not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object from trigger to data", param_hint="--kwargs")
    _carry_out(
        lambda instance, reason, by: Replay(
            instance=instance, kwargs=value, force=force, reason=reason, by=by
        ),
        **common,
    )


@instances.command()
@_order
def cancel(**common: Any) -> None:  # noqa: ANN401 - see `_order`
    """Cancel instances that wait or run."""
    _carry_out(
        lambda instance, reason, by: Cancel(instance=instance, reason=reason, by=by),
        **common,
    )


@instances.command()
@_order
def resend(**common: Any) -> None:  # noqa: ANN401 - see `_order`
    """Hand over the commands of scheduled or running instances again, under the same ids."""
    _carry_out(
        lambda instance, reason, by: Resend(instance=instance, reason=reason, by=by),
        **common,
    )


@instances.command()
@_order
def release(**common: Any) -> None:  # noqa: ANN401 - see `_order`
    """Decide delayed or held instances now, without waiting until they are due."""
    _carry_out(
        lambda instance, reason, by: Release(instance=instance, reason=reason, by=by),
        **common,
    )


def _carry_out(
    order: Callable[[InstanceId, str | None, str], Order],
    *,
    session: str | None,
    names: tuple[str, ...],
    task: str | None,
    status: str | None,
    older_than: int | None,
    dry_run: bool,
    reason: str | None,
    by: str,
    wait_s: float,
    at: str,
    as_json: bool,
) -> None:
    _check_choice(names, many=task is not None or status is not None or older_than is not None)
    wanted = InstanceFilter(
        task=None if task is None else TaskName(task),
        statuses=applicable_statuses(order(_EXAMPLE, None, ""))
        if status is None
        else in_status(Status(status)),
        changed_before_us=None if older_than is None else time.time_ns() // 1000 - older_than,
    )

    async def work() -> list[Answer] | None:
        from triggerstream.engine.operations.orders import address, give, target_in

        async with viewing(at) as view:
            if names:
                known = await view.state(str(session))
                chosen = [_Chosen(SessionId(str(session)), InstanceId(name), known) for name in names]
            else:
                chosen = await _choose(view, session=session, wanted=wanted)
            if dry_run or not chosen:
                _list(chosen, as_json=as_json)
                return None
            orders = [
                address(one.session, order(one.instance, reason, by), target_in(one.state, one.instance))
                for one in chosen
            ]
            async with appending(at) as log:
                return await give(log, view.reader, orders, wait_s=wait_s)

    answers = run(work())
    if answers is None:
        return
    for answer in answers:
        if as_json:
            json_line(answer_fields(answer))
        else:
            print_line(_sentence(answer), err=answer.applied is not True)
    if not all(answer.applied for answer in answers):
        sys.exit(1)


def _check_choice(names: tuple[str, ...], *, many: bool) -> None:
    """Raise unless instances are either named, with names that can be, or chosen by options."""
    if names and many:
        raise click.UsageError("name the instances, or choose them by --task, --status and --older-than")
    if not names and not many:
        raise click.UsageError("name SESSION and INSTANCE, or choose by --task, --status or --older-than")
    for name in names:
        if split_instance_id(name) is None:
            raise click.BadParameter(
                f"{name!r}: write task#number, such as t_report#0", param_hint="INSTANCE"
            )


class _Chosen(NamedTuple):
    """The instance for an order, and its current session; without ``status``, the user named it."""

    session: SessionId
    instance: InstanceId
    state: SessionState | None
    status: Status | None = None
    changed_us: int = 0


async def _choose(view: View, *, session: str | None, wanted: InstanceFilter) -> list[_Chosen]:
    chosen: list[_Chosen] = []
    async for session_id, state, _ in view.states(prefix=session or ""):
        if session is None or session_id == session:
            chosen += [
                _Chosen(session_id, instance_id(name, i.number), state, i.status, i.changed_us)
                for name, i in wanted.find(state)
            ]
    return chosen


def _list(chosen: list[_Chosen], *, as_json: bool) -> None:
    if as_json:
        for one in chosen:
            json_line(compact({"session": one.session, "instance": one.instance, "status": one.status}))
    elif not chosen:
        print_line("no instance matches")
    else:
        table(
            ["session", "instance", "status", "since"],
            [
                [
                    one.session,
                    one.instance,
                    status_text(one.status) if one.status else "",
                    time_words.seconds(one.changed_us or None),
                ]
                for one in chosen
            ],
        )
        print_line(f"{count_of(len(chosen), 'instance')}; nothing was done")


def _sentence(answer: Answer) -> str:
    what = f"{answer.to.session} {answer.to.instance}"
    if answer.applied is None:
        return f"{what}: {not_known(answer)}"
    if not answer.applied:
        return f"{what}: not done: {answer.reason}"
    match answer.to.order:
        case Resend():
            return f"{what}: handed over again; it is {answer.status}"
        case Replay() if answer.clone is not None:
            return f"{what}: {answer.status} as {answer.clone}"
        case _:
            return f"{what}: {answer.status or 'done'}"
