"""Every overlay keeps every policy, and every policy finds the mistakes that it is there for."""

from __future__ import annotations

import pytest

from tests.k8s import network, objects, pods, production
from tests.k8s.mistakes import Mistake, Policy
from tests.k8s.mistakes_in_objects import OBJECT_MISTAKES, PRODUCTION_MISTAKES, SCALING_MISTAKES
from tests.k8s.mistakes_in_pods import POD_MISTAKES
from tests.k8s.rendering import EVERYTHING, OVERLAYS, render

EVERYWHERE: tuple[Policy, ...] = (
    pods.time_to_end,
    pods.spread,
    pods.restricted,
    pods.scratch,
    pods.no_tokens,
    pods.resources,
    pods.images,
    pods.labels,
    pods.probes,
    pods.topics_first,
    pods.secrets_are_files,
    pods.configuration_rolls,
    objects.disruption,
    objects.state,
    objects.addresses,
    objects.selectors_match,
    objects.ports_resolve,
    objects.references_resolve,
    objects.namespace,
    objects.scaling,
    network.denied_by_default,
    network.only_what_is_needed,
)
IN_PRODUCTION: tuple[Policy, ...] = (
    production.digests,
    production.priority,
    production.replicas,
    production.scraped,
    production.encrypted,
    production.least_rights,
)
MISTAKES = [
    *(("dev", mistake) for mistake in (*POD_MISTAKES, *OBJECT_MISTAKES)),
    *(("prod", mistake) for mistake in PRODUCTION_MISTAKES),
    *((EVERYTHING, mistake) for mistake in SCALING_MISTAKES),
]


def _named(value: object) -> str | None:
    if isinstance(value, Mistake):
        return f"{value.policy.__name__}: {value.name}"
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("policy", EVERYWHERE, ids=_named)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_keeps_a_policy(overlay: str, policy: Policy) -> None:
    assert list(policy(render(overlay))) == []


@pytest.mark.parametrize("policy", IN_PRODUCTION, ids=_named)
@pytest.mark.parametrize("overlay", ["prod", EVERYTHING])
def test_an_overlay_for_production_keeps_a_policy(overlay: str, policy: Policy) -> None:
    assert list(policy(render(overlay))) == []


@pytest.mark.parametrize(("overlay", "mistake"), MISTAKES, ids=_named)
def test_a_mistake_is_found(overlay: str, mistake: Mistake) -> None:
    manifests = render(overlay)
    assert list(mistake.policy(manifests)) == []
    mistake.make(manifests)
    assert list(mistake.policy(manifests)) != []


@pytest.mark.parametrize("policy", [*EVERYWHERE, *IN_PRODUCTION], ids=_named)
def test_every_policy_has_a_mistake_to_find(policy: Policy) -> None:
    assert policy in [mistake.policy for _, mistake in MISTAKES]
