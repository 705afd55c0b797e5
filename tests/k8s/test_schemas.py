"""Every object is one that the oldest and the newest supported Kubernetes take, down to the last field."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import pytest
from jsonschema import Draft202012Validator
from jsonschema import ValidationError as CustomError
from kubernetes_validate import ValidationError, validate

from tests.k8s.custom import SCHEMAS
from tests.k8s.pods import WORKER
from tests.k8s.rendering import EVERYTHING, OVERLAYS, VERSIONS, Manifest, name_of, of_kind, only, render


def _is_custom(manifest: Manifest) -> bool:
    return (manifest["apiVersion"], manifest["kind"]) in SCHEMAS


@cache
def _validated(text: str, version: str) -> str | None:
    """What is wrong with an object; it is the same in several overlays."""
    try:
        validate(json.loads(text), version, strict=True)
    except ValidationError as exc:
        return str(exc.message)
    return None


def _wrong(manifest: Manifest, version: str) -> str | None:
    if not _is_custom(manifest):
        return _validated(json.dumps(manifest), version)
    schema = SCHEMAS[manifest["apiVersion"], manifest["kind"]]
    try:
        Draft202012Validator(schema).validate(manifest)
    except CustomError as exc:
        return exc.message
    return None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid(overlay: str, version: str) -> None:
    manifests = render(overlay)
    assert {name_of(manifest): _wrong(manifest, version) for manifest in manifests} == {
        name_of(manifest): None for manifest in manifests
    }
    assert len(manifests) > 20


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_field_is_found(version: str) -> None:
    worker = only(render("dev"), "StatefulSet", WORKER)
    worker["spec"]["podManagmentPolicy"] = worker["spec"].pop("podManagementPolicy")
    assert "podManagmentPolicy" in str(_wrong(worker, version))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_type_is_found(version: str) -> None:
    worker = only(render("dev"), "StatefulSet", WORKER)
    worker["spec"]["replicas"] = "one"
    assert _wrong(worker, version) is not None


def _misspelt(kind: str) -> Callable[[], Manifest]:
    def make() -> Manifest:
        found = of_kind(render(EVERYTHING), kind)[0]
        name = next(iter(found["spec"]))
        found["spec"][f"{name}s"] = found["spec"].pop(name)
        return found

    return make


@pytest.mark.parametrize("kind", sorted({kind for _, kind in SCHEMAS}))
def test_a_misspelt_field_of_an_operators_resource_is_found(kind: str) -> None:
    found = _misspelt(kind)()
    assert _is_custom(found)
    assert _wrong(found, VERSIONS[0]) is not None


def test_strimzi_before_0_49_gets_what_it_knows() -> None:
    versions = {
        overlay: {found["apiVersion"] for found in of_kind(render(overlay), "KafkaTopic", "KafkaUser")}
        for overlay in OVERLAYS
    }
    assert versions == {
        "dev": set(),
        "prod": {"kafka.strimzi.io/v1"},
        EVERYTHING: {"kafka.strimzi.io/v1beta2"},
    }
