"""The manifests as a cluster gets them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.support.environment import with_authorities

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "k8s"
TOOLS = ROOT / ".tools"
"""What is built once, ignored by git."""
EVERYTHING = "everything"
"""An overlay of the tests: `prod` and the components that it leaves out."""
OVERLAYS = {
    "dev": MANIFESTS / "overlays" / "dev",
    "prod": MANIFESTS / "overlays" / "prod",
    EVERYTHING: Path(__file__).parent / "overlays" / EVERYTHING,
}
VERSIONS = ("1.29", "1.37")
"""The oldest Kubernetes that the manifests are for, whose volumes can be one pod's alone, and the newest."""

Manifest: TypeAlias = dict[str, Any]
"""One object, as YAML has it."""


def renderer() -> list[str] | None:
    """What renders: kubectl, kustomize, or a kustomize that Go builds from the versions of `k8s/tools`."""
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    built, go = TOOLS / "kustomize", shutil.which("go")
    if built.exists():
        return [str(built), "build"]
    if go is None:
        return None
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            _build(go, built)
    return [str(built), "build"]


def _build(go: str, goal: Path) -> None:
    unfinished = goal.with_suffix(".unfinished")
    arguments = ["build", "-o", str(unfinished), "sigs.k8s.io/kustomize/kustomize/v5"]
    done = subprocess.run(
        [go, *arguments],
        cwd=MANIFESTS / "tools",
        env=with_authorities(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"Go cannot build kustomize: {done.stderr}"
    unfinished.rename(goal)


@cache
def _rendered(folder: Path) -> list[Manifest]:
    command = renderer()
    if command is None:
        pytest.skip("waits for kubectl, kustomize or Go on the PATH: nothing can render the manifests")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    return [found for found in yaml.safe_load_all(done.stdout) if found is not None]


def render(overlay: str) -> list[Manifest]:
    """The objects of an overlay, the caller's own."""
    return deepcopy(_rendered(OVERLAYS[overlay]))


def name_of(manifest: Manifest) -> str:
    """``Kind/name``."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def only(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of that kind and name, which generated ones begin with."""
    found = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind
        and (manifest["metadata"]["name"] == name or _generated(manifest, name) == name)
    ]
    assert len(found) == 1, f"{kind}/{name}: {len(found)} of them"
    return found[0]


def _generated(manifest: Manifest, name: str) -> str | None:
    """``name``, where that of ``manifest`` is it and a hash."""
    head, _, tail = manifest["metadata"]["name"].rpartition("-")
    return name if manifest["kind"] == "ConfigMap" and head == name and len(tail) == 10 else None


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """The objects of those kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    """What makes pods."""
    return of_kind(manifests, "StatefulSet", "Deployment", "Job")


def pod_of(manifest: Manifest) -> Manifest:
    """The specification of the pods that a workload makes."""
    spec: Manifest = manifest["spec"]["template"]["spec"]
    return spec


def containers_of(manifest: Manifest) -> list[Manifest]:
    """Those of a workload's pods, the ones that run first included."""
    pod = pod_of(manifest)
    return [*pod.get("initContainers", []), *pod["containers"]]


if __name__ == "__main__":
    renderer()
