"""The worker and the fold of an earlier commit, built as a wheel into an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tests.benchmarks.machine import ROOT
from tests.benchmarks.peers.contenders import Build

BASE = "0ff2d74"
"""The last commit before the work on speed: the one to compare with where there is no release."""


def base() -> str:
    """The commit of the last release tag, else of ``BASE``.

    Raises:
        subprocess.CalledProcessError: it is not in this repository.
    """
    words = ["git", "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]
    tag = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()
    return commit_of(tag or BASE)


def commit_of(name: str) -> str:
    """The full hash of a commit that is named by a tag, a branch or the beginning of its hash.

    Raises:
        subprocess.CalledProcessError: there is no such commit.
    """
    words = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def build(commit: str, folder: Path) -> Build:
    """An environment below ``folder`` with the package of ``commit``, and with the libraries of this one."""
    source, wheels, place = folder / "source", folder / "wheels", folder / "venv"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    make = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*make, "--wheel-dir", wheels, source], check=True)
    venv.create(place, with_pip=False)
    (wheel,) = wheels.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    packages = next((place / "lib").glob("python*")) / "site-packages"
    subprocess.run([*install, "--target", packages, wheel], check=True)
    return Build(commit=commit, python=place / "bin" / "python", variables=libraries())


def libraries() -> dict[str, str]:
    """This environment's libraries. Its own triggerstream is a link, which is not followed here."""
    return {"PYTHONPATH": sysconfig.get_paths()["purelib"]}
