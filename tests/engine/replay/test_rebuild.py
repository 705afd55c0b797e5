"""Checks and rebuilds of a partition of a shared log, on the ledger in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.engine.partitioned.bench import APP, IDENTITY, Bench, BenchLedger, BenchStore, claims_of
from triggerstream.adapters.memory import InMemoryRecords, MemoryOwnersTopic
from triggerstream.core import advice, tasks
from triggerstream.core.conditions import all_of
from triggerstream.core.errors import LogError, UsageError
from triggerstream.core.tasks import Configuration
from triggerstream.engine import configuration_cache
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.ports import Extent, FencedError, UnreadableEntriesError
from triggerstream.engine.partitioned.versions import TEXT_PREFIX, VERSIONS_KEY, history_texts
from triggerstream.engine.replay.changelog import ChangelogArchive
from triggerstream.engine.replay.check import Checked, check, uncopied
from triggerstream.engine.replay.rebuild import Rebuilt, rebuild
from triggerstream.engine.replay.starts import DECIDED, LATEST, RebuildOptions, Source
from triggerstream.wire import tasksfile
from triggerstream.wire.events import rehomed_headers
from triggerstream.wire.marks import (
    CHECKPOINT_KEY,
    Identity,
    decode_checkpoint,
    encode_checkpoint,
)
from triggerstream.wire.records import NewRecord, Record, UnreadableBatch


class ShortenedLedger(BenchLedger):
    """A ledger whose log has lost its beginning."""

    async def extent(self) -> Extent:
        return replace(await super().extent(), log_begin=2)


def archive(
    bench: Bench, *, identity: Identity = IDENTITY, ledger: BenchLedger | None = None
) -> ChangelogArchive:
    ledger = ledger or BenchLedger(bench.durable)
    return ChangelogArchive(
        app=APP,
        number=0,
        identity=identity,
        ledger=ledger,
        claims=claims_of({0: bench.durable}, MemoryOwnersTopic())([0], -1),
        log=InMemoryRecords(bench.durable.log),
        commands=InMemoryRecords(
            [
                Record(partition=0, offset=offset, arrival_us=0, key=None, value=value)
                for offset, value in enumerate(bench.durable.commands)
            ]
        ),
    )


def unreadable_commands(bench: Bench, *, newest: bool) -> InMemoryRecords:
    """The commands topic, of which the oldest or the ``newest`` command cannot be read."""
    unreadable = UnreadableBatch(first=int(newest), reason="damaged")
    lost = Record(partition=0, offset=int(newest), arrival_us=0, key=None, value=None, unreadable=unreadable)
    first, second = [
        Record(partition=0, offset=offset, arrival_us=0, key=None, value=value)
        for offset, value in enumerate(bench.durable.commands)
    ]
    return InMemoryRecords([first, lost] if newest else [lost, second])


def _nothing(identity: Identity) -> ChangelogArchive:
    """The second partition, with nothing in it."""
    bench = Bench()
    return ChangelogArchive(
        app=APP,
        number=1,
        identity=identity,
        ledger=BenchLedger(bench.durable),
        claims=claims_of({1: bench.durable}, MemoryOwnersTopic())([1], -1),
        log=InMemoryRecords([]),
        commands=InMemoryRecords([]),
    )


def ignore(partition: int, done: int, total: int) -> None:
    assert partition == 0
    assert 0 <= done <= total


async def checked(bench: Bench, *, identity: Identity = IDENTITY) -> Checked:
    return await check(archive(bench, identity=identity), ignore)


async def rebuilt(
    bench: Bench,
    *,
    given: int | None = None,
    dry_run: bool = False,
    incomplete: bool = False,
    agreed: bool = False,
    of: ChangelogArchive | None = None,
) -> Rebuilt:
    options = RebuildOptions(
        given={} if given is None else {None: given}, dry_run=dry_run, incomplete=incomplete, agreed=agreed
    )
    (one,) = await rebuild([of or archive(bench)], options, ignore)
    return one


def kept(bench: Bench) -> dict[bytes, bytes]:
    """What the changelog says, without the mark of the checkpoint."""
    latest = dict(bench.durable.changelog)
    latest.pop(CHECKPOINT_KEY, None)
    return {key: value for key, value in latest.items() if value is not None}


@pytest.fixture
async def bench() -> Bench:
    """Two sessions folded, one of them complete; the log has one event more, which completes the other."""
    bench = Bench()
    bench.configure()
    bench.fire("s", "a", "b")
    bench.fire("u", "a")
    partition = bench.partition()
    await partition.open()
    await bench.fold(partition)
    await partition.close()
    bench.durable.group_offset = 4
    bench.fire("u", "b")
    assert len(bench.durable.commands) == 1
    return bench


async def go_on(bench: Bench, store: BenchStore | None = None) -> None:
    """Take the partition over and fold what waits."""
    partition = bench.partition(store=store)
    await partition.open()
    await bench.fold(partition)
    await partition.close()
    assert not bench.failures


async def test_a_check_of_what_an_owner_kept_finds_nothing(bench: Bench) -> None:
    assert await checked(bench) == Checked(partition=0, offset=4, events=3, sessions=2)


async def test_a_damaged_state_is_named_by_session_and_field(bench: Bench) -> None:
    state = json.loads(kept(bench)[b"s"].replace(b'"scheduled"', b'"running"'))
    arrival = state["seen"].pop("a")
    state["seen"]["x"], state["kept"] = arrival, {"a": [arrival]}
    damaged = json.dumps(state).encode()
    bench.durable.changelog.append((b"s", damaged))
    found = await checked(bench)
    assert (found.agrees, found.differing) == (False, 1)
    lines = [str(difference) for difference in found.differences]
    assert 'session s/tasks/t#0/status: kept is "running", the log gives "scheduled"' in lines
    assert any(line.startswith("session s/seen/x: kept is {") for line in lines)
    assert any(line.startswith("session s/seen/a: kept is nothing, the log gives {") for line in lines)


async def test_what_is_lost_invented_or_unreadable_is_named(bench: Bench) -> None:
    ghost = kept(bench)[b"s"]
    bench.durable.changelog += [(b"s", None), (b"ghost", ghost), (b"u", b"{"), (VERSIONS_KEY, None)]
    found = await checked(bench)
    assert found.differing == 4
    assert sorted((one.session or "", one.place) for one in found.differences) == [
        ("", "/configurations"),
        ("ghost", ""),
        ("s", ""),
        ("u", ""),
    ]
    (unreadable,) = [one for one in found.differences if one.session == "u"]
    assert "unreadable: not a session's state" in (unreadable.kept or "")


async def test_an_entry_that_compaction_took_under_the_reader_is_looked_at_again(bench: Bench) -> None:
    class Compacted(BenchLedger):
        """The first time, a session's entry is gone already, and the one that replaced it lies beyond."""

        async def changelog(
            self, begin: int, end: int
        ) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
            first = len(bench.durable.log) == 5 and not bench.durable.calls.count("go on")
            async for entries, after in super().changelog(begin, end):
                yield {key: value for key, value in entries.items() if not first or key != b"u"}, after
            if first:
                bench.durable.calls.append("go on")
                await go_on(bench)

    found = await check(archive(bench, ledger=Compacted(bench.durable)), ignore)
    assert found == Checked(partition=0, offset=5, events=4, sessions=2)


async def test_a_state_of_an_older_form_is_no_difference(bench: Bench) -> None:
    fields = json.loads(kept(bench)[b"s"])
    bench.durable.changelog.append((b"s", json.dumps(dict(sorted(fields.items()))).encode()))
    assert (await checked(bench)).agrees


async def test_what_cannot_be_checked_says_why(bench: Bench) -> None:
    other = Identity(cluster="c", topic="other", partitions=1)
    assert "topic id other" in ((await checked(bench, identity=other)).refused or "")
    short = archive(bench, ledger=ShortenedLedger(bench.durable))
    assert (await check(short, ignore)).refused == (
        "its log begins at offset 2: what was before it cannot be folded again"
    )
    bench.durable.changelog.clear()
    assert (await checked(bench)).refused == "its changelog has no checkpoint"
    del bench.durable.log[:]
    assert (await checked(bench)).agrees


async def test_a_lost_changelog_comes_back_byte_for_byte_and_decides_nothing_again(bench: Bench) -> None:
    before, commands = kept(bench), list(bench.durable.commands)
    bench.durable.changelog.clear()
    assert await rebuilt(bench) == Rebuilt(
        partition=0, offset=4, source=Source.GROUP, events=3, sessions=2, elsewhere=0
    )
    assert kept(bench) == before
    assert bench.durable.commands == commands
    assert len(bench.durable.log) == 5
    assert (await checked(bench)).agrees
    await go_on(bench, BenchStore())
    assert len(bench.durable.commands) == 2
    assert (await checked(bench)).agrees


@pytest.mark.parametrize(("lagging", "offset"), [(0, 3), (2, 3), (3, 3), (4, 4), (5, 5)])
async def test_what_is_decided_beyond_a_group_that_lags_is_not_decided_again(
    bench: Bench, lagging: int, offset: int
) -> None:
    bench.durable.changelog.clear()
    bench.durable.group_offset = lagging
    assert (await rebuilt(bench)).offset == offset
    await go_on(bench, BenchStore())
    assert len(bench.durable.commands) == len(set(bench.durable.commands)) == (1 if lagging == 5 else 2)


async def test_commands_that_cannot_be_read_are_not_decided_again_without_consent(bench: Bench) -> None:
    """If the checkpoint is lost, only the commands show how far the log was folded."""
    await go_on(bench)
    bench.durable.changelog.clear()
    bench.durable.group_offset = 2
    commands = unreadable_commands(bench, newest=True)
    says = "the commands at offset 1 cannot be read: damaged, so commands decided from event 3 on would"
    with pytest.raises(UsageError, match=f"{says} .*--yes --at"):
        await rebuilt(bench, of=replace(archive(bench), commands=commands))
    assert not bench.durable.changelog
    assert (await rebuilt(bench, of=replace(archive(bench), commands=commands), agreed=True)).offset == 3


async def test_commands_before_others_may_be_unreadable(bench: Bench) -> None:
    await go_on(bench)
    bench.durable.changelog.clear()
    bench.durable.group_offset = 2
    commands = unreadable_commands(bench, newest=False)
    assert (await rebuilt(bench, of=replace(archive(bench), commands=commands))).offset == 5


@pytest.mark.parametrize("last", [1, None], ids=["its end is known", "its end is not known"])
async def test_a_rebuild_ends_what_cannot_be_read_in_a_changelog_and_decides_nothing_again(
    bench: Bench, last: int | None
) -> None:
    class Broken(BenchLedger):
        async def changelog(
            self, begin: int, end: int
        ) -> AsyncGenerator[tuple[dict[bytes, bytes | None], int]]:
            try:
                async for found in super().changelog(begin, end):
                    yield found
            except UnreadableEntriesError as exc:
                raise UnreadableEntriesError(exc.fault, offset=exc.offset, last=last, lasting=True) from exc

    def broken() -> ChangelogArchive:
        return archive(bench, ledger=Broken(bench.durable))

    before = kept(bench)
    bench.durable.unreadable = range(2)
    bench.durable.group_offset = 2
    refused = (await check(broken(), ignore)).refused or ""
    assert refused == f"in its changelog, the batch at 0 cannot be read; {advice.rebuild(advice.ANY_APP)}"
    done = await rebuilt(bench, of=broken())
    # If the end of the batch is unknown, so is a checkpoint after it: the commands show what was folded.
    assert (done.offset, done.source) == ((4, Source.CHECKPOINT) if last else (3, Source.GROUP))
    found = await check(broken(), ignore)
    assert (found.agrees, found.offset) == (True, done.offset)
    await go_on(bench, BenchStore())
    assert kept(bench).keys() == before.keys()
    assert len(bench.durable.commands) == len(set(bench.durable.commands)) == 2
    assert (await check(broken(), ignore)).agrees


async def test_a_checkpoint_that_cannot_be_read_is_not_replaced_by_an_older_one(bench: Bench) -> None:
    begin = len(bench.durable.changelog)
    await go_on(bench)
    assert len(bench.durable.commands) == 2
    bench.durable.unreadable = range(begin, len(bench.durable.changelog))
    done = await rebuilt(bench)
    assert (done.offset, done.source) == (5, Source.GROUP), "beyond the older checkpoint and the group"
    await go_on(bench, BenchStore())
    assert len(bench.durable.commands) == 2
    assert (await checked(bench)).agrees


async def test_a_check_names_the_batch_that_hides_whether_there_was_a_rebuild(bench: Bench) -> None:
    bench.durable.unreadable = range(1)
    bench.durable.newest_unreadable = UnreadableEntriesError(
        "the batch at 9 cannot be read", offset=9, last=9, lasting=False
    )
    refused = (await checked(bench)).refused or ""
    repair = f"if no replica has the batch undamaged: {advice.rebuild(advice.ANY_APP)}"
    assert refused == f"in its changelog, the batch at 9 cannot be read; {repair}"


async def test_a_shortened_log_cannot_replace_what_cannot_be_read_without_consent(bench: Bench) -> None:
    bench.durable.unreadable = range(1)
    bench.durable.log_begin = 2
    before = list(bench.durable.changelog)
    lost = "in its changelog, the batch at 0 cannot be read"
    says = f"its log begins at offset 2.*, and {lost}: sessions would .*--yes --at"
    with pytest.raises(UsageError, match=says):
        await rebuilt(bench, incomplete=True)
    assert bench.durable.changelog == before
    assert (await rebuilt(bench, incomplete=True, agreed=True)).offset == 4


async def test_what_the_log_does_not_give_goes_from_the_changelog_and_from_old_stores(bench: Bench) -> None:
    ghost = kept(bench)[b"s"]
    bench.durable.changelog.append((b"ghost", ghost))
    bench.store.write({b"ghost": ghost, b"local": ghost}, position=len(bench.durable.changelog))
    assert (await rebuilt(bench, agreed=True)).source is Source.CHECKPOINT
    assert b"ghost" not in kept(bench)
    await go_on(bench)
    texts = sorted(key for key in kept(bench) if key.startswith(TEXT_PREFIX))
    assert len(texts) == 1
    assert sorted(bench.store.entries) == [CHECKPOINT_KEY, *texts, VERSIONS_KEY, b"s", b"u"]
    assert len(bench.durable.commands) == 2


async def test_a_rebuild_can_be_repeated(bench: Bench) -> None:
    first = await rebuilt(bench)
    states = kept(bench)
    assert await rebuilt(bench) == first
    assert kept(bench) == states
    marks = [
        decode_checkpoint(value or b"").rebuilt
        for key, value in bench.durable.changelog
        if key == CHECKPOINT_KEY
    ]
    assert marks[0] == -1
    assert 0 < marks[1] < marks[2]


async def test_where_nothing_says_how_far_a_log_was_folded_it_asks(bench: Bench) -> None:
    bench.durable.changelog.clear()
    bench.durable.group_offset = None
    with pytest.raises(UsageError, match="PARTITION:OFFSET goes on elsewhere: earliest would decide 2 "):
        await rebuilt(bench)
    assert bench.durable.changelog == []
    would = await rebuilt(bench, given=4, dry_run=True)
    assert (would.source, would.offset, would.to_decide) == (Source.GIVEN, 4, 1)
    assert bench.durable.changelog == []
    with pytest.raises(UsageError, match="ends at offset 5: it cannot go on from 6"):
        await rebuilt(bench, given=6)
    assert (await rebuilt(bench, given=LATEST, dry_run=True)).to_decide == 0
    assert (await rebuilt(bench, given=4)).to_decide == 1
    # What is known now is not asked for again, nor overruled.
    assert (await rebuilt(bench, given=0)).offset == 4
    await go_on(bench, BenchStore())
    assert len(bench.durable.commands) == 2


async def test_a_checkpoint_of_another_log_says_nothing_of_this_one(bench: Bench) -> None:
    other = Identity(cluster="c", topic="other", partitions=1)
    with pytest.raises(UsageError, match=r"topic id other.*so nothing says how far"):
        await rebuilt(bench, of=archive(bench, identity=other))
    assert (await rebuilt(bench, given=4, of=archive(bench, identity=other))).source is Source.GIVEN
    mark = decode_checkpoint(dict(bench.durable.changelog)[CHECKPOINT_KEY] or b"")
    assert (mark.identity, mark.offset, mark.scanned) == (other, 4, -1)


async def test_another_number_of_partitions_is_refused_where_sessions_would_be_lost(bench: Bench) -> None:
    split = replace(IDENTITY, partitions=2)
    with pytest.raises(UsageError, match=r"made with 1 partitions, those of others with 2"):
        await rebuilt(bench, given=0, of=archive(bench, identity=split))
    bench.durable.changelog.clear()
    bench.fire("t", "a")  # of two partitions, it belongs to the other one
    bench.durable.group_offset = len(bench.durable.log)
    empty = archive(bench, identity=split)
    with pytest.raises(UsageError, match=r"5 records of 3 sessions are not where .*--partitions 1 --at"):
        await rebuild([empty, _nothing(split)], RebuildOptions(given={}), lambda *_: None)


async def test_misplaced_records_below_a_checkpoint_are_found_until_they_have_copies(bench: Bench) -> None:
    split = replace(IDENTITY, partitions=2)
    mark = decode_checkpoint(dict(bench.durable.changelog)[CHECKPOINT_KEY] or b"")
    bench.durable.changelog.append((CHECKPOINT_KEY, encode_checkpoint(replace(mark, identity=split))))
    originals = [one for one in bench.durable.log if one.offset in {1, 2, 3}]
    other = Bench()
    archives = [
        archive(bench, identity=split),
        ChangelogArchive(
            app=APP,
            number=1,
            identity=split,
            ledger=BenchLedger(other.durable),
            log=InMemoryRecords(other.durable.log),
            commands=InMemoryRecords([]),
        ),
    ]
    expected = {(0, 1): "s", (0, 2): "s", (0, 3): "u"}
    found: list[Checked] = []
    for original in originals:
        found = [await check(one, lambda *_: None) for one in archives]
        assert await uncopied(archives, found) == expected
        other.durable.add(
            NewRecord(key=original.key, value=original.value or b"", headers=rehomed_headers(original))
        )
        del expected[0, original.offset]
    # What was checked before the last was appended is looked at again.
    assert await uncopied(archives, found) == {}


async def test_partitions_that_are_checked_share_parsed_tasks_files(bench: Bench) -> None:
    configurations = ConfigurationCache()
    archives = [archive(bench), archive(bench)]
    for one in archives:
        one.configurations = configurations
    assert all([(await check(one, ignore)).agrees for one in archives])
    texts = {one.hash for one in (await archives[0].kept()).configurations}
    assert configurations.parsed == len(texts) > 0


async def test_a_log_without_its_beginning_is_refused_unless_asked_for(bench: Bench) -> None:
    before = list(bench.durable.changelog)
    with pytest.raises(UsageError, match=r"begins at offset 2.*--incomplete"):
        await rebuilt(bench, of=archive(bench, ledger=ShortenedLedger(bench.durable)))
    assert bench.durable.changelog == before
    short = archive(bench, ledger=ShortenedLedger(bench.durable))
    assert (await rebuilt(bench, incomplete=True, of=short)).sessions == 2
    # The configuration was before the beginning, and is in force still.
    assert history_texts(kept(bench).get) == history_texts(dict(before).get)


async def test_a_checkpoint_beyond_the_end_of_the_log_goes_back_to_the_end(bench: Bench) -> None:
    mark = decode_checkpoint(dict(bench.durable.changelog)[CHECKPOINT_KEY] or b"")
    bench.durable.changelog.append((CHECKPOINT_KEY, encode_checkpoint(replace(mark, offset=9))))
    assert "records were lost" in ((await checked(bench)).refused or "")
    assert (await rebuilt(bench)).offset == 5
    await go_on(bench)


async def test_a_worker_that_comes_between_is_named(bench: Bench) -> None:
    class Overtaken(BenchLedger):
        async def extent(self) -> Extent:
            bench.durable.transactions.fence_all()
            return await super().extent()

    before = list(bench.durable.changelog)
    with pytest.raises(FencedError, match="partition 0: a worker has taken it over: stop all workers"):
        await rebuilt(bench, of=archive(bench, ledger=Overtaken(bench.durable)))
    assert bench.durable.changelog == before


async def test_a_changelog_that_cannot_be_written_is_given_up(bench: Bench) -> None:
    ledger = BenchLedger(bench.durable)
    ledger.gate.clear()
    stuck = archive(bench, ledger=ledger)
    stuck.commit_s = 0.02
    with pytest.raises(LogError, match=r"not written within 0\.02 s: repeat this"):
        await rebuilt(bench, of=stuck)


# ---- what nobody gets back, and another fold ------------------------------------------------------


async def test_sessions_that_the_log_does_not_have_are_counted_before_they_are_lost(bench: Bench) -> None:
    bench.durable.changelog.append((b"ghost", kept(bench)[b"s"]))
    before = list(bench.durable.changelog)
    with pytest.raises(UsageError, match=r"^1 sessions with 1 commands that are not settled .*--yes --at"):
        await rebuilt(bench)
    assert bench.durable.changelog == before
    assert (await rebuilt(bench, dry_run=True)).lost.sessions == 1
    assert (await rebuilt(bench, agreed=True)).sessions == 2
    assert b"ghost" not in kept(bench)


async def test_a_log_without_its_beginning_leaves_what_is_kept_as_it_is(bench: Bench) -> None:
    before = kept(bench)
    short = archive(bench, ledger=ShortenedLedger(bench.durable))
    assert (await rebuilt(bench, incomplete=True, of=short)).events == 0
    assert kept(bench) == before
    await go_on(bench)
    assert len(bench.durable.commands) == 2


@pytest.fixture
def another_fold(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, a release whose fold needs only the first trigger of each task."""
    del bench  # which was folded before

    def read(text: str, *, name: str) -> Configuration:
        config = tasksfile.read(text, name=name)
        return replace(config, tasks=tuple(replace(t, after=all_of(t.needs[:1])) for t in config.tasks))

    monkeypatch.setattr(tasks, "FOLD_VERSION", 2)
    monkeypatch.setattr(configuration_cache, "tasksfile", SimpleNamespace(read=read))


@pytest.mark.usefixtures("another_fold")
async def test_another_fold_is_said_and_what_only_it_decides_is_not_swallowed(bench: Bench) -> None:
    found = await checked(bench)
    assert found.fold == 1
    assert [(one.session, one.instance) for one in found.new_commands] == [("u", "t#0")]
    assert {one.session for one in found.differences} == {"s", "u"}
    before = list(bench.durable.changelog)
    says = r"folded with version 1 of the fold; 1 commands that only this release decides .*--yes --at"
    with pytest.raises(UsageError, match=says):
        await rebuilt(bench)
    assert bench.durable.changelog == before
    done = await rebuilt(bench, agreed=True)
    assert (done.fold, len(done.new_commands)) == (1, 1)
    mark = decode_checkpoint(dict(bench.durable.changelog)[CHECKPOINT_KEY] or b"")
    assert mark.fold == 2
    again = await checked(bench)
    assert (again.agrees, again.fold) == (True, None)


async def test_the_mark_keeps_the_oldest_fold_until_a_rebuild(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "FOLD_VERSION", 2)
    await go_on(bench)
    assert decode_checkpoint(dict(bench.durable.changelog)[CHECKPOINT_KEY] or b"").fold == 1
    await rebuilt(bench)
    assert decode_checkpoint(dict(bench.durable.changelog)[CHECKPOINT_KEY] or b"").fold == 2
    bench.fire("u", "a")
    await go_on(bench)
    assert decode_checkpoint(dict(bench.durable.changelog)[CHECKPOINT_KEY] or b"").fold == 2


async def test_commands_say_where_to_go_on_where_nothing_else_does(bench: Bench) -> None:
    bench.durable.changelog.clear()
    bench.durable.group_offset = None
    done = await rebuilt(bench, given=DECIDED)
    # Behind the record that completed the first session; what follows is folded again, and decides once.
    assert (done.offset, done.source, done.to_decide) == (3, Source.GIVEN, 1)
    await go_on(bench)
    assert len(bench.durable.commands) == 2
