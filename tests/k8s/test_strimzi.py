"""What Strimzi makes is what `triggerstream topics create` makes."""

from __future__ import annotations

import json

from tests.k8s.rendering import Manifest, of_kind, only, render
from triggerstream.adapters.kafka.topics import INSYNC, REPLICAS, Topics, required_settings_of, wanted_insync
from triggerstream.core.ids import AppId


def _settings(topic: Manifest) -> dict[str, str]:
    """As Kafka has them: texts."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in topic["spec"]["config"].items()
    }


def test_topics_are_those_of_topics_create() -> None:
    manifests = render("prod")
    settings = only(manifests, "ConfigMap", "triggerstream-settings")["data"]
    insync = {INSYNC: str(wanted_insync(REPLICAS))}
    wanted = {
        topic.name: topic.settings() | insync
        for topic in required_settings_of(Topics.of(AppId(settings["TRIGGERSTREAM_APP"])))
    }
    topics = of_kind(manifests, "KafkaTopic")
    assert {topic["metadata"]["name"]: _settings(topic) for topic in topics} == wanted
    for topic in topics:
        assert topic["spec"]["replicas"] == REPLICAS
        own = (
            1 if topic["metadata"]["name"].endswith(".owners") else int(settings["TRIGGERSTREAM_PARTITIONS"])
        )
        assert topic["spec"]["partitions"] == own


def test_all_belong_to_one_cluster_whose_certificate_is_mounted() -> None:
    manifests = render("everything")
    belonging = of_kind(manifests, "KafkaTopic", "KafkaUser")
    clusters = {found["metadata"]["labels"]["strimzi.io/cluster"] for found in belonging}
    assert clusters == {"main"}
    settings = only(manifests, "ConfigMap", "triggerstream-settings")["data"]
    assert settings["TRIGGERSTREAM_KAFKA"].startswith("main-kafka-bootstrap.")
    scaled = of_kind(manifests, "ScaledObject")[0]["spec"]["triggers"][0]["metadata"]
    assert scaled["bootstrapServers"] == settings["TRIGGERSTREAM_KAFKA"]
    assert scaled["topic"] == Topics.of(AppId(settings["TRIGGERSTREAM_APP"])).commands
