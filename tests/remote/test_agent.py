"""The agent's side of a conversation, where a moment decides."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from b2m import errors, secrets
from b2m.hosts.recovery import recover_folder
from b2m.journal import Journal
from b2m.modules import MODULES
from b2m.project import load_project
from b2m.remote import wire
from b2m.remote.agent import Agent
from b2m.remote.link import _files
from tests.support.world import World


class Heard:
    """A channel that only remembers what was said."""

    closed = False

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.said.append(message)


CALL = {"type": "call", "verb": "runs", "db": "ipm", "host": "prod", "overrides": {}, "gets": [], "options": {}}


def test_a_signal_before_a_verb_has_begun_is_not_forgotten() -> None:
    heard = Heard()
    agent = Agent(heard)  # type: ignore[arg-type]
    agent.on_message({"type": "signal", "signal": signal.SIGINT})
    agent._call(None, {**CALL, "secrets": {}})
    (reply,) = heard.said
    assert reply["type"] == "failed"
    error = wire.decode(reply["error"])
    assert isinstance(error, errors.Interrupted)
    assert error.exit_code == 130


def test_a_project_that_cannot_be_read_there_is_told_as_what_it_is() -> None:
    heard = Heard()
    Agent(heard)._call(errors.InvalidProject(["inventory.yaml:1:1: wrong"]), CALL)  # type: ignore[arg-type]
    error = wire.decode(heard.said[0]["error"])
    assert isinstance(error, errors.InvalidProject)
    assert (str(error), error.exit_code) == ("inventory.yaml:1:1: wrong", 3)


def test_what_the_host_itself_has_of_the_projects_secrets_is_shown_by_no_text_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "_mentioned", set())
    monkeypatch.setattr(secrets, "_given", {})
    monkeypatch.setenv("OPS", "https://chat.example/to-Ken_5ecret")
    world.change("inventory.yaml", "databases:\n  ipm:\n", "messages:\n  ops: $OPS\ndatabases:\n  ipm:\n")
    heard = Heard()
    agent = Agent(heard)  # type: ignore[arg-type]
    agent._call(load_project(world.root, MODULES), {**CALL, "secrets": {"KEY": "came-over-the-channel"}})
    assert [message["type"] for message in heard.said] == ["result"]
    told = secrets.redacted("https://chat.example/to-Ken_5ecret with came-over-the-channel")
    assert told == "(secret OPS) with (secret KEY)"


def test_only_what_the_loader_reads_is_sent(world: World) -> None:
    (world.root / "playbooks" / ".#ipm.yaml").symlink_to("nowhere")
    (world.root / "roles" / "publish" / "secrets.env").write_text("KEY=value")
    (world.root / "roles" / "publish" / "dump.bin").write_bytes(b"\xff\xfe")
    names = {path.relative_to(world.root).as_posix() for path in _files(world.root)}
    wanted = {"inventory.yaml", "playbooks/ipm.yaml", "playbooks/emoji.yaml"}
    assert names == wanted | {f"roles/{path.name}/role.yaml" for path in (world.root / "roles").iterdir()}


def test_one_database_that_cannot_be_settled_does_not_keep_the_next_from_it(tmp_path: Path) -> None:
    for db, hold in (("a", True), ("b", False)):
        state = tmp_path / ".b2m" / db
        state.mkdir(parents=True)
        place = {
            "db": db,
            "host": "prod",
            "folder": str(tmp_path),
            "pattern": f"{db}.db",
            "key": db,
            "naming": "stable",
        }
        journal = Journal(state / "journal.jsonl")
        journal.begin("r1", place)
        service = {
            "name": "web",
            "away": "true",
            "back": "false" if hold else "true",
            "verb": "stop",
            "cwd": str(tmp_path),
            "health_url": None,
            "health_command": None,
            "start_timeout": 1.0,
            "stop_timeout": 1.0,
        }
        journal.append("hold", service=service, was_well=True)
    settled = []
    found = recover_folder(tmp_path)
    settled.append(next(found))
    with pytest.raises(errors.UndoFailed, match=r"^a: "):
        next(found)
    assert settled == [("b", ["gave b back to web"])]
    with pytest.raises(errors.TaskFailed, match="there is no folder"):
        list(recover_folder(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("folder", "shown"), [("dbs", "~/dbs"), ("~/dbs", "~/dbs"), ("/srv/dbs", "/srv/dbs"), ("~", "~")]
)
def test_folders_of_another_machine_are_named_from_its_home(world: World, folder: str, shown: str) -> None:
    text = (world.root / "inventory.yaml").read_text()
    text = text.replace("    path: bucket", "    path: /srv/bucket")
    text = text.replace(
        "      prod:\n        folder: prod/dbs", f"      prod:\n        connection: ssh\n        folder: '{folder}'"
    )
    (world.root / "inventory.yaml").write_text(text)
    project = load_project(world.root, MODULES)
    assert str(project.target("ipm", "prod").folder) == shown
    here = Path(shown).expanduser()
    assert project.target("ipm", "prod", here=True).folder == here
