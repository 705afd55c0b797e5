"""How manifests are made wrong, so that policies have something to find."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.k8s.pods import BRIDGE, WORKER
from tests.k8s.rendering import Manifest, of_kind, only, pod_of

Policy: TypeAlias = Callable[[list[Manifest]], Iterable[str]]
Change: TypeAlias = Callable[[list[Manifest]], object]
Place: TypeAlias = Callable[[list[Manifest]], Manifest]
"""Finds the part of the manifests that is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A change of the manifests that ``policy`` has to find."""

    policy: Policy
    name: str
    make: Change


def change(where: Place, **members: Any) -> Change:  # noqa: ANN401 - YAML has any
    return lambda found: where(found).update(members)


def drop(where: Place, name: str) -> Change:
    return lambda found: where(found).pop(name)


def append(where: Place, name: str, value: object) -> Change:
    return lambda found: where(found).setdefault(name, []).append(value)


def without(kind: str, name: str) -> Change:
    return lambda found: found.remove(only(found, kind, name))


def another(kind: str) -> Change:
    def add(found: list[Manifest]) -> None:
        space = of_kind(found, "Namespace")[0]["metadata"]["name"]
        found.append({"kind": kind, "metadata": {"name": "another", "namespace": space}, "spec": {}})

    return add


def spec(kind: str, name: str) -> Place:
    def place(found: list[Manifest]) -> Manifest:
        inner: Manifest = only(found, kind, name)["spec"]
        return inner

    return place


def at(where: Place, *path: str | int) -> Place:
    def place(found: list[Manifest]) -> Manifest:
        value: Any = where(found)
        for name in path:
            value = value[name]
        inner: Manifest = value
        return inner

    return place


def worker(found: list[Manifest]) -> Manifest:
    return only(found, "StatefulSet", WORKER)


def bridge(found: list[Manifest]) -> Manifest:
    return only(found, "Deployment", BRIDGE)


def pod(found: list[Manifest]) -> Manifest:
    """A worker's."""
    return pod_of(worker(found))


def container(found: list[Manifest]) -> Manifest:
    """A worker's."""
    inner: Manifest = pod(found)["containers"][0]
    return inner


def setup(found: list[Manifest]) -> Manifest:
    """The pod of a job."""
    return pod_of(only(found, "Job", "triggerstream-config"))
