"""Prints what the fold decides in random logs with changed files, a JSON line for each log.

The bound in bytes of a state has its default: the form of a state may change, and its size with it.

    python -m tests.equivalence.decisions FIRST COUNT

or, with another release on the path, ``PYTHONPATH=its.whl python decisions.py FIRST COUNT``. It imports only
what every release has: the values of ``core``, ``step``, and the readers of files and commands.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from triggerstream.core import events as kinds
from triggerstream.core import tasks as configurations
from triggerstream.core.commands import Command
from triggerstream.core.fold import migrate, step
from triggerstream.core.ids import AppId, JsonObject, SessionId, TriggerName
from triggerstream.core.tasks import Rules
from triggerstream.wire import commands, tasksfile
from triggerstream.wire import state as states

AppliedConfiguration: Any = (
    vars(configurations).get("AppliedConfiguration") or vars(configurations)["Applied"]
)
"""``Applied`` in earlier releases."""
SECOND = 1_000_000
TRIGGERS = ("a", "b", "c", "d", "e")
TASKS = ("t", "u", "v", "w")
LOG = 60
"""Events of a log."""


def tasks_file(chance: random.Random) -> str:
    """Some of four tasks that wait for triggers and for one another."""
    file: dict[str, Any] = {}
    if chance.random() < 0.2:
        file["$bounds"] = {
            "unresolvedInstances": chance.choice([2, 5]),
            "resolvedInstances": chance.choice([1, 3]),
            "triggerNames": 1,
            "positions": 5,
            "commandBytes": 560,
        }
    for number, name in enumerate(TASKS):
        if chance.random() < 0.2:
            continue
        pool = [*TRIGGERS, *TASKS[:number]]
        task: dict[str, Any] = {"run": f"run.{name}", "after": chance.sample(pool, chance.randint(1, 3))}
        if chance.random() < 0.3:
            task["unless"] = [chance.choice(pool)]
        if chance.random() < 0.4:
            task["andEvery"] = chance.choice(task["after"])
        if chance.random() < 0.4:
            task["retry"] = {"max": chance.randint(1, 2), "backoff": chance.choice(["1s", "5s"]), "factor": 2}
        if chance.random() < 0.4:
            task["withParams"] = {"k": {"l": 1}, "extra": {"n": chance.randrange(3)}}
        if chance.random() < 0.2:
            task["queue"] = chance.choice(["q1", "q2"])
        if chance.random() < 0.2:
            task["expires"] = "1h"
        file[name] = task
    return json.dumps(file)


def body_of(chance: random.Random, decided: list[Command]) -> kinds.Body:
    """A trigger, or an outcome or order for something that was decided, or was not."""
    if chance.random() < 0.5 or not decided:
        data: JsonObject = {"k": {"m": chance.randrange(4)}, "n": chance.choice([1, "x" * 40, None])}
        return kinds.Trigger(name=TriggerName(chance.choice(TRIGGERS)), data=data)
    one = chance.choice(decided[-4:])
    instance, about = one.instance, one.id
    if chance.random() < 0.1:
        instance = type(instance)(f"{chance.choice(TASKS)}#{chance.randrange(4)}")
    results: list[Any] = [None, {"k": {"z": 1}}, "text"]
    kwargs: list[JsonObject | None] = [None, {"k": {"r": 2}}]
    made: list[Callable[[], kinds.Body]] = [
        lambda: kinds.Started(instance=instance, command=about),
        lambda: kinds.Finished(instance=instance, command=about, result=chance.choice(results)),
        lambda: kinds.Failed(instance=instance, command=about, error="no luck"),
        lambda: kinds.Failed(
            instance=instance, command=about, error="odd", reason=chance.choice(list(kinds.FailureReason))
        ),
        lambda: kinds.Skipped(instance=instance, command=about, metadata={"why": 1}),
        lambda: kinds.Retried(
            instance=instance,
            command=about,
            after_us=chance.choice([0, 3 * SECOND]),
            kwargs=chance.choice(kwargs),
        ),
        lambda: kinds.Revoked(instance=instance, command=about),
        lambda: kinds.Skip(instance=instance, cascade=chance.random() < 0.5, result={"s": 1}, by="op"),
        lambda: kinds.Replay(instance=instance, kwargs=chance.choice(kwargs), force=chance.random() < 0.5),
        lambda: kinds.Cancel(
            instance=instance, reason=chance.choice([None, "unless", "bound", "task removed"])
        ),
        lambda: kinds.Resend(instance=instance),
        lambda: kinds.Close(reason="done", generation=chance.choice([None, 0, 1])),
        kinds.Erase,
        kinds.Touch,
        kinds.Timer,
    ]
    weights = [3, 6, 5, 2, 1, 2, 1, 1, 2, 1, 1, 0.3, 0.2, 0.5, 1]
    return chance.choices(made, weights=weights)[0]()


def log_lines(seed: int) -> Iterator[object]:
    """What each event of a log decides, and what the session's instances are after it."""
    chance = random.Random(seed)
    now_us = 1_767_225_600 * SECOND
    read = tasksfile.read(tasks_file(chance), name="tasks")
    rules = Rules(
        app=AppId("app"), history=(AppliedConfiguration(config=read, offset=-1, arrival_us=now_us),)
    )
    sizes = states.EncodedSizes() if seed % 2 else None
    session, state = SessionId(f"s{seed}"), None
    decided: list[Command] = []
    for offset in range(LOG):
        now_us += chance.choice([0, 0, 1, 4, 30, -2]) * SECOND
        if chance.random() < 0.06:
            config = tasksfile.read(tasks_file(chance), name="tasks")
            rules = rules.apply(AppliedConfiguration(config=config, offset=offset, arrival_us=now_us))
            if chance.random() < 0.5 and state is not None:
                met = migrate(rules, state, session)
                state = met.state
                yield [commands.encode(one).decode() for one in met.decisions]
            continue
        body = body_of(chance, decided)
        event = kinds.Event(
            session=session,
            offset=offset,
            arrival_us=now_us,
            time_us=now_us - chance.choice([0, 7]) * SECOND,
            type=body.name if isinstance(body, kinds.Trigger) else kinds.TYPES[type(body)],
            body=body,
            id=chance.choice([None, None, f"id{chance.randrange(6)}"]),
            source=chance.choice([None, "web"]),
            traceparent=None,
        )
        folded: Any = step(rules, state, event, sizes=sizes)
        if not hasattr(folded, "state"):  # its type is in another module in other releases
            yield "rejected"
            continue
        state = folded.state
        decided += [one for one in folded.decisions if isinstance(one, Command)]
        yield [
            [commands.encode(one).decode() for one in folded.decisions],
            [*folded.settled],
            [[one.trigger, one.data, one.id] for one in folded.left_out],
            [
                [name, one.number, one.status.value, one.attempt, one.retries, state.stored_kwargs(one)]
                for name, record in sorted(state.tasks.items())
                for one in record.instances()
            ],
            [state.generation, state.closed, state.refused],
        ]


def main(arguments: list[str]) -> None:
    """Print the digest of each log, and how many commands it decided."""
    first, count = map(int, arguments)
    for seed in range(first, first + count):
        lines = list(log_lines(seed))
        digest = sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()
        decided = sum(isinstance(line, list) and len(line) == 5 and len(line[0]) for line in lines)
        print(seed, decided, digest)  # noqa: T201 - this is its output


if __name__ == "__main__":
    main(sys.argv[1:])
