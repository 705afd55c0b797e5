"""Faust's assignor, which gives out the partitions that the app has, whatever its topics have."""

from __future__ import annotations

from typing import Any, cast

from faust.assignor.partition_assignor import PartitionAssignor as FaustAssignor

from triggerstream.adapters.faust.transport import Host


class PartitionAssignor(FaustAssignor):
    """Assigns the first partitions of each topic, as many as the app has.

    Faust assigns topics together that have the same number of partitions. Were the added ones counted, a
    worker would get the events of one partition and another the changelog of it.
    """

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:  # noqa: ANN401 - Faust's signature
        own = _Narrowed(cluster, cast("Host", self.app).partitions)
        return super()._perform_assignment(cast("Any", own), member_metadata)


class _Narrowed:
    """A cluster as if no topic had more partitions than the app."""

    def __init__(self, cluster: Any, partitions: int) -> None:  # noqa: ANN401 - aiokafka is not typed
        self._cluster = cluster
        self._own = set(range(partitions))

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Those of the topic that the app has; None where the topic is not known."""
        found = self._cluster.partitions_for_topic(topic)
        return None if found is None else found & self._own
