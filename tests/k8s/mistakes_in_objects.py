"""Mistakes in the objects around the pods."""

from __future__ import annotations

from tests.k8s import network, objects, production
from tests.k8s.mistakes import (
    Mistake,
    another,
    append,
    at,
    bridge,
    change,
    container,
    drop,
    pod,
    setup,
    spec,
    without,
    worker,
)
from tests.k8s.pods import BRIDGE, WORKER
from tests.k8s.rendering import of_kind

_PDB = spec("PodDisruptionBudget", WORKER)
_POLICY = "NetworkPolicy"

OBJECT_MISTAKES = (
    Mistake(policy=objects.disruption, name="none", make=without("PodDisruptionBudget", BRIDGE)),
    Mistake(policy=objects.disruption, name="two", make=change(_PDB, maxUnavailable=2)),
    Mistake(policy=objects.disruption, name="held up", make=drop(_PDB, "unhealthyPodEvictionPolicy")),
    Mistake(
        policy=objects.state,
        name="removed",
        make=drop(spec("StatefulSet", WORKER), "persistentVolumeClaimRetentionPolicy"),
    ),
    Mistake(
        policy=objects.state, name="ordered", make=drop(spec("StatefulSet", WORKER), "podManagementPolicy")
    ),
    Mistake(
        policy=objects.state,
        name="shared",
        make=change(
            at(spec("StatefulSet", WORKER), "volumeClaimTemplates", 0, "spec"),
            accessModes=["ReadWriteMany"],
        ),
    ),
    Mistake(
        policy=objects.state,
        name="elsewhere",
        make=lambda found: container(found)["args"].remove("--dir=/var/lib/triggerstream"),
    ),
    Mistake(
        policy=objects.state,
        name="nameless",
        make=lambda found: container(found)["args"].remove("--instance-id=$(POD_NAME)"),
    ),
    Mistake(
        policy=objects.state,
        name="leaving",
        make=lambda found: container(found)["args"].remove("--stay"),
    ),
    Mistake(policy=objects.state, name="too many", make=change(spec("StatefulSet", WORKER), replicas=13)),
    Mistake(policy=objects.addresses, name="one for all", make=drop(spec("Service", WORKER), "clusterIP")),
    Mistake(
        policy=objects.addresses,
        name="ready ones only",
        make=drop(spec("Service", WORKER), "publishNotReadyAddresses"),
    ),
    Mistake(
        policy=objects.addresses,
        name="outside",
        make=change(spec("Service", "triggerstream-web"), type="LoadBalancer"),
    ),
    Mistake(
        policy=objects.selectors_match,
        name="a service",
        make=change(spec("Service", "triggerstream-web"), selector={"app": "x"}),
    ),
    Mistake(
        policy=objects.selectors_match,
        name="a deployment",
        make=lambda found: bridge(found)["spec"].update(selector={"matchLabels": {"app": "x"}}),
    ),
    Mistake(
        policy=objects.selectors_match,
        name="a network policy",
        make=change(spec(_POLICY, "triggerstream-kafka"), podSelector={"matchLabels": {"app": "x"}}),
    ),
    Mistake(
        policy=objects.ports_resolve,
        name="22 characters",
        make=change(at(container, "ports", 1), name="probes-and-the-metrics"),
    ),
    Mistake(policy=objects.ports_resolve, name="gone", make=lambda found: container(found)["ports"].pop(0)),
    Mistake(
        policy=objects.references_resolve,
        name="no configuration",
        make=without("ConfigMap", "triggerstream-tasks"),
    ),
    Mistake(
        policy=objects.references_resolve,
        name="no secret",
        make=lambda found: [
            v["secret"].update(secretName="nobody-s") for v in pod(found)["volumes"] if "secret" in v
        ],
    ),
    Mistake(policy=objects.references_resolve, name="no volume", make=change(setup, volumes=[])),
    Mistake(
        policy=objects.namespace,
        name="privileged",
        make=lambda found: of_kind(found, "Namespace")[0]["metadata"]["labels"].clear(),
    ),
    Mistake(
        policy=objects.namespace,
        name="elsewhere",
        make=lambda found: worker(found)["metadata"].update(namespace="default"),
    ),
    Mistake(policy=objects.scaling, name="workers", make=another("HorizontalPodAutoscaler")),
    Mistake(policy=network.denied_by_default, name="gone", make=without(_POLICY, "triggerstream-nothing")),
    Mistake(
        policy=network.denied_by_default,
        name="one way",
        make=change(spec(_POLICY, "triggerstream-nothing"), policyTypes=["Ingress"]),
    ),
    Mistake(
        policy=network.only_what_is_needed, name="no Kafka", make=without(_POLICY, "triggerstream-kafka")
    ),
    Mistake(
        policy=network.only_what_is_needed,
        name="the broker for all",
        make=change(spec(_POLICY, "triggerstream-broker"), podSelector={}),
    ),
    Mistake(
        policy=network.only_what_is_needed,
        name="any port",
        make=drop(at(spec(_POLICY, "triggerstream-web"), "ingress", 0), "ports"),
    ),
    Mistake(
        policy=network.only_what_is_needed,
        name="from everywhere",
        make=change(at(spec(_POLICY, "triggerstream-web"), "ingress", 0, "from", 0), namespaceSelector={}),
    ),
)

_USER = spec("KafkaUser", BRIDGE)

PRODUCTION_MISTAKES = (
    Mistake(policy=production.digests, name="a tag", make=change(container, image="triggerstream:1.0")),
    Mistake(policy=production.priority, name="none", make=drop(pod, "priorityClassName")),
    Mistake(policy=production.priority, name="unknown", make=without("PriorityClass", WORKER)),
    Mistake(policy=production.replicas, name="one", make=change(spec("StatefulSet", WORKER), replicas=1)),
    Mistake(policy=production.scraped, name="not at all", make=without("PodMonitor", "triggerstream")),
    Mistake(policy=production.scraped, name="unwatched", make=without("PrometheusRule", "triggerstream")),
    Mistake(policy=production.scraped, name="ready ones only", make=another("ServiceMonitor")),
    Mistake(
        policy=production.encrypted,
        name="not at all",
        make=drop(at(setup, "containers", 0), "env"),
    ),
    Mistake(policy=production.encrypted, name="no account", make=without("KafkaUser", BRIDGE)),
    Mistake(
        policy=production.encrypted,
        name="a password",
        make=change(_USER, authentication={"type": "scram-sha-512"}),
    ),
    Mistake(
        policy=production.least_rights,
        name="makes topics",
        make=append(
            at(_USER, "authorization"), "acls", {"resource": {"type": "cluster"}, "operations": ["Create"]}
        ),
    ),
    Mistake(
        policy=production.least_rights,
        name="others' topics",
        make=change(at(_USER, "authorization", "acls", 0, "resource"), name="other.events"),
    ),
    Mistake(
        policy=production.least_rights,
        name="writes commands",
        make=lambda found: _USER(found)["authorization"]["acls"][0]["operations"].append("Write"),
    ),
)

_SCALED = spec("ScaledObject", BRIDGE)

SCALING_MISTAKES = (
    Mistake(policy=objects.scaling, name="to none", make=change(_SCALED, minReplicaCount=0)),
    Mistake(policy=objects.scaling, name="beyond partitions", make=change(_SCALED, maxReplicaCount=13)),
    Mistake(policy=objects.scaling, name="by itself", make=change(_SCALED, scaleTargetRef={"name": WORKER})),
    Mistake(policy=objects.scaling, name="no answer", make=drop(_SCALED, "fallback")),
    Mistake(policy=objects.scaling, name="to and fro", make=drop(_SCALED, "advanced")),
    Mistake(
        policy=objects.scaling, name="two hands", make=lambda found: bridge(found)["spec"].update(replicas=2)
    ),
    Mistake(policy=production.replicas, name="one bridge", make=change(_SCALED, minReplicaCount=1)),
)
