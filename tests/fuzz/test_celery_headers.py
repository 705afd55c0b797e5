"""Fuzzer of a Celery message's headers: whatever they are, the message is taken or refused."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request

from tests.fuzz.harness import Fuzzer, Parser, fuzz, mutate_json
from triggerstream.adapters.celery import delivery, request
from triggerstream.adapters.celery.delivery import HEADER, STARTS, delivery_of, header_of
from triggerstream.core.commands import Cause, Command
from triggerstream.core.events import Finished
from triggerstream.core.ids import (
    CommandId,
    ConfigHash,
    InstanceId,
    SessionId,
    TaskName,
    TriggerName,
)
from triggerstream.wire import events

APP = Celery("fuzz", broker="memory://", set_as_current=False)
SENT = Command(
    id=CommandId("8c0a6d3e-0000-5000-8000-000000000000"),
    session=SessionId("s"),
    task=TaskName("t"),
    instance=InstanceId("t#0"),
    run="celery.ping",
    kwargs={},
    config=ConfigHash("c0ffee"),
    causes=[Cause(trigger=TriggerName("a"), offset=1, id="1"), Cause(trigger=TriggerName("b"), offset=2)],
    decided_us=1,
)
CELERYS: dict[str, Any] = {
    "id": SENT.id,
    "task": SENT.run,
    "lang": "py",
    "root_id": SENT.id,
    "parent_id": None,
    "eta": None,
    "expires": "2036-01-01T00:00:00+00:00",
    "retries": 0,
    "timelimit": [None, None],
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "origin": "x",
    "group": None,
}
SEEDS: tuple[dict[str, Any], ...] = (
    {**CELERYS, HEADER: header_of(SENT)},
    {**CELERYS, HEADER: {**header_of(SENT), "putBack": 3}, STARTS: 1},
    {**CELERYS, HEADER: {name: value for name, value in header_of(SENT).items() if name != "causes"}},
    {**CELERYS, HEADER: {**header_of(SENT), "causes": 5}},
    {**CELERYS, HEADER: {**header_of(SENT), "causes": [5]}},
    {**CELERYS, HEADER: {**header_of(SENT), "instance": "t"}},
    {**CELERYS, HEADER: {**header_of(SENT), "session": "\ud800"}},
    {**CELERYS, HEADER: "text"},
    {**CELERYS, "timelimit": 5},
    {**CELERYS, "eta": 5},
    CELERYS,
    {},
)
NAMES = (*CELERYS, *header_of(SENT), HEADER, STARTS, "putBack", "traceparent")


def _mutate(chance: random.Random, headers: dict[str, Any]) -> dict[str, Any]:
    """Mostly our own header changed; else any."""
    ours = headers.get(HEADER)
    if isinstance(ours, dict) and chance.random() < 0.7:
        return {**headers, HEADER: mutate_json(chance, ours, NAMES)}
    found = mutate_json(chance, headers, NAMES)
    return found if isinstance(found, dict) else headers


def _parser() -> Any:  # noqa: ANN401 - a class that Celery's types do not know
    waits = SimpleNamespace(add_waiting=lambda _: None)
    made = request.reporting_request(Request, cast("Any", None), cast("Any", waits))

    def parse(headers: dict[str, Any]) -> None:
        message = SimpleNamespace(
            headers=headers,
            properties={"reply_to": None, "correlation_id": SENT.id},
            delivery_info={"exchange": "", "routing_key": "celery"},
            body=[[], {}, {}],
            content_type="application/json",
            content_encoding="utf-8",
            payload=[[], {}, {}],
        )
        message.ack_log_error = message.reject_log_error = lambda *_: None
        made(message, app=APP, hostname="h", task=APP.tasks["celery.backend_cleanup"], decoded=True)
        found = delivery_of(headers)
        if found is not None:
            # What was taken can be reported.
            value = events.encode(Finished(instance=found.instance, command=found.command, result=None))
            assert value
            assert found.session.encode()

    return parse


def test_headers_are_taken_or_the_message_is_refused() -> None:
    fuzz(
        Fuzzer(
            parse=_parser(),
            refuses=(InvalidTaskError,),
            seeds=SEEDS,
            mutate=_mutate,
            parsers=(
                Parser(module=delivery, functions=frozenset({"delivery_of", "read_delivery", "_causes"})),
                Parser(
                    module=request,
                    functions=frozenset({"ReportingRequest.__init__"}),
                ),
            ),
        )
    )
