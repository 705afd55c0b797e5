"""The configurations of a partition: those in the store are read from there, the others stay in memory."""

from __future__ import annotations

from triggerstream.core.ids import AppId
from triggerstream.core.tasks import AppliedConfiguration, PastConfiguration, Rules
from triggerstream.engine.configuration_cache import ConfigurationCache
from triggerstream.engine.partitioned.configurations import PartitionConfigurations
from triggerstream.engine.partitioned.versions import StoredHistory
from triggerstream.wire import tasksfile

TEXTS = {offset: f'{{"t{offset}": {{"after": ["a"], "run": "tasks.t"}}}}' for offset in (1, 3, 4, 5)}


def rules(*offsets: int) -> Rules:
    history = tuple(
        AppliedConfiguration(
            config=tasksfile.read(TEXTS[offset], name="t"), offset=offset, arrival_us=0, number=number
        )
        for number, offset in enumerate(offsets)
    )
    return Rules(app=AppId("app"), history=history)


def test_past_configurations_that_are_durable_are_read_from_the_store_and_no_others() -> None:
    durable, now = rules(1, 3), rules(1, 3, 4, 5)
    store: dict[bytes, bytes | None] = {}
    configurations = PartitionConfigurations(
        rules=durable,
        history=StoredHistory(versions=()),
        scanned=-1,
        cache=ConfigurationCache(most_bytes=0),  # every reading needs the text
        stored=store.get,
    )
    store.update(configurations.entries(durable))
    configurations.rules = now
    configurations.unload_past(durable)
    assert [type(version) for version in configurations.rules.history] == [
        *(PastConfiguration, PastConfiguration),
        *(AppliedConfiguration, AppliedConfiguration),
    ]
    assert configurations.entries(durable) == {}
    assert [version.config for version in configurations.rules.history] == [
        version.config for version in now.history
    ]
    assert [version.config for version in configurations.history.versions] == [
        version.config for version in durable.history
    ]
