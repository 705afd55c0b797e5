"""Every snippet of README and docs is run or checked: a command that is not known here is a failure.

`tests/acceptance/test_readme.py` follows README's "Use it" with real processes. `tests/test_testing_docs.py`
runs
docs/testing.md, `tests/cli/test_tasks_docs.py` docs/tasks-file.md, and `tests/core/test_semantics.py`
docs/semantics.md.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from celery import Celery

from tests.k8s.commands import parsed
from tests.test_docs import PAGES, ROOT
from triggerstream import variables
from triggerstream.adapters.kafka import security
from triggerstream.celery import current
from triggerstream.core.commands import Command
from triggerstream.core.ids import AppId
from triggerstream.engine.replay.simulate import Simulation
from triggerstream.wire import events, tasksfile
from triggerstream.wire.event_lines import SourceLocation
from triggerstream.wire.records import Record

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4,}\S.*\n)+)")
_OTHER_TOOLS = {
    "cd",
    "curl",
    "docker",
    "echo",
    "export",
    "kafka-topics.sh",
    "kcat",
    "kubectl",
    "kustomize",
    "openssl",
    "pip",
    "umask",
}
_RUN_ELSEWHERE = {"docs/testing.md", "docs/tasks-file.md", "docs/semantics.md"}
_NO_COMMANDS = {"docs/style.md", "examples/producers/README.md"}
"""Pages whose indented blocks are a drawing, and the arguments that all example programs take."""


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of these languages."""
    text = page.read_text(encoding="utf-8")
    return [block for _, language, block in _FENCE.findall(text) if language in languages]


def commands() -> Iterator[tuple[str, str]]:
    """Each command line that a page shows, with the page."""
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for block in blocks(page, "console"):
            lines = re.findall(r"^ *\$ ((?:.*\\\n)*.*)", block, re.MULTILINE)
            yield from ((name, line.replace("\\\n", " ")) for line in lines)


def parts(line: str) -> Iterator[list[str]]:
    """The simple commands of a command line, without the variables set for them."""
    for part in re.split(r"&&|\|", line.strip("()")):
        words = shlex.split(part.strip("() "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            assert words[0].partition("=")[0] in _VARIABLES, line
            del words[0]
        yield words


_VARIABLES = {value for name, value in vars(variables).items() if name.isupper()}
COMMANDS = sorted(set(commands()))


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_a_page_is_one_that_exists(
    page: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variables.AT, "kafka://127.0.0.1:9092/triggerstream")
    for words in parts(line):
        if not words:
            continue
        tool, *arguments = words
        if tool.removeprefix(".venv/bin/") == "triggerstream":
            check_our_command(arguments)
        elif tool == "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), line
        elif tool == "python":
            assert (ROOT / page).with_name(arguments[0]).exists(), line
        elif tool == "celery":
            assert arguments[:2] == ["-A", "my_app.tasks"]
        else:
            assert tool in _OTHER_TOOLS, f"{page}: {line}: have a test run it, or add the tool"
            check_named_things(tool, arguments)


def check_our_command(arguments: list[str]) -> None:
    """A command line that may have `…` where arguments are left out."""
    words = [word for word in arguments if word != "…"]
    try:
        parsed([word.replace("HOST", "127.0.0.1").replace("KAFKA", "127.0.0.1") for word in words])
    except click.MissingParameter:
        assert "…" in arguments


def check_named_things(tool: str, arguments: list[str]) -> None:
    """Paths and objects of the repository that a command of another tool names."""
    if tool == "export":
        assert arguments[0].partition("=")[0] in _VARIABLES
    for word in arguments:
        path = word.partition("=")[2] or word
        if path.startswith("k8s/"):
            assert (ROOT / path).exists(), path
    if tool == "kubectl":
        manifests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "k8s").rglob("*.yaml"))
        for kind, name in re.findall(r"\b(statefulset|deployment|service)/([\w-]+)", " ".join(arguments)):
            assert f"name: {name}" in manifests, (kind, name)


def test_a_wrong_command_on_a_page_is_found() -> None:
    with pytest.raises(click.UsageError):
        check_our_command(["fire", "s", "t", "--no-such-option"])
    with pytest.raises(AssertionError):
        check_named_things("kubectl", ["rollout", "status", "deployment/no-such"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_pages_stand_in_console_blocks(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    plain = _FENCE.sub("", page.read_text(encoding="utf-8"))
    assert name in _NO_COMMANDS or _INDENTED.findall(plain) == []


def test_each_block_has_a_language_that_a_test_knows() -> None:
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        if name in _RUN_ELSEWHERE or name.startswith(("docs/decisions", "CHANGELOG")):
            continue
        for _, language, _ in _FENCE.findall(page.read_text(encoding="utf-8")):
            assert language in {"json", "jsonc", "python", "console", "yaml"}, f"{name}: {language}"


def test_the_tasks_files_of_readme_are_clean_and_the_first_fits_its_task() -> None:
    texts = blocks(ROOT / "README.md", "jsonc")
    assert len(texts) == 2
    for text in texts:
        config, findings = tasksfile.check(text, name="tasks.json")
        assert findings == ()
        assert config is not None
    first = tasksfile.read(texts[0], name="tasks.json")
    assert f'name="{first.tasks[0].run}"' in blocks(ROOT / "README.md", "python")[0]


def test_the_example_of_the_language_in_readme_decides_what_its_comment_says() -> None:
    config = tasksfile.read(blocks(ROOT / "README.md", "jsonc")[1], name="tasks.json")

    def decided(*words: str) -> list[str]:
        simulation = Simulation(config, app=AppId("tests"), name="events")
        place = SourceLocation(name="events")
        shown = [one for word in words for one in simulation.take(f"7 {word}", place=place)]
        return [one.run for one in shown if isinstance(one, Command)]

    approved = ("approved by=ann level=2", "approved by=bob level=3")
    assert decided("orderPlaced", "paidByTransfer", *approved) == ["shop.tasks.Ship"]
    assert decided(*approved, "paidByCard", "orderPlaced", "cancelled") == ["shop.tasks.Ship"]
    assert decided("orderPlaced", "cancelled", "paidByTransfer", *approved) == []
    assert decided("orderPlaced", "paidByCard", "paidByTransfer", approved[0], approved[0]) == []
    assert decided("orderPlaced", "paidByCard", approved[0], "approved by=cy level=1") == []


def test_the_settings_of_kafka_are_read(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs/kafka.md", "json")
    for name in ("ca.crt", "password"):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "kafka.json"
    file.write_text(text)
    read = security.read(file)
    assert read.sasl is not None
    assert read.sasl.username == "worker"


def test_the_event_of_the_contract_is_one() -> None:
    (text,) = blocks(ROOT / "schemas/README.md", "json")
    events.decode(Record(partition=0, offset=0, arrival_us=0, key=b"s", value=text.encode()))
    assert json.loads(text)["type"] == "module1Received"


def test_the_overlay_of_kubernetes_names_what_the_base_generates() -> None:
    (text,) = blocks(ROOT / "docs/kubernetes.md", "yaml")
    base = yaml.safe_load((ROOT / "k8s/base/kustomization.yaml").read_text(encoding="utf-8"))
    generated = {one["name"]: one.get("files", []) for one in base["configMapGenerator"]}
    for one in yaml.safe_load(text)["configMapGenerator"]:
        assert set(one["files"]) <= set(generated[one["name"]])


def test_jobs_are_removed_before_each_change_that_their_pods_would_need() -> None:
    page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    jobs = list(yaml.safe_load_all((ROOT / "k8s/base/jobs.yaml").read_text(encoding="utf-8")))
    assert jobs
    for title in ("Change the tasks file", "Roll"):
        last = [block for _, _, block in _FENCE.findall(sections[title]) if "apply -k" in block][-1]
        delete, apply = (line.split()[1:] for line in last.splitlines())
        label, _, value = delete[delete.index("--selector") + 1].partition("=")
        assert delete[3:5] == ["delete", "job"]
        assert all(job["metadata"]["labels"][label] == value for job in jobs)
        assert apply[1] == "apply"


CELERY = blocks(ROOT / "docs/celery.md", "python")


@pytest.fixture
def my_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package `my_app` of docs/celery.md, imported."""
    (tmp_path / "my_app").mkdir()
    (tmp_path / "my_app/__init__.py").touch()
    for block in CELERY[:2]:
        name = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    known = {name for name in sys.modules if name.split(".")[0] == "my_app"}
    for name in known:
        monkeypatch.delitem(sys.modules, name)
    import my_app.tasks as module  # type: ignore[import-not-found] # noqa: PLC0415 - it was just written

    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "my_app"]:
        del sys.modules[name]


def test_the_module_of_the_celery_page_is_imported_and_its_task_runs(my_app: ModuleType) -> None:
    assert my_app.process(module1Received={"score": 1}, module4Received={"score": 2}, more={}) == {"score": 3}


@pytest.mark.parametrize("block", CELERY[2:], ids=range(len(CELERY) - 2))
def test_a_block_of_the_celery_page_is_carried_out(block: str) -> None:
    pytest.importorskip("sqlalchemy", reason="waits for SQLAlchemy")
    from triggerstream.celery import install  # noqa: PLC0415

    app = Celery("docs", broker="memory://", set_as_current=False)
    names: dict[str, Any] = {"app": app, "install": install, "current": current, "send": lambda _to: True}
    exec(compile(block, "docs/celery.md", "exec"), names)  # noqa: S102 - our own page
    tasks = [name for name in app.tasks if not name.startswith("celery.")]
    assert tasks or "install(" in block
