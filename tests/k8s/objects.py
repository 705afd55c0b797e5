"""What must hold for the objects around the pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.k8s.pods import BRIDGE, WORKER, services
from tests.k8s.rendering import (
    Manifest,
    containers_of,
    name_of,
    of_kind,
    only,
    pod_of,
    workloads,
)

_DIRECTORY = "--dir="
_LONGEST_PORT_NAME = 15


def disruption(manifests: list[Manifest]) -> Iterator[str]:
    """One pod of a kind at a time makes room; one that is not ready anyway never holds a node up."""
    for workload in services(manifests):
        labels = workload["spec"]["selector"]
        budgets = [
            budget["spec"]
            for budget in of_kind(manifests, "PodDisruptionBudget")
            if budget["spec"].get("selector") == labels
        ]
        if len(budgets) != 1:
            yield f"{name_of(workload)}: {len(budgets)} disruption budgets"
        elif budgets[0].get("maxUnavailable") != 1:
            yield f"{name_of(workload)}: not one at a time"
        elif budgets[0].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name_of(workload)}: a pod that crashes keeps its node from being emptied"


def state(manifests: list[Manifest]) -> Iterator[str]:
    """A worker keeps its name and a volume of its own, which nothing removes."""
    worker = only(manifests, "StatefulSet", WORKER)
    spec, name = worker["spec"], name_of(worker)
    if spec.get("persistentVolumeClaimRetentionPolicy") != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
        yield f"{name}: its volumes can go"
    if spec.get("podManagementPolicy") != "Parallel":
        yield f"{name}: a pod that cannot start keeps the others from being repaired"
    claims = {claim["metadata"]["name"]: claim["spec"] for claim in spec.get("volumeClaimTemplates", [])}
    if any(claim["accessModes"] != ["ReadWriteOncePod"] for claim in claims.values()):
        yield f"{name}: two processes can have one volume"
    (container,) = pod_of(worker)["containers"]
    directory = next((arg for arg in container["args"] if arg.startswith(_DIRECTORY)), _DIRECTORY)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    if mounts.get(directory.removeprefix(_DIRECTORY)) not in claims:
        yield f"{name}: its states are not on a volume"
    if "--instance-id=$(POD_NAME)" not in container["args"]:
        yield f"{name}: a restart is a rebalance"
    if "--stay" not in container["args"]:
        yield f"{name}: a roll is two rebalances for each pod"
    if worker["spec"]["replicas"] > int(_settings(manifests)["TRIGGERSTREAM_PARTITIONS"]):
        yield f"{name}: more workers than partitions"


def addresses(manifests: list[Manifest]) -> Iterator[str]:
    """Workers are found by their names, ready or not; the service of the web view has ready ones only."""
    worker = only(manifests, "StatefulSet", WORKER)
    service = only(manifests, "Service", worker["spec"]["serviceName"])["spec"]
    if service.get("clusterIP") != "None":
        yield "Service/triggerstream-worker: has an address of its own"
    if service.get("publishNotReadyAddresses") is not True:
        yield "Service/triggerstream-worker: who is not ready is not found"
    web = only(manifests, "Service", "triggerstream-web")["spec"]
    if web.get("clusterIP") == "None" or web.get("publishNotReadyAddresses"):
        yield "Service/triggerstream-web: leads to pods that are not ready"
    if [port["targetPort"] for port in web["ports"]] != ["web"]:
        yield "Service/triggerstream-web: leads to more than the web view"
    if web.get("type", "ClusterIP") != "ClusterIP":
        yield "Service/triggerstream-web: is open to the outside"


def selectors_match(manifests: list[Manifest]) -> Iterator[str]:
    """What selects pods finds some, and a workload its own."""
    pods = {name_of(w): w["spec"]["template"]["metadata"]["labels"] for w in workloads(manifests)}
    for workload in services(manifests):
        if not _matches(workload["spec"]["selector"], pods[name_of(workload)]):
            yield f"{name_of(workload)}: does not find its own pods"
    selecting = [(name_of(s), {"matchLabels": s["spec"]["selector"]}) for s in of_kind(manifests, "Service")]
    selecting += [
        (name_of(one), one["spec"]["selector"])
        for one in of_kind(manifests, "PodDisruptionBudget", "PodMonitor")
    ]
    selecting += [(name_of(one), one["spec"]["podSelector"]) for one in of_kind(manifests, "NetworkPolicy")]
    for name, selector in selecting:
        if not any(_matches(selector, labels) for labels in pods.values()):
            yield f"{name}: finds no pod"


def ports_resolve(manifests: list[Manifest]) -> Iterator[str]:
    """A port's name has up to 15 characters, and whatever names a port names one that a pod has."""
    names = set()
    for workload in workloads(manifests):
        for container in containers_of(workload):
            names |= {port["name"] for port in container.get("ports", [])}
    for name in names:
        if len(name) > _LONGEST_PORT_NAME:
            yield f"port {name}: a cluster takes {_LONGEST_PORT_NAME} characters"
    used = [(name_of(s), p["targetPort"]) for s in of_kind(manifests, "Service") for p in s["spec"]["ports"]]
    used += [
        (name_of(one), endpoint["port"])
        for one in of_kind(manifests, "PodMonitor")
        for endpoint in one["spec"]["podMetricsEndpoints"]
    ]
    for policy in of_kind(manifests, "NetworkPolicy"):
        rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
        used += [(name_of(policy), port["port"]) for rule in rules for port in rule.get("ports", [])]
    for who, port in used:
        if isinstance(port, str) and port not in names:
            yield f"{who}: no pod has a port {port}"


def references_resolve(manifests: list[Manifest]) -> Iterator[str]:
    """Whatever a pod mounts or reads is there, or is a secret that docs/kubernetes.md says how to make."""
    there = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "ConfigMap")}
    for workload in workloads(manifests):
        name, pod = name_of(workload), pod_of(workload)
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        volumes |= {c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])}
        for container in containers_of(workload):
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{name}: there is no volume {mount['name']}"
        for kind, wanted in _references(workload):
            if kind == "configMap" and wanted not in there:
                yield f"{name}: there is no ConfigMap {wanted}"
            if kind == "secret" and wanted not in SECRETS and wanted not in _users(manifests):
                yield f"{name}: nothing makes the secret {wanted}"


SECRETS = frozenset(
    {"triggerstream-web", "triggerstream-peer", "triggerstream-broker", "main-cluster-ca-cert"}
)
"""Those that somebody makes: see docs/kubernetes.md."""


def _users(manifests: list[Manifest]) -> set[str]:
    """Strimzi makes a secret for each."""
    return {user["metadata"]["name"] for user in of_kind(manifests, "KafkaUser")}


def _references(workload: Manifest) -> Iterator[tuple[str, str]]:
    for volume in pod_of(workload).get("volumes", []):
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                yield "configMap", source["configMap"]["name"]
            if "secret" in source:
                secret = source["secret"]
                yield "secret", secret.get("secretName") or secret["name"]
    for container in containers_of(workload):
        for source in container.get("envFrom", []):
            yield "configMap", source["configMapRef"]["name"]


def namespace(manifests: list[Manifest]) -> Iterator[str]:
    """All lies in one namespace, which admits restricted pods only."""
    (space,) = of_kind(manifests, "Namespace")
    if space["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield f"{name_of(space)}: admits pods of any kind"
    for manifest in manifests:
        if manifest["kind"] in {"Namespace", "PriorityClass"}:
            continue
        if manifest["metadata"].get("namespace") != space["metadata"]["name"]:
            yield f"{name_of(manifest)}: lies elsewhere"


def scaling(manifests: list[Manifest]) -> Iterator[str]:
    """Nothing but the number of waiting commands scales, and that the bridge alone, within its partitions."""
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        yield f"{name_of(scaler)}: workers that come and go move partitions with their state"
    partitions = int(_settings(manifests)["TRIGGERSTREAM_PARTITIONS"])
    for scaled in of_kind(manifests, "ScaledObject"):
        spec, name = scaled["spec"], name_of(scaled)
        if spec["scaleTargetRef"] != {"name": BRIDGE}:
            yield f"{name}: scales something else than the bridge"
        if spec.get("minReplicaCount", 0) < 1:
            yield f"{name}: can leave no bridge"
        if spec.get("maxReplicaCount", 100) > partitions:
            yield f"{name}: more bridges than partitions"
        if "fallback" not in spec:
            yield f"{name}: has no answer where Kafka gives none"
        behaviour = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
        down = behaviour.get("scaleDown", {})
        if down.get("stabilizationWindowSeconds", 0) < 600:
            yield f"{name}: bridges come and go, a rebalance each"
        if "replicas" in only(manifests, "Deployment", BRIDGE)["spec"]:
            yield f"{name}: the deployment names a number, too"


def _settings(manifests: list[Manifest]) -> dict[str, str]:
    data: dict[str, str] = only(manifests, "ConfigMap", "triggerstream-settings")["data"]
    return data


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for expression in selector.get("matchExpressions", []):
        if expression["operator"] != "In" or labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())
