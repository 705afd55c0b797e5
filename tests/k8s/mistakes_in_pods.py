"""Mistakes in what pods are made of."""

from __future__ import annotations

from tests.k8s import pods
from tests.k8s.mistakes import Mistake, another, append, at, change, container, drop, pod, setup, worker
from tests.k8s.pods import WORKER
from tests.k8s.rendering import only

POD_MISTAKES = (
    Mistake(policy=pods.time_to_end, name="30 s", make=change(pod, terminationGracePeriodSeconds=30)),
    Mistake(policy=pods.time_to_end, name="the default", make=drop(pod, "terminationGracePeriodSeconds")),
    Mistake(policy=pods.time_to_end, name="a hook", make=change(container, lifecycle={"preStop": {}})),
    Mistake(policy=pods.spread, name="not at all", make=drop(pod, "topologySpreadConstraints")),
    Mistake(
        policy=pods.spread,
        name="at any price",
        make=change(at(pod, "topologySpreadConstraints", 0), whenUnsatisfiable="DoNotSchedule"),
    ),
    Mistake(
        policy=pods.spread,
        name="counting others",
        make=change(at(pod, "topologySpreadConstraints", 1, "labelSelector"), matchLabels={}),
    ),
    Mistake(policy=pods.restricted, name="root", make=change(at(pod, "securityContext"), runAsUser=0)),
    Mistake(
        policy=pods.restricted, name="an image's user", make=drop(at(pod, "securityContext"), "runAsUser")
    ),
    Mistake(
        policy=pods.restricted,
        name="no seccomp",
        make=drop(at(setup, "securityContext"), "seccompProfile"),
    ),
    Mistake(
        policy=pods.restricted,
        name="a slow start",
        make=drop(at(pod, "securityContext"), "fsGroupChangePolicy"),
    ),
    Mistake(policy=pods.restricted, name="the host's network", make=change(pod, hostNetwork=True)),
    Mistake(
        policy=pods.restricted,
        name="the host's files",
        make=append(pod, "volumes", {"name": "host", "hostPath": {"path": "/"}}),
    ),
    Mistake(
        policy=pods.restricted,
        name="escalation",
        make=change(at(container, "securityContext"), allowPrivilegeEscalation=True),
    ),
    Mistake(
        policy=pods.restricted,
        name="capabilities",
        make=change(at(pod, "initContainers", 0, "securityContext"), capabilities={"drop": ["NET_RAW"]}),
    ),
    Mistake(
        policy=pods.restricted,
        name="a writable image",
        make=drop(at(setup, "containers", 0, "securityContext"), "readOnlyRootFilesystem"),
    ),
    Mistake(policy=pods.scratch, name="unbounded", make=change(at(pod, "volumes", 0), emptyDir={})),
    Mistake(policy=pods.scratch, name="none", make=change(at(setup, "containers", 0), volumeMounts=[])),
    Mistake(policy=pods.no_tokens, name="in the pod", make=change(pod, automountServiceAccountToken=True)),
    Mistake(
        policy=pods.no_tokens,
        name="by the account",
        make=lambda found: only(found, "ServiceAccount", WORKER).pop("automountServiceAccountToken"),
    ),
    Mistake(policy=pods.no_tokens, name="the default account", make=drop(pod, "serviceAccountName")),
    Mistake(policy=pods.no_tokens, name="links", make=drop(setup, "enableServiceLinks")),
    Mistake(policy=pods.no_tokens, name="a role", make=another("RoleBinding")),
    Mistake(
        policy=pods.resources,
        name="throttled",
        make=change(at(container, "resources", "limits"), cpu="1"),
    ),
    Mistake(
        policy=pods.resources,
        name="overcommitted",
        make=change(at(container, "resources", "requests"), memory="1Mi"),
    ),
    Mistake(
        policy=pods.resources,
        name="scratch space",
        make=drop(at(container, "resources", "limits"), "ephemeral-storage"),
    ),
    Mistake(policy=pods.resources, name="nothing", make=drop(at(setup, "containers", 0), "resources")),
    Mistake(policy=pods.images, name="the newest", make=change(container, image="triggerstream:latest")),
    Mistake(policy=pods.images, name="no tag", make=change(container, image="triggerstream")),
    Mistake(policy=pods.images, name="always", make=change(container, imagePullPolicy="Always")),
    Mistake(
        policy=pods.labels,
        name="of an object",
        make=lambda found: only(found, "Service", "triggerstream-web")["metadata"].pop("labels"),
    ),
    Mistake(
        policy=pods.labels,
        name="of pods",
        make=lambda found: worker(found)["spec"]["template"]["metadata"].pop("labels"),
    ),
    Mistake(policy=pods.probes, name="none", make=drop(container, "readinessProbe")),
    Mistake(
        policy=pods.probes,
        name="ready is alive",
        make=change(at(container, "livenessProbe", "httpGet"), path="/readyz"),
    ),
    Mistake(
        policy=pods.probes, name="impatient", make=change(at(container, "livenessProbe"), failureThreshold=1)
    ),
    Mistake(policy=pods.probes, name="hasty", make=change(at(container, "startupProbe"), failureThreshold=3)),
    Mistake(
        policy=pods.probes, name="one second", make=drop(at(container, "livenessProbe"), "timeoutSeconds")
    ),
    Mistake(policy=pods.topics_first, name="nothing", make=drop(pod, "initContainers")),
    Mistake(
        policy=pods.topics_first,
        name="impatient",
        make=lambda found: pod(found)["initContainers"][0]["args"].remove("--wait"),
    ),
    Mistake(policy=pods.secrets_are_files, name="here", make=another("Secret")),
    Mistake(
        policy=pods.secrets_are_files,
        name="in the environment",
        make=append(container, "env", {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "x"}}}),
    ),
    Mistake(
        policy=pods.secrets_are_files,
        name="all in the environment",
        make=append(container, "envFrom", {"secretRef": {"name": "x"}}),
    ),
    Mistake(
        policy=pods.secrets_are_files,
        name="for everybody",
        make=lambda found: [v["secret"].pop("defaultMode") for v in pod(found)["volumes"] if "secret" in v],
    ),
    Mistake(
        policy=pods.configuration_rolls,
        name="no hash",
        make=lambda found: only(found, "ConfigMap", "triggerstream-tasks")["metadata"].update(name="tasks"),
    ),
    Mistake(
        policy=pods.configuration_rolls,
        name="one file",
        make=change(at(setup, "containers", 0, "volumeMounts", 0), subPath="tasks.json"),
    ),
)
