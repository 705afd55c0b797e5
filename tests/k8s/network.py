"""Who may talk to whom."""

from __future__ import annotations

from collections.abc import Iterator

from tests.k8s.rendering import Manifest, name_of, of_kind

_COMPONENT = "app.kubernetes.io/component"
_ALLOWED = {
    ("worker", "out"): {"kube-system", "kafka", "worker"},
    ("worker", "in"): {"monitoring", "ingress-nginx", "worker"},
    ("bridge", "out"): {"kube-system", "kafka", "celery"},
    ("bridge", "in"): {"monitoring"},
    ("setup", "out"): {"kube-system", "kafka"},
    ("setup", "in"): {"monitoring"},
}
"""By component: the namespaces, and components of ours, that it needs."""
_PORTS: dict[tuple[str, str], set[int | str]] = {
    ("kube-system", "out"): {53},
    ("kafka", "out"): {9092, 9093},
    ("celery", "out"): {6379, 5672, 5671},
    ("worker", "out"): {"web"},
    ("worker", "in"): {"web"},
    ("ingress-nginx", "in"): {"web"},
    ("monitoring", "in"): {"probes"},
}


def denied_by_default(manifests: list[Manifest]) -> Iterator[str]:
    """What no policy allows is not possible, for any pod of the namespace, in and out."""
    if not any(
        policy["spec"].get("podSelector") == {}
        and sorted(policy["spec"].get("policyTypes", [])) == ["Egress", "Ingress"]
        and "ingress" not in policy["spec"]
        and "egress" not in policy["spec"]
        for policy in of_kind(manifests, "NetworkPolicy")
    ):
        yield "no policy denies what the others do not allow"


def only_what_is_needed(manifests: list[Manifest]) -> Iterator[str]:
    """Each component reaches, and is reached by, just those that it works with, on their ports."""
    for (component, way), wanted in _ALLOWED.items():
        found: set[str] = set()
        for policy in of_kind(manifests, "NetworkPolicy"):
            if not _selects(policy, component):
                continue
            for rule in policy["spec"].get("egress" if way == "out" else "ingress", []):
                peers = rule.get("to" if way == "out" else "from", [])
                if not peers or not rule.get("ports"):
                    yield f"{name_of(policy)}: a rule without peers or ports allows all"
                    continue
                ports = {port["port"] for port in rule["ports"]}
                for peer in map(_peer, peers):
                    found.add(peer)
                    if not ports <= _PORTS.get((peer, way), set()):
                        yield f"{name_of(policy)}: {component} and {peer} have no business on {ports}"
        for peer in found - wanted:
            yield f"{component}: {way} with {peer} is not needed"
        for peer in wanted - found:
            yield f"{component}: {way} with {peer} is not possible"


def _selects(policy: Manifest, component: str) -> bool:
    labels = policy["spec"]["podSelector"].get("matchLabels", {})
    return bool(labels.get(_COMPONENT, component) == component)


def _peer(peer: Manifest) -> str:
    """What a rule names: a namespace, or a component in this one."""
    if "namespaceSelector" in peer:
        name: str = peer["namespaceSelector"].get("matchLabels", {}).get("kubernetes.io/metadata.name", "all")
        return name
    component: str = peer.get("podSelector", {}).get("matchLabels", {}).get(_COMPONENT, "all")
    return component
