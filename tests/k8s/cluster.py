"""Pods of the manifests as processes of this machine: with their files, arguments and environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.k8s.commands import run_of
from tests.k8s.rendering import Manifest, of_kind, only, pod_of

_FILES = "/etc/triggerstream"
_STATE = "/var/lib/triggerstream"
_OF_A_CLUSTER = {
    "--web-host": "127.0.0.1",
    "--web-port": "0",
    "--probes-host": "127.0.0.1",
    "--probes-port": "0",
}
"""Addresses of a cluster, and those that this machine has in their place."""

Secrets = Mapping[str, Mapping[str, str]]
"""By the secret's name and the key."""


def at_home(args: list[str]) -> list[str]:
    """``args`` with the addresses of this machine."""
    options = [argument.partition("=") for argument in args]
    return [f"{name}{equals}{_OF_A_CLUSTER.get(name, value)}" for name, equals, value in options]


class Pod:
    """The containers of a workload, one at a time, below ``folder``."""

    def __init__(
        self, manifests: list[Manifest], kind: str, name: str, *, secrets: Secrets, folder: Path
    ) -> None:
        self._manifests = manifests
        self._workload = only(manifests, kind, name)
        self._folder = folder
        folder.mkdir()
        maps = {found["metadata"]["name"]: found["data"] for found in of_kind(manifests, "ConfigMap")}
        volumes = {volume["name"]: volume for volume in pod_of(self._workload)["volumes"]}
        for container in self._containers().values():
            for mount in container["volumeMounts"]:
                volume = volumes.get(mount["name"], {})
                for source in [volume, *volume.get("projected", {}).get("sources", [])]:
                    if "configMap" in source:
                        self._lay(mount["mountPath"], maps[source["configMap"]["name"]])
                    if "secret" in source:
                        secret = source["secret"]
                        self._lay(mount["mountPath"], secrets[secret.get("secretName") or secret["name"]])

    def command(self, name: str) -> tuple[list[str], dict[str, str]]:
        """What starts a container, and its environment."""
        found = run_of(self._manifests, self._containers()[name], POD_NAME="triggerstream-worker-0")
        args = [self._here(argument) for argument in at_home(found.args)]
        env = {variable: self._here(value) for variable, value in found.env.items()}
        return [sys.executable, "-m", "triggerstream", *args], {**os.environ, **env}

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Have a container run to its end."""
        command, env = self.command(name)
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)

    def start(self, name: str) -> Started:
        """Start a container that goes on."""
        command, env = self.command(name)
        return Started(command, env, self._folder / f"{name}.log")

    def _containers(self) -> dict[str, Manifest]:
        pod = pod_of(self._workload)
        return {found["name"]: found for found in [*pod.get("initContainers", []), *pod["containers"]]}

    def _lay(self, mount: str, files: Mapping[str, str]) -> None:
        place = self._folder / mount.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(self._here(text))
            (place / name).chmod(0o400)  # as the pod's group alone has it

    def _here(self, text: str) -> str:
        return text.replace(_FILES, f"{self._folder}{_FILES}").replace(_STATE, f"{self._folder}{_STATE}")


class Started:
    """A process that was started."""

    def __init__(self, command: list[str], env: dict[str, str], output: Path) -> None:
        self._output = output
        with output.open("wb") as stream:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )

    def text(self) -> str:
        """What it printed so far."""
        return self._output.read_text(errors="replace")

    def end(self) -> int:
        """Ask it to end; its status."""
        self.process.terminate()
        return self.process.wait(120)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
