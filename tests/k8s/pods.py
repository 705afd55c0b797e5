"""What must hold for every pod. A policy yields a line for each thing that is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.rendering import Manifest, containers_of, name_of, of_kind, only, pod_of, workloads

WORKER, BRIDGE = "triggerstream-worker", "triggerstream-bridge"
_NAME = "app.kubernetes.io/name"
_PROBES = {"startupProbe": "/startedz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
_WORKER_GRACE_S, _BRIDGE_GRACE_S = 120, 60
_GENERATED = 10


def services(manifests: list[Manifest]) -> list[Manifest]:
    """What runs on: not the jobs."""
    return [only(manifests, "StatefulSet", WORKER), only(manifests, "Deployment", BRIDGE)]


def time_to_end(manifests: list[Manifest]) -> Iterator[str]:
    """A worker has the time to drain, commit and close; nothing delays the signal that asks it to."""
    for workload, least_s in zip(services(manifests), (_WORKER_GRACE_S, _BRIDGE_GRACE_S), strict=True):
        grace_s = pod_of(workload).get("terminationGracePeriodSeconds", 30)
        if grace_s < least_s:
            yield f"{name_of(workload)}: {grace_s} s to end, not {least_s}"
        for container in containers_of(workload):
            if "lifecycle" in container:
                yield f"{name_of(workload)}: {container['name']} has a lifecycle hook"


def spread(manifests: list[Manifest]) -> Iterator[str]:
    """Pods of a kind lie in different zones and on different nodes, as far as that goes."""
    for workload in services(manifests):
        constraints = {
            constraint["topologyKey"]: constraint
            for constraint in pod_of(workload).get("topologySpreadConstraints", [])
        }
        labels = workload["spec"]["selector"]["matchLabels"]
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname"):
            constraint = constraints.get(key)
            if constraint is None:
                yield f"{name_of(workload)}: is not spread by {key}"
            elif constraint["whenUnsatisfiable"] != "ScheduleAnyway":
                yield f"{name_of(workload)}: a volume's zone can make {key} impossible"
            elif constraint["labelSelector"]["matchLabels"] != labels:
                yield f"{name_of(workload)}: {key} counts other pods"


def restricted(manifests: list[Manifest]) -> Iterator[str]:
    """Pods are what the pod security standard `restricted` admits, and cannot write into their image."""
    for workload in workloads(manifests):
        pod, name = pod_of(workload), name_of(workload)
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser", 0) > 0:
            yield f"{name}: may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name}: system calls are not filtered"
        if "fsGroup" not in context or context.get("fsGroupChangePolicy") != "OnRootMismatch":
            yield f"{name}: the owner of every file of a volume is changed at each start"
        if any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares the host's namespaces"
        for volume in pod.get("volumes", []):
            if not volume.keys() <= {"name", "emptyDir", "configMap", "secret", "projected"}:
                yield f"{name}: volume {volume['name']} is of a kind that is not allowed"
        for container in containers_of(workload):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{name}: {container['name']} can gain privileges"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name}: {container['name']} keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{name}: {container['name']} can write into its image"


def scratch(manifests: list[Manifest]) -> Iterator[str]:
    """Each container has a /tmp of a bounded size: it can write nowhere else."""
    for workload in workloads(manifests):
        volumes = {volume["name"]: volume for volume in pod_of(workload).get("volumes", [])}
        for container in containers_of(workload):
            mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
            volume = volumes.get(mounts.get("/tmp", ""), {})  # noqa: S108 - the container's
            if "sizeLimit" not in (volume.get("emptyDir") or {}):
                yield f"{name_of(workload)}: {container['name']} has no bounded /tmp"


def no_tokens(manifests: list[Manifest]) -> Iterator[str]:
    """No pod can ask the cluster for anything, or is told of its services."""
    accounts = {account["metadata"]["name"]: account for account in of_kind(manifests, "ServiceAccount")}
    for workload in workloads(manifests):
        pod, name = pod_of(workload), name_of(workload)
        account = accounts.get(pod.get("serviceAccountName", ""))
        if account is None:
            yield f"{name}: has no account of its own"
        elif account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)}: hands out tokens"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: has a token"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name}: services are in its environment"
    for role in of_kind(manifests, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{name_of(role)}: nothing here needs a role"


def resources(manifests: list[Manifest]) -> Iterator[str]:
    """Memory and scratch space are bounded and reserved; processor time is reserved and not bounded."""
    for workload in workloads(manifests):
        for container in containers_of(workload):
            who = f"{name_of(workload)}: {container['name']}"
            asked = container.get("resources", {}).get("requests", {})
            limits = container.get("resources", {}).get("limits", {})
            if "cpu" not in asked:
                yield f"{who} reserves no processor time"
            if "cpu" in limits:
                yield f"{who} is throttled: its heartbeats come late"
            for what in ("memory", "ephemeral-storage"):
                if asked.get(what) is None or asked.get(what) != limits.get(what):
                    yield f"{who}: {what} is not reserved and bounded alike"


def images(manifests: list[Manifest]) -> Iterator[str]:
    """An image that is there is not fetched again, and the newest is never meant by a name."""
    for workload in workloads(manifests):
        for container in containers_of(workload):
            who = f"{name_of(workload)}: {container['name']}"
            image = container["image"]
            if container.get("imagePullPolicy") != "IfNotPresent":
                yield f"{who} fetches its image at each start"
            if "@sha256:" not in image and (":" not in image or image.endswith(":latest")):
                yield f"{who}: {image} can be another one tomorrow"


def labels(manifests: list[Manifest]) -> Iterator[str]:
    """Everything says what it is part of; pods say which part they are."""
    for manifest in manifests:
        if manifest["kind"] in {"Namespace", "PriorityClass"}:
            continue
        found = manifest["metadata"].get("labels", {})
        if "app.kubernetes.io/part-of" not in found or "app.kubernetes.io/instance" not in found:
            yield f"{name_of(manifest)}: does not say what it is part of"
    for workload in workloads(manifests):
        found = workload["spec"]["template"]["metadata"].get("labels", {})
        if found.get(_NAME) != "triggerstream" or "app.kubernetes.io/component" not in found:
            yield f"{name_of(workload)}: its pods do not say what they are"


def probes(manifests: list[Manifest]) -> Iterator[str]:
    """Each service is asked on its own port, gently enough that a restart is never for a moment's silence."""
    for workload in services(manifests):
        (container,) = pod_of(workload)["containers"]
        for kind, path in _PROBES.items():
            probe = container.get(kind)
            if probe is None:
                yield f"{name_of(workload)}: has no {kind}"
                continue
            if probe.get("httpGet") != {"path": path, "port": "probes"}:
                yield f"{name_of(workload)}: its {kind} asks something else than {path}"
            if probe.get("timeoutSeconds", 1) < 5:
                yield f"{name_of(workload)}: its {kind} gives no time"
        patience_s = {
            kind: container.get(kind, {}).get("periodSeconds", 10)
            * container.get(kind, {}).get("failureThreshold", 3)
            for kind in _PROBES
        }
        if patience_s["livenessProbe"] < 60:
            yield f"{name_of(workload)}: is ended after {patience_s['livenessProbe']} s of silence"
        if patience_s["startupProbe"] < 600:
            yield f"{name_of(workload)}: has {patience_s['startupProbe']} s to start"


def topics_first(manifests: list[Manifest]) -> Iterator[str]:
    """Before a worker starts, a line each says what is wrong with the topics."""
    first = pod_of(only(manifests, "StatefulSet", WORKER)).get("initContainers", [])
    if not any(container["args"][:2] == ["topics", "check"] for container in first):
        yield f"StatefulSet/{WORKER}: nothing looks at the topics first"
    if not all("--wait" in container["args"] for container in first):
        yield f"StatefulSet/{WORKER}: a start without Kafka fails, again after pauses of up to five minutes"


def secrets_are_files(manifests: list[Manifest]) -> Iterator[str]:
    """No secret is here, in an environment, or readable for everybody in a pod."""
    for manifest in of_kind(manifests, "Secret"):
        yield f"{name_of(manifest)}: a secret is no part of the manifests"
    for workload in workloads(manifests):
        for container in containers_of(workload):
            sources = [source.get("valueFrom", {}) for source in container.get("env", [])]
            if any("secretKeyRef" in source for source in sources) or any(
                "secretRef" in source for source in container.get("envFrom", [])
            ):
                yield f"{name_of(workload)}: {container['name']} has a secret in its environment"
        for volume in pod_of(workload).get("volumes", []):
            kind = volume.get("secret") or volume.get("projected")
            if kind is not None and kind.get("defaultMode", 0o644) & 0o007:
                yield f"{name_of(workload)}: everybody in the pod can read {volume['name']}"


def configuration_rolls(manifests: list[Manifest]) -> Iterator[str]:
    """A configuration's name ends in its content's hash, and is mounted as a folder."""
    names = [manifest["metadata"]["name"] for manifest in of_kind(manifests, "ConfigMap")]
    for name in names:
        if len(name.rpartition("-")[2]) != _GENERATED:
            yield f"ConfigMap/{name}: pods are not rolled when it changes"
    for workload in workloads(manifests):
        for container in containers_of(workload):
            if any("subPath" in mount for mount in container.get("volumeMounts", [])):
                yield f"{name_of(workload)}: {container['name']} mounts a file that never changes"
