"""The places at which Faust and aiokafka are taken hold of: a release that moves one fails here, by name."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher
from faust.app.base import App
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.manager import TableManager as FaustTableManager
from faust.topics import Topic
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver

from triggerstream.adapters.faust.app import WorkerApp
from triggerstream.adapters.faust.consumer_thread import ConsumerThread
from triggerstream.adapters.faust.recovery import TableManager, TakeOver
from triggerstream.adapters.faust.table import Router
from triggerstream.adapters.faust.transport import BatchTopic, Consumer, Fetcher, Transport
from triggerstream.adapters.kafka import fetches
from triggerstream.adapters.kafka.batches import EscapingBatch
from triggerstream.adapters.kafka.fetches import BatchResult, ConvertedRecords


def test_the_versions_are_those_that_the_seams_were_read_in() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka").startswith("0.14.")


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (
            Consumer,
            driver.Consumer,
            ["_new_consumer_thread", "_drain_messages", "ack", "commit", "wait_empty"],
        ),
        (Consumer, driver.Consumer, ["perform_seek", "verify_event_path"]),
        (ConsumerThread, driver.AIOKafkaConsumerThread, ["_create_worker_consumer"]),
        (Fetcher, faust_consumer.Fetcher, ["_fetcher"]),
        (Transport, driver.Transport, ["Consumer", "Fetcher"]),
        (BatchTopic, Topic, ["_compile_decode"]),
        (TableManager, FaustTableManager, ["recovery", "on_start"]),
        (WorkerApp, App, ["_new_transport", "crash"]),
    ],
)
def test_what_is_overridden_is_still_there(ours: type, theirs: type, names: list[str]) -> None:
    for name in names:
        assert hasattr(theirs, name), f"{theirs.__qualname__}.{name} is gone"
        assert getattr(ours, name) is not getattr(theirs, name), f"{name} is not overridden any more"


def test_faust_still_calls_what_is_overridden() -> None:
    assert "_drain_messages" in inspect.getsource(faust_consumer.Fetcher)
    assert "consumer.wait_empty" in inspect.getsource(App)
    assert "_new_transport" in inspect.getsource(App)
    assert "self.recovery" in inspect.getsource(FaustTableManager)
    assert "_compile_decode" in inspect.getsource(Topic.__init__)


def test_aiokafka_reads_what_is_set_behind_its_back_when_it_starts() -> None:
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "isolation_level=self._isolation_level" in source
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source
    assert "fetch_max_bytes=self._fetch_max_bytes" in source


def test_what_faust_asks_of_a_recovery_is_there() -> None:
    for name in ("on_partitions_revoked", "on_rebalance"):
        assert callable(getattr(TakeOver, name))


def test_the_assignor_still_knows_where_partitions_are() -> None:
    assert "_tps_url" in inspect.getsource(PartitionAssignor)
    assert "_tps_url" in inspect.getsource(Router)


def test_aiokafka_still_notes_when_a_broker_answered() -> None:
    assert "self._last_action = time.monotonic()" in inspect.getsource(AIOKafkaConnection)
    assert "self._conns = {}" in inspect.getsource(AIOKafkaClient.__init__)


def test_aiokafka_still_makes_batches_and_results_with_the_names_that_are_replaced() -> None:
    source = inspect.getsource(fetcher.Fetcher)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert "self._records[tp] = FetchResult(" in source
    assert "type(res_or_error) is FetchResult" in source
    assert "backoff=self._prefetch_backoff" in source
    assert "partition_records = PartitionRecords(" in source
    begun = source.index("partition_records = PartitionRecords(")
    arguments = source[begun : source.index("_isolation_level", begun)].split(",")
    assert "self._value_deserializer" in arguments[fetches.VALUE_DESERIALIZER]
    assert "value_deserializer=self._value_deserializer" in inspect.getsource(AIOKafkaConsumer.start)
    reading = inspect.getsource(ConvertedRecords.__base__)
    for line in (
        "for record in next_batch",
        "if record.offset < self.next_fetch_offset",
        "consumer_record = self._consumer_record(tp, record)",
        "self.next_fetch_offset = record.offset + 1",
    ):
        assert line in reading
    for name in ("check_assignment", "calculate_backoff", "has_more", "getone", "getall"):
        assert name in vars(BatchResult)
        assert callable(getattr(BatchResult.__base__, name))
    assert "self._read_msg()" in inspect.getsource(EscapingBatch.__next__)
