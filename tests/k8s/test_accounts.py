"""With the rights that the manifests give to each account, on a Kafka that checks them, all of it works."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.k8s.cluster import Pod
from tests.k8s.pods import BRIDGE, WORKER
from tests.k8s.rendering import EVERYTHING, Manifest, of_kind, only, render
from tests.support.kafka.secure import Allowed, SecureKafka, secure_kafka
from tests.support.kafka.server import missing
from tests.support.probes import Probes, samples
from tests.support.secrets import write_secret
from tests.support.valkey import valkey_server
from tests.support.waiting import eventually
from triggerstream import SyncClient, variables
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

APP = AppId("triggerstream")
TOKEN = "a-token-of-a-viewer"
CLUSTER_CA = "main-cluster-ca-cert"
_RESOURCES = {"topic": "topic", "group": "group", "transactionalId": "transactional_id"}
_OPERATIONS = {"DescribeConfigs": "DESCRIBE_CONFIGS"}


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[SecureKafka]:
    if (lacking := missing()) is not None:
        pytest.skip(f"waits for {lacking}")
    with secure_kafka(tmp_path / "kafka") as made:
        yield made


def _allowed(user: Manifest) -> list[Allowed]:
    return [
        Allowed(
            resource=_RESOURCES[rule["resource"]["type"]],
            name=rule["resource"]["name"] + ("*" if rule["resource"]["patternType"] == "prefix" else ""),
            operations=tuple(_OPERATIONS.get(one, one.upper()) for one in rule["operations"]),
        )
        for rule in user["spec"]["authorization"]["acls"]
    ]


def _accounts(secure: SecureKafka, manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    """What Strimzi's user operator does: a certificate for each user, as a secret, and its rights."""
    secrets = {CLUSTER_CA: {"ca.crt": secure.authority.path.read_text()}}
    for user in of_kind(manifests, "KafkaUser"):
        name = user["metadata"]["name"]
        certificate, key = secure.authority.issue(name)
        secure.allow(f"CN={name}", _allowed(user))
        secrets[name] = {"user.crt": certificate.read_text(), "user.key": key.read_text()}
    return secrets


def _fire(
    secure: SecureKafka, secrets: dict[str, dict[str, str]], manifests: list[Manifest], place: Path
) -> None:
    """As an application does, with the account for those that write events."""
    place.mkdir()
    files = {**secrets[CLUSTER_CA], **secrets["triggerstream-producer"]}
    files |= only(manifests, "ConfigMap", "triggerstream-kafka")["data"]
    for name, text in files.items():
        write_secret(place / name, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variables.KAFKA_CONFIG, str(place / "kafka.json"))
        with SyncClient(f"kafka://{secure.at('SSL')}/{APP}", timeout_s=60) as client:
            client.fire("42", "module1Received")
            client.fire("42", "module4Received")


async def _spoil(secure: SecureKafka) -> None:
    """Have a record in the log that is no event."""
    producer = Connection(bootstrap=secure.server.bootstrap).producer()
    await producer.start()
    try:
        await producer.send_and_wait(Topics.of(APP).events, b"{", key=b"42")
    finally:
        await producer.stop()


def _page(said: str, name: str) -> dict[str, Any]:
    """What a worker's web view tells a viewer."""
    address = re.search(r"web view: (\S+)", said)
    assert address is not None, said
    request = Request(f"{address[1]}/v1/{name}", headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310
    with urlopen(request, timeout=60) as answer:  # noqa: S310 - a URL of the test's own
        found: dict[str, Any] = json.loads(answer.read())
    return found


async def test_each_process_does_its_work_with_the_rights_of_its_account(
    secure: SecureKafka, tmp_path: Path
) -> None:
    manifests = render(EVERYTHING)
    settings = only(manifests, "ConfigMap", "triggerstream-settings")["data"]
    assert settings["TRIGGERSTREAM_APP"] == APP
    settings["TRIGGERSTREAM_KAFKA"] = secure.at("SSL")
    secrets = _accounts(secure, manifests) | {
        "triggerstream-web": {"tokens": f"viewer:{TOKEN}\n"},
        "triggerstream-peer": {"key": f"{'5e' * 32}\n"},
    }
    await create(Connection(bootstrap=secure.server.bootstrap), APP, partitions=2)
    with valkey_server() as broker:
        secrets["triggerstream-broker"] = {"url": f"{broker}\n"}
        config = Pod(manifests, "Job", "triggerstream-config", secrets=secrets, folder=tmp_path / "config")
        workers = Pod(manifests, "StatefulSet", WORKER, secrets=secrets, folder=tmp_path / "worker")
        bridges = Pod(manifests, "Deployment", BRIDGE, secrets=secrets, folder=tmp_path / "bridge")
        for done in (workers.run("topics-check"), config.run("config"), config.run("config")):
            assert (done.returncode, done.stderr) == (0, ""), done.stderr
        worker, bridge = workers.start("worker"), bridges.start("bridge")
        try:
            for started in (worker, bridge):
                await (await Probes.of(started.text)).become(200, 200, 200)
            _fire(secure, secrets, manifests, tmp_path / "application")
            url = (await Probes.of(bridge.text)).url
            await eventually(lambda: samples(url)["commands_handed_over_total", ()] == 1, what=bridge.text)
            await _spoil(secure)
            await eventually(lambda: _page(worker.text(), "deadletters")["deadLetters"], what=worker.text)
            assert (worker.end(), bridge.end()) == (0, 0), worker.text() + bridge.text()
        finally:
            worker.kill()
            bridge.kill()


async def test_an_account_cannot_do_what_is_not_its_work(secure: SecureKafka, tmp_path: Path) -> None:
    manifests = render(EVERYTHING)
    only(manifests, "ConfigMap", "triggerstream-settings")["data"]["TRIGGERSTREAM_KAFKA"] = secure.at("SSL")
    secrets = _accounts(secure, manifests)
    await create(Connection(bootstrap=secure.server.bootstrap), APP, partitions=2)
    wrong = secrets | {"triggerstream-setup": secrets["triggerstream-producer"]}
    config = Pod(manifests, "Job", "triggerstream-config", secrets=wrong, folder=tmp_path / "config")
    done = config.run("config")
    assert done.returncode != 0
    assert "triggerstream" in done.stderr
    assert len(done.stderr.splitlines()) == 1
