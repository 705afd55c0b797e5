"""The container file and the manifests as their linters see them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.k8s.rendering import MANIFESTS, ROOT

_BIN = Path(sys.executable).parent
_CONTAINERFILE = MANIFESTS / "Containerfile"


def _run(tool: str, *arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run([_BIN / tool, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def _yamllint(*paths: Path) -> tuple[int, str]:
    return _run("yamllint", "--strict", "--config-file", MANIFESTS / ".yamllint.yaml", *paths)


def test_the_container_file_has_no_finding() -> None:
    assert _run("hadolint", _CONTAINERFILE) == (0, "")


def test_a_mistake_in_a_container_file_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "Containerfile"
    wrong.write_text(f"{_CONTAINERFILE.read_text()}\nRUN cd /tmp && pip install requests\nUSER root\n")
    status, said = _run("hadolint", wrong)
    assert status == 1
    assert "DL3013" in said
    assert "DL3002" in said


def test_the_manifests_have_no_finding() -> None:
    assert _yamllint(MANIFESTS, Path(__file__).parent) == (0, "")


def test_a_key_that_is_there_twice_is_found(tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS / "base", tmp_path / "base")
    settings = tmp_path / "base" / "kustomization.yaml"
    settings.write_text(f"{settings.read_text()}\nresources: []\n")
    status, said = _yamllint(tmp_path)
    assert status == 1
    assert "duplication of key" in said
