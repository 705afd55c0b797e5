"""The Kafka Streams peer: Maven builds it from ``streams/`` into ``build/kafka-streams-peer``, once."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent / "streams"
BUILT = Path(__file__).resolve().parents[3] / "build" / "kafka-streams-peer"
_JAR = BUILT / "peer.jar"
_BUILD_S = 900.0
"""It takes half a minute where Maven has the jars; a loaded machine takes a few times that."""


class PeerBuildError(Exception):
    """Maven could not build it; the message has what Maven said."""


def missing() -> str | None:
    """The tool that this machine lacks for it, or None."""
    if shutil.which("java") is None:
        return "Java 17 or newer (`java` is not on the PATH)"
    if not _is_built() and shutil.which("mvn") is None:
        return "Maven, which builds it (`mvn` is not on the PATH)"
    return None


def version() -> str:
    """The version of Kafka Streams that its ``pom.xml`` pins."""
    found = re.search(r"<artifactId>kafka-streams</artifactId>\s*<version>([^<]+)<", _pom())
    if found is None:
        raise AssertionError("the pom.xml of the peer names no version of kafka-streams")
    return found[1]


def command() -> list[str]:
    """The beginning of its command line; it is built first where it is not, or its sources have changed.

    Raises:
        PeerBuildError: it cannot be built.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    with BUILT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_built():
            _build()
    return ["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-jar", str(_JAR)]


def _build() -> None:
    words = ["mvn", "--quiet", "--batch-mode", "package"]
    done = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=False, timeout=_BUILD_S)
    if done.returncode:
        raise PeerBuildError(f"Maven could not build the Kafka Streams peer:\n{done.stdout}{done.stderr}")
    _stamp().write_text(_digest())


def _is_built() -> bool:
    return _JAR.exists() and _stamp().exists() and _stamp().read_text() == _digest()


def _stamp() -> Path:
    return BUILT / "sources"


def _digest() -> str:
    sources = [_pom().encode(), *(path.read_bytes() for path in sorted(HERE.rglob("*.java")))]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()


def _pom() -> str:
    return (HERE / "pom.xml").read_text()
