"""What must hold in production, beside what holds everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.k8s.pods import WORKER, services
from tests.k8s.rendering import Manifest, containers_of, name_of, of_kind, only, pod_of, workloads

_DIGEST = re.compile(r"[^@]+@sha256:[0-9a-f]{64}")
_KAFKA = "/etc/triggerstream/kafka"


def digests(manifests: list[Manifest]) -> Iterator[str]:
    """An image is named by its content."""
    for workload in workloads(manifests):
        for container in containers_of(workload):
            if _DIGEST.fullmatch(container["image"]) is None:
                yield f"{name_of(workload)}: {container['image']} names no digest"


def priority(manifests: list[Manifest]) -> Iterator[str]:
    """Others make room before a worker has to."""
    name = pod_of(only(manifests, "StatefulSet", WORKER)).get("priorityClassName")
    if name not in {found["metadata"]["name"] for found in of_kind(manifests, "PriorityClass")}:
        yield f"StatefulSet/{WORKER}: there is no priority class {name}"


def replicas(manifests: list[Manifest]) -> Iterator[str]:
    """One may be away: a bridge whose number is KEDA's has its least number there."""
    least = {"triggerstream-bridge": 1}
    for scaled in of_kind(manifests, "ScaledObject"):
        least[scaled["spec"]["scaleTargetRef"]["name"]] = scaled["spec"].get("minReplicaCount", 0)
    for workload in services(manifests):
        found = workload["spec"].get("replicas", least.get(workload["metadata"]["name"], 1))
        if found < 2:
            yield f"{name_of(workload)}: {found} is none while one makes room"


def scraped(manifests: list[Manifest]) -> Iterator[str]:
    """Each pod's own metrics are read, ready or not, and alerts watch them."""
    monitors = of_kind(manifests, "PodMonitor")
    if len(monitors) != 1:
        yield f"{len(monitors)} pod monitors"
    for monitor in monitors:
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if (endpoint["port"], endpoint.get("path")) != ("probes", "/metrics"):
                yield f"{name_of(monitor)}: metrics are elsewhere"
        values = monitor["spec"]["selector"].get("matchExpressions", [{}])[0].get("values", [])
        if sorted(values) != ["bridge", "worker"]:
            yield f"{name_of(monitor)}: reads {values}"
    for monitor in of_kind(manifests, "ServiceMonitor"):
        yield f"{name_of(monitor)}: misses what is not ready"
    if not of_kind(manifests, "PrometheusRule"):
        yield "nothing watches the metrics"


def encrypted(manifests: list[Manifest]) -> Iterator[str]:
    """Every process comes to Kafka over TLS, with the certificate of its own account."""
    users = {user["metadata"]["name"] for user in of_kind(manifests, "KafkaUser")}
    for workload in workloads(manifests):
        account = pod_of(workload)["serviceAccountName"]
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        sources = volumes.get("kafka", {}).get("projected", {}).get("sources", [])
        secrets = {source["secret"]["name"] for source in sources if "secret" in source}
        if account not in users or secrets != {"main-cluster-ca-cert", account}:
            yield f"{name_of(workload)}: shows {sorted(secrets)}, not the certificate of {account}"
        for container in containers_of(workload):
            env = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            named = env.get("TRIGGERSTREAM_KAFKA_CONFIG")
            if named != f"{_KAFKA}/kafka.json" or mounts.get(_KAFKA) != "kafka":
                yield f"{name_of(workload)}: {container['name']} comes without TLS"
    for user in of_kind(manifests, "KafkaUser"):
        if user["spec"].get("authentication") != {"type": "tls"}:
            yield f"{name_of(user)}: has no certificate"


def least_rights(manifests: list[Manifest]) -> Iterator[str]:
    """No account may make, change or remove anything but records, and none all of something."""
    for user in of_kind(manifests, "KafkaUser"):
        for rule in user["spec"].get("authorization", {}).get("acls", []):
            more = set(rule["operations"]) - {"Read", "Write", "Describe", "DescribeConfigs"}
            resource = rule["resource"]
            if more or resource["type"] == "cluster":
                yield f"{name_of(user)}: may {sorted(more)} on {resource['type']}"
            elif not resource["name"].startswith("triggerstream"):
                yield f"{name_of(user)}: reaches {resource['name']}, which is not ours"
        if user["metadata"]["name"] == "triggerstream-bridge" and any(
            "Write" in rule["operations"] and rule["resource"]["name"].endswith(".commands")
            for rule in user["spec"]["authorization"]["acls"]
        ):
            yield f"{name_of(user)}: may write commands, which are the workers' alone"
