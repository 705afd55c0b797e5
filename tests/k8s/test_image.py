"""The image as its Containerfile makes it installs, and runs as a numeric user where it can write nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.k8s.cluster import at_home
from tests.k8s.commands import run_of
from tests.k8s.image import FILE, STATE, Image, missing, stages
from tests.k8s.pods import WORKER
from tests.k8s.rendering import containers_of, only, pod_of, render, workloads
from tests.support.waiting import wait_until
from triggerstream.core.ids import AppId


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if (lacking := missing()) is not None:
        pytest.skip(f"waits for {lacking}")
    return Image(tmp_path_factory.mktemp("image"))


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_last_stage_runs_nothing_and_has_a_numeric_user() -> None:
    build, final = stages(FILE.read_text())
    assert final.all("RUN") == []
    assert build.all("RUN") != []
    pods = {pod_of(workload)["securityContext"]["runAsUser"] for workload in workloads(render("prod"))}
    assert final.all("USER") == [f"{user}:{user}" for user in pods]
    assert final.all("ENTRYPOINT") == ['["/opt/triggerstream/bin/triggerstream"]']
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in final.all("LABEL")[0]


def test_every_install_is_held_to_hashes_or_to_what_was_built() -> None:
    build, _ = stages(FILE.read_text())
    steps = [step for text in build.all("RUN") for step in text.split("&&") if "/bin/pip " in step]
    installs = [step for step in steps if " install " in step]
    assert len(installs) == 3
    for step in installs:
        assert "--require-hashes" in step or "--no-index" in step
    assert all("--no-cache-dir" in step for step in steps)


def test_what_is_copied_is_not_left_out_of_the_build() -> None:
    build, _ = stages(FILE.read_text())
    patterns = (FILE.parent / f"{FILE.name}.dockerignore").read_text().splitlines()
    assert patterns[0] == "*"
    kept = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    copied = [word for text in build.all("COPY") for word in text.split()[:-1]]
    assert copied
    assert [name for name in copied if not any(fnmatch(name, pattern) for pattern in kept)] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_manifests_is_installed(image: Image) -> None:
    for overlay in ("dev", "prod"):
        for workload in workloads(render(overlay)):
            for container in containers_of(workload):
                names = [argument for argument in container["args"] if re.fullmatch("[a-z]+", argument)]
                done = _run(image.command([*names[:2], "--help"]))
                assert done.returncode == 0, _said(done)
                assert f"triggerstream {' '.join(names)} [OPTIONS]" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_user_can_write_its_volume_and_tmp_and_nothing_else(image: Image) -> None:
    program = (
        "import os, pathlib\n"
        "for place in ('/opt/triggerstream', '/usr', '/etc', '/', '/tmp', '.'):\n"
        "    try:\n"
        "        pathlib.Path(place, 'written').write_text('x')\n"
        "        print(os.path.abspath(place), 'written')\n"
        "    except OSError as exc:\n"
        "        print(place, exc.strerror)\n"
        "print(os.getuid(), os.getgid(), os.getgroups(), os.path.exists('/opt/triggerstream/bin/pip'))\n"
        "print([line for line in open('/proc/self/status') if line.startswith('CapBnd')])\n"
    )
    done = _run(image.run(["/opt/triggerstream/bin/python", "-c", program]))
    assert done.returncode == 0, _said(done)
    read_only = "Read-only file system"
    assert done.stdout.splitlines() == [
        f"/opt/triggerstream {read_only}",
        f"/usr {read_only}",
        f"/etc {read_only}",
        f"/ {read_only}",
        "/tmp written",  # noqa: S108 - the image's
        f"/{STATE} written",
        "10001 10001 [] False",
        r"['CapBnd:\t0000000000000000\n']",
    ]


class _Worker:
    """The container `worker` of the manifests, with the addresses of this machine."""

    def __init__(self, image: Image, kafka: str, app: AppId, output: Path) -> None:
        manifests = render("dev")
        (container,) = pod_of(only(manifests, "StatefulSet", WORKER))["containers"]
        settings = only(manifests, "ConfigMap", "triggerstream-settings")["data"]
        settings |= {"TRIGGERSTREAM_KAFKA": kafka, "TRIGGERSTREAM_APP": app}
        found = run_of(manifests, container, POD_NAME="triggerstream-worker-0")
        # The tokens and the peer key are secrets: pages are for this machine only here.
        secret = ("--web-tokens=", "--peer-key=")
        own = [argument for argument in at_home(found.args) if not argument.startswith(secret)]
        assert len(own) == len(found.args) - len(secret)
        self.output = output
        with output.open("wb") as stream:
            self.process = subprocess.Popen(
                image.command(own, env=found.env),
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def probes(self) -> str | None:
        assert self.process.poll() is None, self.text()
        found = re.search(r"probes and metrics: (\S+)", self.text())
        return found[1] if found else None

    def ready(self) -> bool:
        assert self.process.poll() is None, self.text()
        try:
            with urllib.request.urlopen(f"{self.probes()}/readyz", timeout=10) as answer:  # noqa: S310 - its own
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def start(image: Image, kafka: str, kafka_app: AppId, tmp_path: Path) -> Iterator[_Worker]:
    made = _run(image.command(["topics", "create", "--partitions=2", f"--at=kafka://{kafka}/{kafka_app}"]))
    assert made.returncode == 0, _said(made)
    worker = _Worker(image, kafka, kafka_app, tmp_path / "worker.log")
    yield worker
    worker.process.kill()
    worker.process.wait()


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_a_worker_of_the_manifests_becomes_ready_and_ends_in_order(image: Image, start: _Worker) -> None:
    wait_until(start.probes, within_s=120, what=start.text)
    wait_until(start.ready, within_s=120, what=start.text)
    status = Path(f"/proc/{start.process.pid}/status").read_text()
    assert re.search(r"^Uid:\s+10001\s+10001\s", status, re.MULTILINE)
    assert any(path.is_dir() for path in image.state.rglob("*-sessions"))
    start.process.send_signal(signal.SIGTERM)
    assert start.process.wait(120) == 0, start.text()
