"""Files of secrets are read only where others cannot read or change them."""

from __future__ import annotations

from pathlib import Path

import pytest

from triggerstream.core.errors import UsageError
from triggerstream.engine.secret_files import read_secret


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_file_of_its_owner_and_group_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"\x00secret\n")
    path.chmod(mode)
    assert read_secret(path) == b"\x00secret\n"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"hidden-value")
    path.chmod(mode)
    with pytest.raises(UsageError, match=f"chmod o-rw {path}") as caught:
        read_secret(path)
    assert "hidden" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match=f"^{path}: cannot be read: "):
            read_secret(path)
