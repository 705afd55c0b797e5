"""Files of secrets with the modes that the program requires."""

from __future__ import annotations

from pathlib import Path


def write_secret(path: Path, text: str | bytes) -> Path:
    """A file that its owner alone can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
