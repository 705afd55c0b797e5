"""Certificates are renewed on disk while a bridge runs: it needs no restart by hand."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.adapters.kafka.bridges import RUN, BridgeProcess, append, command, counts
from tests.support.kafka.secure import Allowed, SecureKafka, secure_kafka
from tests.support.valkey import valkey_server
from tests.support.waiting import eventually
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.topics import create
from triggerstream.core.ids import AppId

pytestmark = [pytest.mark.kafka, pytest.mark.faults, pytest.mark.usefixtures("needs_kafka")]

PARTITIONS = 2


def client_file(secure: SecureKafka) -> Path:
    """The settings of a client, with a certificate that the present authority has signed."""
    certificate, key = secure.authority.issue("client")
    key.chmod(0o600)
    tls = {"ca": secure.authority.path.name, "cert": certificate.name, "key": key.name}
    return secure.config("client", tls=tls)


@pytest.mark.timeout(600)
async def test_a_bridge_reads_renewed_certificates_without_a_restart_from_outside(
    kafka_app: AppId, tmp_path: Path
) -> None:
    with secure_kafka(tmp_path / "kafka") as secure, valkey_server() as broker:
        plain = Connection(bootstrap=secure.server.bootstrap)
        await create(plain, kafka_app, partitions=PARTITIONS)
        secure.allow("CN=client", [Allowed(resource="topic", name=f"{kafka_app}*", operations=("All",))])
        secure.allow("CN=client", [Allowed(resource="group", name=f"{kafka_app}*", operations=("All",))])
        bridge = BridgeProcess(
            Connection(bootstrap=secure.at("SSL")),
            kafka_app,
            broker,
            tmp_path / "bridge.log",
            *("--allow", RUN, "--from", "earliest", "--kafka-config", str(client_file(secure))),
        )
        try:
            await bridge.wait_for_output(" ready: partitions ")
            sent = [command(kafka_app, number) for number in range(20)]
            await append(plain, kafka_app, sent[:10], partitions=PARTITIONS)
            await eventually(lambda: len(counts(broker)) == 10, what=bridge.text)

            # Nobody trusts the former authority any more, and all files are in the place of the old ones.
            secure.server.kill()
            secure.certify()
            client_file(secure)
            secure.server.launch()  # the kernel ends it with the thread that starts it
            await asyncio.to_thread(secure.server.await_answer)
            since = time.monotonic()
            await append(plain, kafka_app, sent[10:], partitions=PARTITIONS)
            await eventually(lambda: len(counts(broker)) == 20, within_s=240, what=bridge.text)
            print(f"certificates: {time.monotonic() - since:.0f} s")  # noqa: T201 - for `pytest -s`
            assert "no broker has answered for 60 s" in bridge.text()
            assert set(counts(broker)) == {one.id for one in sent}
            bridge.terminate()
            assert await bridge.ended() == 0, bridge.text()
        finally:
            bridge.kill()
