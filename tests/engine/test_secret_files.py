"""Files of secrets are read only where others cannot read or change them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.advised import printed_command
from triggerstream.core import advice
from triggerstream.core.errors import UsageError
from triggerstream.engine.secret_files import read_secret


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_file_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"\x00secret\n")
    path.chmod(mode)
    assert read_secret(path) == b"\x00secret\n"


@pytest.mark.parametrize(
    ("owner", "group", "mode", "refused"),
    [
        (0, 10001, 0o440, False),  # a Secret of Kubernetes, in a pod with fsGroup: 10001
        (0, 10001, 0o640, False),
        (0, 10001, 0o460, True),
        (0, 10001, 0o444, True),
        (0, 20002, 0o440, True),
        (10001, 10001, 0o440, True),
        (10001, 10001, 0o400, False),
    ],
)
def test_a_group_may_read_what_root_hands_over_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, group: int, mode: int, *, refused: bool
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"secret")
    found = os.stat_result((0o100000 | mode, 0, 0, 1, owner, group, 6, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: found)
    monkeypatch.setattr(os, "getegid", lambda: 10001)
    monkeypatch.setattr(os, "getgroups", lambda: [10001])
    if refused:
        with pytest.raises(UsageError, match=f"can read or change it: `chmod 600 {path}`"):
            read_secret(path)
    else:
        assert read_secret(path) == b"secret"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666, 0o660, 0o620])
def test_a_file_that_others_can_read_or_change_is_refused_until_it_is_closed(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "a secret"
    path.write_bytes(b"hidden-value")
    path.chmod(mode)
    with pytest.raises(UsageError) as caught:
        read_secret(path)
    assert "hidden" not in str(caught.value)
    subprocess.run(printed_command(advice.close_file(str(path)), str(caught.value)), check=True)
    assert read_secret(path) == b"hidden-value"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match=f"^{path}: cannot be read: "):
            read_secret(path)
