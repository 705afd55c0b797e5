"""What the containers run, read as the command line itself reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from tests.k8s.rendering import Manifest, containers_of, of_kind, pod_of
from triggerstream.cli import main

_REFERENCE = re.compile(r"\$\(([A-Z_]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A container: its arguments and environment as it starts with them."""

    args: list[str]
    env: dict[str, str]


def run_of(manifests: list[Manifest], container: Manifest, **known: str) -> Run:
    """How ``container`` starts. ``known``: what only a cluster knows, such as POD_NAME.

    Raises:
        KeyError: an argument names a variable that is not there.
    """
    maps = {found["metadata"]["name"]: found["data"] for found in of_kind(manifests, "ConfigMap")}
    env: dict[str, str] = {}
    for source in container.get("envFrom", []):
        env |= maps[source["configMapRef"]["name"]]
    for entry in container.get("env", []):
        env[entry["name"]] = entry["value"] if "value" in entry else known[entry["name"]]
    args = [_REFERENCE.sub(lambda match: env[match[1]], argument) for argument in container["args"]]
    return Run(args=args, env=env)


def parsed(args: list[str]) -> tuple[str, dict[str, Any]]:
    """The command that ``args`` name, and its parameters.

    Raises:
        click.ClickException: they do not fit.
    """
    rest = list(args)
    command: click.Command = main
    names = []
    context = click.Context(command)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"there is no command {name}")
        command = found
        names.append(name)
    with command.make_context(" ".join(names), rest, parent=context) as made:
        return " ".join(names), dict(made.params)


def mounted(manifests: list[Manifest], workload: Manifest, container: Manifest) -> Iterator[str]:
    """The files that configurations and secrets bring into ``container``, where their names are known."""
    maps = {found["metadata"]["name"]: found["data"] for found in of_kind(manifests, "ConfigMap")}
    volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                names = list(maps[source["configMap"]["name"]])
            else:
                names = [item["path"] for item in source.get("secret", {}).get("items", [])]
            for name in names:
                yield f"{mount['mountPath']}/{name}"


def all_containers(manifests: list[Manifest], workloads: list[Manifest]) -> Iterator[tuple[Manifest, Run]]:
    """Each container of ``workloads`` and how it starts."""
    for workload in workloads:
        for container in containers_of(workload):
            yield workload, run_of(manifests, container, POD_NAME="triggerstream-worker-0")
