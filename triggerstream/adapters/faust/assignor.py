"""Faust's assignor, limited to the app's own partitions even if its topics have more."""

from __future__ import annotations

from typing import Any, cast

from faust.assignor.partition_assignor import PartitionAssignor as FaustAssignor

from triggerstream.adapters.faust.consumer_thread import ConsumerHost


class PartitionAssignor(FaustAssignor):
    """Assigns only the first partitions of each topic, as many as the app has.

    Faust assigns topics with the same number of partitions together. If added partitions counted, one worker
    could get the events of a partition, and another worker its changelog.
    """

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:  # noqa: ANN401 - Faust's signature
        own = _Narrowed(cluster, cast("ConsumerHost", self.app).partitions)
        return super()._perform_assignment(cast("Any", own), member_metadata)


class _Narrowed:
    """View of a cluster in which no topic has more partitions than the app."""

    def __init__(self, cluster: Any, partitions: int) -> None:  # noqa: ANN401 - aiokafka is not typed
        self._cluster = cluster
        self._own = set(range(partitions))

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """The topic's partitions that belong to the app; None if the topic is unknown."""
        found = self._cluster.partitions_for_topic(topic)
        return None if found is None else found & self._own
