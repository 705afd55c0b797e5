"""A Kafka that encrypts and asks who is there: every client gets in as one file says, or is told why not."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import orjson
import pytest

from tests.adapters.faust.workers import WorkerProcess
from tests.adapters.kafka.bridges import BridgeProcess
from tests.support.kafka.secure import (
    PLAIN_PASSWORD,
    PLAIN_USER,
    Allowed,
    Authority,
    SecureKafka,
    secure_kafka,
)
from tests.support.kafka.server import missing
from tests.support.processes import celery_worker
from tests.support.secrets import write_secret
from tests.support.valkey import valkey_server
from tests.support.waiting import until
from triggerstream import Client, SyncClient, variables
from triggerstream.adapters.kafka import config
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.security import read
from triggerstream.adapters.kafka.topics import Topics, create
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import AppId
from triggerstream.settings import KafkaAddress
from triggerstream.wire import tasksfile

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

DOCS = Path(__file__).parents[3] / "docs" / "kafka.md"
TASKS = '{"t_add": {"after": ["a", "b"], "run": "tasks.add"}}'
ACCOUNTS = ("worker", "bridge", "celery", "application", "operator")
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    if (lacking := missing()) is not None:
        pytest.skip(f"waits for {lacking}")
    with secure_kafka(tmp_path_factory.mktemp("secure") / "kafka") as made:
        made.account("ada", "a right secret", [])
        yield made


def documented(account: str, app: AppId) -> list[Allowed]:
    """What the docs say that ``account`` has to be allowed."""
    rows = re.findall(
        r"^\| (\w+) \| (topic|group|transactional id) \| `<app>(.*)` \| ([\w, ]+) \|$",
        DOCS.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [
        Allowed(resource=resource, name=f"{app}{name}", operations=tuple(operations.split(", ")))
        for who, resource, name, operations in rows
        if who == account
    ]


def run(*arguments: str, at: KafkaAddress, config: Path | None, option: bool = False) -> tuple[int, str, str]:
    """A command, as a process of its own: its status, what it printed, and what it complained of."""
    env = {**os.environ, "TRIGGERSTREAM_AT": str(at)}
    more = []
    if config is not None and option:
        more = ["--kafka-config", str(config)]
    elif config is not None:
        env[variables.KAFKA_CONFIG] = str(config)
    done = subprocess.run(
        [sys.executable, "-m", "triggerstream", *arguments, *more],
        env=env,
        capture_output=True,
        text=True,
        timeout=2 * WITHIN_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


async def counted(at: KafkaAddress, config: Path, changed: Path) -> None:
    """An operator's rights are enough to count what a file would do to sessions."""
    status, out, err = await asyncio.to_thread(
        run, "config", "diff", str(changed), at=at, config=config, option=True
    )
    assert (status, err) == (1, ""), err
    assert "counted in 1 session, as they were at the checkpoints of 2 partitions" in out


async def test_all_that_there_is_works_with_the_rights_in_the_docs_and_no_others(
    secure: SecureKafka, kafka_app: AppId, tmp_path: Path
) -> None:
    files = {}
    for account in ACCOUNTS:
        name, password = f"{kafka_app}-{account}", f"the secret of {account}"
        secure.account(name, password, documented(account, kafka_app))
        files[account] = secure.config_of(name, password)
    at = KafkaAddress(bootstrap=secure.at("SASL_SSL"), app=kafka_app)
    connection = Connection(bootstrap=at.bootstrap)
    tasks = tmp_path / "tasks.json"
    tasks.write_text(TASKS)
    changed = tmp_path / "changed.json"
    changed.write_text(TASKS.replace("}", ', "unless": ["stop"]}', 1))

    async def operate(*arguments: str) -> str:
        status, out, err = await asyncio.to_thread(
            run, *arguments, at=at, config=files["operator"], option=True
        )
        assert (status, err) == (0, ""), err
        return out

    await operate("topics", "create", "--partitions", "2")
    await operate("topics", "check")
    await operate("config", "apply", str(tasks))
    await operate("topics", "rehome")
    with valkey_server() as broker:
        worker = WorkerProcess(
            connection,
            kafka_app,
            tmp_path / "worker",
            arguments=("--kafka-config", str(files["worker"])),
        )
        bridge = BridgeProcess(
            connection,
            kafka_app,
            broker,
            tmp_path / "bridge.log",
            *("--allow", "tasks.add", "--from", "earliest", "--kafka-config", str(files["bridge"])),
        )
        env = {
            variables.LOG: str(at),
            variables.KAFKA_CONFIG: str(files["celery"]),
            "CELERY_BROKER_URL": broker,
        }
        try:
            with celery_worker(
                "tests.adapters.kafka.secureapp", "-c", "1", env=env, output=tmp_path / "celery.log"
            ):
                await worker.ready()
                await bridge.wait_for_output(" ready: ")
                await asyncio.to_thread(fire, at, files["application"])

                async def explained() -> bool:
                    out = await operate("sessions", "show", "s1", "--json")
                    return "finished" in {one["status"] for one in orjson.loads(out)["instances"].values()}

                await until(explained, within_s=WITHIN_S)
                await healthy(operate, broker)
                await counted(at, files["operator"], changed)
            await worker.drained()
            bridge.terminate()
            assert await bridge.ended() == 0, bridge.text()
            await operate("replay", "--check")
            await operate("replay", "--rebuild", "--yes")
            await operate("replay", "--check")
            texts = [worker.text(), bridge.text(), (tmp_path / "celery.log").read_text()]
        finally:
            worker.kill()
            bridge.kill()
    assert not [text for text in texts if "the secret of" in text]


async def healthy(operate: Callable[..., Awaitable[str]], broker: str) -> None:
    """`doctor` with an operator's rights finds nothing wrong, and says who has what."""
    rows = (await operate("doctor", "--json", "--broker", broker)).splitlines()
    found = [orjson.loads(row) for row in rows]
    assert [row for row in found if not row["well"]] == []
    says = {row["what"]: row["says"] for row in found}
    assert says["workers"].endswith("partitions 0, 1; it answers")
    assert "partitions 0, 1" in says["bridge"]
    assert "has 1 of the 1 task that" in says["Celery workers"]


def fire(at: KafkaAddress, file: Path) -> None:
    """As an application does, whose environment names the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variables.KAFKA_CONFIG, str(file))
        with SyncClient(str(at), timeout_s=WITHIN_S) as client:
            client.fire("s1", "a", {"n": 1})
            client.fire("s1", "b", {"n": 2})


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SSL", None),
        ("SASL_SSL", "PLAIN"),
        ("SASL_SSL", "SCRAM-SHA-256"),
        ("SASL_SSL", "SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-512"),
    ],
)
async def test_each_protocol_and_mechanism_gets_in(
    secure: SecureKafka,
    kafka_app: AppId,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    mechanism: str | None,
) -> None:
    await create(Connection(bootstrap=secure.server.bootstrap), kafka_app, partitions=1)
    topics = Topics.of(kafka_app)
    may = [Allowed(resource="topic", name=topics.events, operations=("Write",))]
    name = f"{kafka_app}-{protocol}-{mechanism}"
    tls: dict[str, object] = {"ca": str(secure.authority.path)}
    members: dict[str, dict[str, object]] = {"tls": tls}
    if mechanism is None:
        cert, key = secure.authority.issue(name)
        tls |= {"cert": str(cert), "key": str(key)}
        secure.allow(f"CN={name}", may)
    else:
        password = f"the secret of {name}"
        if mechanism == "PLAIN":
            name, password = PLAIN_USER, PLAIN_PASSWORD
            secure.allow(name, may)
        else:
            secure.account(name, password, may, mechanism=mechanism)
        secret = secure.authority.path.parent / f"{name}.password"
        write_secret(secret, password)
        members["sasl"] = {"mechanism": mechanism, "username": name, "password_file": str(secret)}
        if protocol == "SASL_PLAINTEXT":
            del members["tls"]
            members["sasl"]["allow_plaintext"] = True
    file = secure.config(name, **members)
    assert read(file).protocol == protocol
    monkeypatch.setenv(variables.KAFKA_CONFIG, str(file))
    address = KafkaAddress(bootstrap=secure.at(protocol), app=kafka_app)
    async with Client(str(address), timeout_s=WITHIN_S) as client:
        await client.fire("s1", "a")


WRONG = [
    ("wrong password", "SASL_SSL", r"does not take the password of ada by SCRAM-SHA-512: see /sasl in "),
    ("wrong authority", "SASL_SSL", r"has a certificate that is not trusted \(.*\): see /tls/ca in "),
    ("no account", "SASL_SSL", r"hangs up: it may ask for an account or for the client's certificate, "),
    ("no certificate", "SSL", r"hangs up: it may ask for an account or for the client's certificate, "),
    ("no file", "SASL_SSL", r'speaks TLS: write "tls": {"ca": FILE} in a file, .* --kafka-config'),
]


def wrong(secure: SecureKafka, what: str, folder: Path) -> Path | None:
    """A file with one mistake."""
    write_secret(folder / "password", "a wrong secret" if what == "wrong password" else "a right secret")
    ca = Authority(folder, "other").path if what == "wrong authority" else secure.authority.path
    file = folder / "kafka.json"
    members: dict[str, object] = {"tls": {"ca": str(ca)}}
    if what in {"wrong password", "wrong authority"}:
        members["sasl"] = {"mechanism": "SCRAM-SHA-512", "username": "ada", "password_file": "password"}
    file.write_bytes(orjson.dumps(members))
    return None if what == "no file" else file


@pytest.mark.parametrize("case", WRONG, ids=[case[0] for case in WRONG])
async def test_a_client_that_does_not_get_in_is_told_why_at_once(
    secure: SecureKafka,
    kafka_app: AppId,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, str],
) -> None:
    what, protocol, message = case
    address = KafkaAddress(bootstrap=secure.at(protocol), app=kafka_app)
    file = wrong(secure, what, tmp_path)
    if file is not None:
        monkeypatch.setenv(variables.KAFKA_CONFIG, str(file))
    async with asyncio.timeout(WITHIN_S), Client(str(address), timeout_s=2 * WITHIN_S) as client:
        with pytest.raises(UsageError, match=f"^{address.bootstrap} {message}") as found:
            await client.fire("s1", "a")
    assert "secret" not in str(found.value)
    status, out, err = await asyncio.to_thread(run, "topics", "check", at=address, config=file)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert re.match(f"{address.bootstrap} {message}", line)


async def test_a_secret_that_was_put_right_is_used_by_the_client_that_there_is(
    secure: SecureKafka, kafka_app: AppId, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(Connection(bootstrap=secure.server.bootstrap), kafka_app, partitions=1)
    name, password = f"{kafka_app}-application", "the new secret"
    secure.account(name, password, documented("application", kafka_app))
    monkeypatch.setenv(variables.KAFKA_CONFIG, str(secure.config_of(name, "the old secret")))
    address = KafkaAddress(bootstrap=secure.at("SASL_SSL"), app=kafka_app)
    async with Client(str(address), timeout_s=WITHIN_S) as client:
        with pytest.raises(UsageError, match="does not take the password"):
            await client.fire("s1", "a")
        secure.config_of(name, password)
        await client.fire("s1", "a")


@pytest.mark.parametrize("what", ["wrong password", "wrong authority"])
async def test_a_worker_and_a_bridge_that_do_not_get_in_end_and_say_why(
    secure: SecureKafka, kafka_app: AppId, tmp_path: Path, what: str
) -> None:
    connection = Connection(bootstrap=secure.at("SASL_SSL"))
    message = next(message for name, _, message in WRONG if name == what)
    option = ("--kafka-config", str(wrong(secure, what, tmp_path)))
    worker = WorkerProcess(connection, kafka_app, tmp_path / "worker", arguments=option)
    try:
        assert await worker.ended() == 2, worker.text()
    finally:
        worker.kill()
    output = tmp_path / "bridge.log"
    bridge = BridgeProcess(
        connection, kafka_app, "redis://127.0.0.1:1", output, "--allow", "tasks.add", *option
    )
    try:
        assert await bridge.ended() == 2, bridge.text()
    finally:
        bridge.kill()
    for text in (worker.text(), bridge.text()):
        assert re.match(f"{connection.bootstrap} {message}", text.splitlines()[-1]), text
        assert "secret" not in text


async def test_a_right_that_lacks_is_told(secure: SecureKafka, kafka_app: AppId, tmp_path: Path) -> None:
    plain = Connection(bootstrap=secure.server.bootstrap)
    await create(plain, kafka_app, partitions=1)
    await config.apply(plain, kafka_app, tasksfile.read(TASKS, name="tasks"))
    name = f"{kafka_app}-worker"
    rights = [one for one in documented("worker", kafka_app) if one.resource != "group"]
    secure.account(name, "the secret", rights)
    worker = WorkerProcess(
        Connection(bootstrap=secure.at("SASL_SSL")),
        kafka_app,
        tmp_path / "worker",
        arguments=("--kafka-config", str(secure.config_of(name, "the secret"))),
    )
    try:
        assert await worker.ended() == 2, worker.text()
    finally:
        worker.kill()
    reason = f"this account may not join the group {kafka_app}: it needs Read on it"
    assert worker.text().splitlines()[-1].endswith(reason)
