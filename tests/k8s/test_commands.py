"""What the manifests have the image run is what the command line takes, and the files are what it reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click
import pytest

from tests.k8s.commands import all_containers, mounted, parsed, run_of
from tests.k8s.objects import SECRETS
from tests.k8s.pods import BRIDGE, WORKER
from tests.k8s.rendering import MANIFESTS, OVERLAYS, ROOT, containers_of, only, pod_of, render, workloads
from triggerstream import variables
from triggerstream.adapters.kafka import security
from triggerstream.settings import KafkaAddress, locate
from triggerstream.wire import tasksfile

_FILES = "/etc/triggerstream/"
_OF_SECRETS = {f"{_FILES}web/tokens", f"{_FILES}peer/key", f"{_FILES}broker/url"}
"""What somebody puts into secrets, under these names: docs/kubernetes.md says so."""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_argument_is_one_of_the_command_line(overlay: str) -> None:
    manifests = render(overlay)
    found = {parsed(run.args)[0] for _, run in all_containers(manifests, workloads(manifests))}
    wanted = {"worker", "bridge", "topics check", "config apply"}
    assert found == (wanted | {"topics create"} if overlay == "dev" else wanted)


def test_an_option_that_is_none_is_found() -> None:
    with pytest.raises(click.NoSuchOption):
        parsed(["worker", "--kafka=kafka:9092", "--probe-port=8081"])
    with pytest.raises(click.BadParameter):
        parsed(["worker", "--kafka=kafka:9092", "--session-timeout=120"])
    with pytest.raises(click.UsageError):
        parsed(["folders"])
    with pytest.raises(click.MissingParameter):
        parsed(["config", "apply"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_process_looks_at_the_same_app(overlay: str) -> None:
    manifests = render(overlay)
    found = set()
    for _, run in all_containers(manifests, workloads(manifests)):
        _, parameters = parsed(run.args)
        if "at" in parameters:
            address = locate(parameters["at"])
            assert isinstance(address, KafkaAddress)
            found.add((address.bootstrap, address.app))
        else:
            found.add((parameters["kafka"], parameters["app"]))
    assert len(found) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_file_that_is_named_is_mounted(overlay: str) -> None:
    manifests = render(overlay)
    for workload in workloads(manifests):
        for container in containers_of(workload):
            run = run_of(manifests, container, POD_NAME="pod-0")
            values = [*run.args, *run.env.values()]
            paths = {_FILES + value.partition(_FILES)[2] for value in values if _FILES in value}
            paths -= {f"{_FILES}bridge"}
            assert paths - _OF_SECRETS <= set(mounted(manifests, workload, container))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_and_pages_listen_where_the_cluster_looks(overlay: str) -> None:
    manifests = render(overlay)
    for kind, name in (("StatefulSet", WORKER), ("Deployment", BRIDGE)):
        (container,) = pod_of(only(manifests, kind, name))["containers"]
        run = run_of(manifests, container, POD_NAME="pod-0")
        _, parameters = parsed(run.args)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert (parameters["probes_host"], parameters["probes_port"]) == ("0.0.0.0", ports["probes"])  # noqa: S104
        if name == WORKER:
            assert (parameters["web_host"], parameters["web_port"]) == ("0.0.0.0", ports["web"])  # noqa: S104
            assert parameters["instance_id"] == "pod-0"
            assert {str(parameters[name]) for name in ("web_tokens", "peer_key")} <= _OF_SECRETS
            service = only(manifests, "Service", WORKER)
            assert (
                parameters["web_url"]
                == f"http://pod-0.{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
            )
            # A restart is over by then, and a pod that is gone is not waited for longer than it has to end.
            assert 60_000_000 <= parameters["session_timeout_us"] <= 90_000_000


def test_a_bridge_is_told_where_to_begin_once() -> None:
    wanted = {"dev": "earliest", "prod": None, "everything": "earliest"}
    found = {}
    for overlay in OVERLAYS:
        manifests = render(overlay)
        (container,) = pod_of(only(manifests, "Deployment", BRIDGE))["containers"]
        found[overlay] = parsed(run_of(manifests, container).args)[1]["start"]
    assert found == wanted


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_bridge_may_run_what_the_tasks_file_names(overlay: str) -> None:
    manifests = render(overlay)
    text = only(manifests, "ConfigMap", "triggerstream-tasks")["data"]["tasks.json"]
    tasks = tasksfile.read(text.encode(), name="tasks.json").tasks
    allowed = only(manifests, "ConfigMap", "triggerstream-bridge")["data"]["allowed-tasks.txt"].splitlines()
    assert {task.run for task in tasks} <= set(allowed)
    assert tasks


def test_the_celery_app_of_the_bridge_reads_its_broker_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tmp_path / "url"
    url.write_text("redis://:secret@valkey:6379/0\n")
    source = (MANIFESTS / "base" / "celery_settings.py").read_text()
    assert source.count("/etc/triggerstream/broker/url") == 1
    (tmp_path / "celery_settings.py").write_text(source.replace("/etc/triggerstream/broker/url", str(url)))
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.find_spec("celery_settings")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.app.conf.broker_url == "redis://:secret@valkey:6379/0"


def test_kafka_json_is_one_that_every_client_reads(tmp_path: Path) -> None:
    manifests = render("prod")
    text = only(manifests, "ConfigMap", "triggerstream-kafka")["data"]["kafka.json"]
    (tmp_path / "kafka.json").write_text(text)
    found = security.read(tmp_path / "kafka.json")
    assert found.protocol == "SSL"
    assert found.tls is not None
    worker = only(manifests, "StatefulSet", WORKER)
    (container,) = pod_of(worker)["containers"]
    files = {Path(path).name for path in mounted(manifests, worker, container) if "/kafka/" in path}
    named = (found.tls.ca, found.tls.cert, found.tls.key)
    assert files == {"kafka.json", *(path.name for path in named if path is not None)}
    assert variables.KAFKA_CONFIG in {entry["name"] for entry in container["env"]}


def test_the_page_says_how_to_make_each_secret() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    for secret in SECRETS:
        assert f"`{secret}`" in page
    assert len(SECRETS) == 4
