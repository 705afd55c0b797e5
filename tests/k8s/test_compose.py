"""`k8s/compose.yaml`: its mounts are files that a container sees, its commands are those of the program."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.commands import parsed
from triggerstream.wire import tasksfile

FILE = Path(__file__).resolve().parents[2] / "k8s/compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
MOUNTS = [
    (name, volume.split(":"))
    for name, service in SERVICES.items()
    for volume in service.get("volumes", [])
    if volume.startswith(".")
]


@pytest.mark.parametrize(("service", "mount"), MOUNTS)
def test_a_mounted_folder_holds_no_link_that_leads_out_of_it(service: str, mount: list[str]) -> None:
    folder = (FILE.parent / mount[0]).resolve()
    assert folder.is_dir(), service
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert [link for link in links if not link.resolve().is_relative_to(folder)] == []


def test_every_file_that_a_command_names_is_in_its_mounts() -> None:
    mounted = {name: (FILE.parent / source).resolve() for name, (source, *_) in MOUNTS}
    survey = mounted["config"] / "survey.json"
    assert SERVICES["config"]["command"] == "config apply --yes /survey/survey.json"
    config, findings = tasksfile.check(survey.read_bytes(), name="survey.json")
    assert findings == ()
    assert config is not None
    allowed = shlex.split(SERVICES["bridge"]["command"])
    assert [task.run for task in config.tasks] == [allowed[allowed.index("--allow") + 1]]
    assert SERVICES["celery"]["environment"]["PYTHONPATH"] == "/survey"
    assert (mounted["celery"] / "my_app/tasks.py").is_file()


def test_every_command_is_one_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {name: one for name, one in SERVICES.items() if one.get("image") == "triggerstream"}
    assert set(ours) == {"topics", "config", "worker", "bridge", "celery"}
    for name, value in COMPOSE["x-environment"].items():
        monkeypatch.setenv(name, value)
    for service in ours.values():
        if "entrypoint" not in service:
            parsed(shlex.split(service["command"]))
