"""The file with TLS and SASL: what it may say, and what it is told is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.kafka.secure import Authority
from tests.support.secrets import write_secret
from triggerstream.adapters.faust.credentials import credentials
from triggerstream.adapters.kafka.connection import Connection
from triggerstream.adapters.kafka.security import PLAINTEXT, Security, read
from triggerstream.core.errors import UsageError
from triggerstream.core.ids import Json

SCRAM: dict[str, Json] = {"mechanism": "SCRAM-SHA-512", "username": "ada", "password_file": "password"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def written(folder: Path, value: Json) -> Path:
    path = folder / "kafka.json"
    path.write_text(json.dumps(value))
    return path


def said(folder: Path, value: Json) -> Security:
    return read(written(folder, value))


def test_a_file_that_says_nothing_asks_for_nothing(tmp_path: Path) -> None:
    security = said(tmp_path, {})
    assert security.options() == PLAINTEXT.options() == {}
    assert credentials(security) is None
    assert security.protocol == "PLAINTEXT"


@pytest.mark.usefixtures("authority")
def test_paths_begin_at_the_folder_of_the_file_and_secrets_are_read_anew(tmp_path: Path) -> None:
    write_secret(tmp_path / "password", "first\n")
    security = said(tmp_path, {"tls": {"ca": "ca.crt"}, "sasl": SCRAM})
    options = security.options()
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("ada", "first")
    write_secret(tmp_path / "password", "second")
    assert security.options()["sasl_plain_password"] == "second"


def test_a_client_s_own_certificate_is_two_files(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue("ada")
    tls: dict[str, Json] = {"ca": str(authority.path), "cert": str(cert), "key": str(key)}
    assert said(tmp_path, {"tls": tls}).options()["security_protocol"] == "SSL"
    del tls["key"]
    with pytest.raises(UsageError, match=r": /tls: .* name cert and key, or neither$"):
        said(tmp_path, {"tls": tls})


def test_what_is_shown_of_a_connection_has_no_secret(tmp_path: Path) -> None:
    write_secret(tmp_path / "password", "do not show")
    security = said(tmp_path, {"tls": {}, "sasl": SCRAM})
    assert "do not show" not in repr(Connection(bootstrap="127.0.0.1:1", security=security))
    assert "do not show" not in repr(credentials(security))
    write_secret(tmp_path / "control.key", f"2026-01-01T00:00:00Z {'5a' * 32}")
    security = said(tmp_path, {"control_key_file": "control.key"})
    assert security.control is not None
    assert "ZZ" not in repr(Connection(bootstrap="127.0.0.1:1", security=security))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "/: must be an object with control_key_file, sasl, tls"),
        ({"tsl": {}}, "/tsl: is not known: did you mean tls?"),
        ({"tls": {"verify": False}}, "/tls/verify: is not known: there are ca, cert, key"),
        ({"tls": {"ca": ""}}, "/tls/ca: must be a text that is not empty"),
        ({"tls": {}, "sasl": {**SCRAM, "mechanism": "GSSAPI"}}, "/sasl/mechanism: 'GSSAPI': write PLAIN, "),
        ({"tls": {}, "sasl": {**SCRAM, "password": "x"}}, "/sasl/password: write it into a file"),
        ({"tls": {}, "sasl": {"mechanism": "PLAIN", "username": "a"}}, "/sasl/password_file: is missing"),
        ({"tls": {}, "sasl": {**SCRAM, "username": 7}}, "/sasl/username: must be a text"),
        ({"sasl": {**SCRAM, "mechanism": "PLAIN"}}, "/sasl: PLAIN without TLS sends the password for all"),
        (
            {"sasl": {**SCRAM, "mechanism": "PLAIN", "allow_plaintext": True}},
            "/sasl: PLAIN without TLS sends the password for all",
        ),
        ({"sasl": SCRAM}, "/sasl: SCRAM-SHA-512 without TLS keeps the password only, and no event: add "),
        ({"sasl": {**SCRAM, "allow_plaintext": "yes"}}, "/sasl/allow_plaintext: write true or false"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, value: Json, message: str) -> None:
    with pytest.raises(UsageError) as found:
        said(tmp_path, value)
    assert str(found.value).startswith(f"{tmp_path / 'kafka.json'}: {message}")
    assert "\n" not in str(found.value)


def test_scram_without_tls_has_to_be_allowed(tmp_path: Path) -> None:
    write_secret(tmp_path / "password", "secret")
    security = said(tmp_path, {"sasl": {**SCRAM, "allow_plaintext": True}})
    assert security.options()["security_protocol"] == "SASL_PLAINTEXT"


@pytest.mark.parametrize("text", [b"{", b'{"tls": }', b"\xff"])
def test_what_is_no_json_is_told_with_the_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "kafka.json"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=r"kafka\.json: not JSON: "):
        read(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"kafka\.json: No such file"):
        read(tmp_path / "kafka.json")


def test_secrets_that_others_can_read_are_refused(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue("ada")
    write_secret(tmp_path / "password", "first")
    write_secret(tmp_path / "control.key", f"2026-01-01T00:00:00Z {'5a' * 32}")
    cases: list[tuple[dict[str, Json], str, Path]] = [
        ({"tls": {"cert": str(cert), "key": str(key)}}, "/tls/key", key),
        ({"tls": {}, "sasl": SCRAM}, "/sasl/password_file", tmp_path / "password"),
        ({"control_key_file": "control.key"}, "/control_key_file", tmp_path / "control.key"),
    ]
    for value, place, path in cases:
        said(tmp_path, value).options()
        for mode, who in ((0o604, "everybody on this machine"), (0o660, "its group")):
            path.chmod(mode)
            with pytest.raises(UsageError, match=f"{place}: {path}: {who} can .*: `chmod 600 {path}`"):
                said(tmp_path, value).options()


def test_files_that_cannot_be_used_are_told_with_their_place(tmp_path: Path, authority: Authority) -> None:
    write_secret(tmp_path / "password", "\n")
    (tmp_path / "no.crt").write_text("no certificate")
    (tmp_path / "no.crt").chmod(0o600)
    cert, _ = authority.issue("ada")
    _, other = authority.issue("eve")
    cases: list[tuple[dict[str, Json], str]] = [
        ({"tls": {"ca": "gone.crt"}}, "/tls/ca: .*gone.crt cannot be used: No such file"),
        ({"tls": {"ca": "no.crt"}}, "/tls/ca: .*no.crt cannot be used: "),
        ({"tls": {"cert": str(cert), "key": str(other)}}, "/tls/cert, /tls/key: .* cannot be used: "),
        (
            {"tls": {}, "sasl": {**SCRAM, "password_file": "gone"}},
            "/sasl/password_file: .*gone: cannot be read",
        ),
        ({"tls": {}, "sasl": SCRAM}, "/sasl/password_file: .*password is empty"),
        ({"control_key_file": "gone"}, "/control_key_file: .*gone: cannot be read: No such file"),
        (
            {"control_key_file": "no.crt"},
            "/control_key_file: .*no.crt cannot be used: line 1: must be an RFC",
        ),
    ]
    for value, message in cases:
        with pytest.raises(UsageError, match=message):
            said(tmp_path, value).options()
