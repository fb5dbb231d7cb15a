"""``b2m init``: what it writes passes ``b2m check``, and it asks for what no flag says."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from b2m.errors import UsageError
from b2m.modules import MODULES
from b2m.project import load_project
from b2m.project.checks import check_project
from b2m.project.create import new_database, new_project, write_project

REPOSITORY = Path(__file__).parents[2]


def b2m(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "b2m", *args]
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_new_project_passes_its_check_and_runs(tmp_path: Path) -> None:
    made = b2m(tmp_path, "init", "ops", "--db", "ipm=ipm-db-v5.db", "--db", "notes=notes.db", "--host", "prod=live")
    assert made.returncode == 0, made
    assert sorted(made.stdout.split()) == [
        "ops/.github/workflows/b2m.yml",
        "ops/.gitignore",
        "ops/inventory.yaml",
        "ops/playbooks/ipm.yaml",
        "ops/playbooks/notes.yaml",
        "ops/roles/publish/role.yaml",
        "ops/roles/renumber/role.yaml",
        "ops/tasks.py",
    ]
    checked = b2m(tmp_path, "check", "--project", "ops")
    assert (checked.returncode, checked.stdout) == (0, ""), checked
    assert checked.stderr == "5 files, no errors, no warnings\n"
    # A file of one's own becomes the first version, and is found up to date then.
    live = tmp_path / "ops" / "live"
    live.mkdir()
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('CREATE TABLE t(a)'); c.commit()"
    for name in ("ipm-db-v5.db", "notes.db"):
        subprocess.run([sys.executable, "-c", program, str(live / name)], check=True)
    assert b2m(tmp_path / "ops", "bucket.init").returncode == 0
    for expected in ("ready_to_upload -> up_to_date", "up_to_date -> up_to_date"):
        done = b2m(tmp_path / "ops", "sync", "--db", "all", "--host", "prod")
        assert done.returncode == 0, done
        assert done.stdout.count(expected) == 2


@pytest.mark.parametrize("naming", ["ipm=ipm-db-v5.db", "ipm=ipm.db", "ipm", "ipm=two words.db", "ipm='odd' #1.db"])
@pytest.mark.parametrize("host", ["prod", "prod=/srv/dbs", "prod=a: b", "prod=- x", "prod=#x", "prod=true"])
@pytest.mark.parametrize("bucket", ["bucket", 'say "x"', "null"])
def test_whatever_is_answered_reads_back_as_it_was(tmp_path: Path, naming: str, host: str, bucket: str) -> None:
    new = new_project([naming], host, bucket)
    write_project(tmp_path / "ops", new)
    report = check_project(tmp_path / "ops", MODULES)
    assert (report.errors, report.warnings) == ((), ())
    project = load_project(tmp_path / "ops", MODULES)
    assert project.inventory.databases["ipm"].file == new.dbs[0].file
    assert project.hosts["prod"].file.folder == (host.partition("=")[2] or "dbs")
    assert project.inventory.buckets["main"].model_dump() == {"type": "folder", "path": bucket}


@pytest.mark.parametrize("name", ["123", "true", "null", "1e5", "0x1F", "NULL"])
def test_a_name_that_yaml_would_read_as_something_else_stays_one(tmp_path: Path, name: str) -> None:
    write_project(tmp_path / "ops", new_project([name], f"{name}h", "bucket"))
    write_project(tmp_path / "other", new_project(["ipm"], name, "bucket"))
    for root in ("ops", "other"):
        report = check_project(tmp_path / root, MODULES)
        assert (report.errors, report.warnings) == ((), ())
    assert list(load_project(tmp_path / "ops", MODULES).databases) == [name]
    assert name in load_project(tmp_path / "other", MODULES).hosts


def test_a_number_in_the_file_name_is_its_version() -> None:
    assert new_database("ipm=ipm-db-v12.db").file == "ipm-db-v{version}.db"
    assert new_database("ipm=ipm-db-v{version}.db").file == "ipm-db-v{version}.db"
    assert new_database("ipm").file == "ipm-db-v{version}.db"
    assert new_database("mp3=mp3v2s.db").file == "mp3v2s.db"


@pytest.mark.parametrize(
    ("dbs", "host", "bucket", "what"),
    [
        ([], "prod", "b", "name a database: --db name=file, as in --db ipm=ipm-db-v5.db"),
        (["i pm"], "prod", "b", "--db i pm: 'i pm' is no name: letters, digits, _ and - only"),
        (["ipm=x/y.db"], "prod", "b", "--db x/y.db: a file name is expected, without a folder"),
        (["ipm={v}.db"], "prod", "b", "--db {v}.db: only {version} may stand in braces, once"),
        (["a=x.db", "b=x.db"], "prod", "b", "--db: two databases have the file x.db"),
        (["a=x.db", "a=y.db"], "prod", "b", "--db: two databases have the name a"),
        (["all"], "prod", "b", "--db all: all is taken, choose another name"),
        (["a"], "all", "b", "--host all: all is taken, choose another name"),
        (["a"], "local", "b", "--host local: local is taken, choose another name"),
        (["a"], "p.q", "b", "--host p.q: 'p.q' is no name: letters, digits, _ and - only"),
        (["a"], "prod", " ", "--bucket: write the folder that keeps the versions"),
    ],
)
def test_a_wrong_answer_is_told_in_one_line(dbs: list[str], host: str, bucket: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        new_project(dbs, host, bucket)
    assert str(caught.value) == what


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    done = b2m(tmp_path, "init", ".", "--db", "ipm")
    assert (done.returncode, done.stderr) == (1, "b2m: . is not empty, it has mine: name a new folder\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    assert b2m(tmp_path, "init", "clone", "--db", "ipm").returncode == 0


def test_a_mistyped_flag_makes_no_folder(tmp_path: Path) -> None:
    done = b2m(tmp_path, "init", "--bogus")
    assert (done.returncode, done.stderr) == (1, "No idea what '--bogus' is!\n")
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "b2m", "init", "ops"],
        cwd=tmp_path, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(theirs)
    # A bad answer is asked again at once.
    os.write(ours, b"i pm\nipm=ipm-db-v5.db\nipm=other.db\n\np.q\nprod=live\n\n./stop\n\n./start\nhttp://localhost/x\n")
    out, _ = process.communicate(timeout=60)
    said = os.read(ours, 10000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "'i pm' is no name" in said
    assert "two databases have the name ipm" in said
    assert "'p.q' is no name" in said
    assert "ops/playbooks/ipm.yaml" in out
    project = load_project(tmp_path / "ops", MODULES)
    assert project.target("ipm", "prod").folder == tmp_path / "ops" / "live"
    assert project.target("ipm", "prod").bucket["path"] == str(tmp_path / "ops" / "bucket")
    service = project.target("ipm", "prod").service
    assert service is not None
    assert (service.away, service.back, service.health_url) == ("./stop", "./start", "http://localhost/x")


def test_without_a_folder_it_says_what_to_type(tmp_path: Path) -> None:
    done = b2m(tmp_path, "init")
    assert (done.returncode, done.stderr) == (
        1,
        "b2m: name the new project's folder: b2m init DIR --db name=file\n",
    )


def test_its_help_is_shown_and_makes_nothing(tmp_path: Path) -> None:
    done = b2m(tmp_path, "init", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the folder that keeps the versions" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_neither_the_bucket_nor_what_is_live_goes_into_git(tmp_path: Path) -> None:
    assert b2m(tmp_path, "init", "ops", "--db", "ipm", "--bucket", "./store/b").returncode == 0
    ignored = (tmp_path / "ops" / ".gitignore").read_text().splitlines()
    assert "db.toml" in ignored
    assert "/store/b/" in ignored
    assert b2m(tmp_path, "init", "more", "--db", "ipm", "--bucket", "/mnt/b").returncode == 0
    assert not any("mnt" in line for line in (tmp_path / "more" / ".gitignore").read_text().splitlines())


@pytest.mark.parametrize("role", ["publish", "renumber"])
def test_a_new_project_has_the_roles_and_tasks_of_this_one(role: str) -> None:
    def without_editor(text: str) -> str:
        return re.sub(r"^# yaml-language-server:.*\n", "", text)

    skeleton = REPOSITORY / "src" / "b2m" / "project" / "skeleton"
    ours = (REPOSITORY / "roles" / role / "role.yaml").read_text()
    assert (skeleton / f"{role}.yaml.jinja").read_text() == without_editor(ours)
    assert (skeleton / "tasks.py.jinja").read_text() == (REPOSITORY / "tasks.py").read_text()
