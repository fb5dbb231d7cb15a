"""Command lines as people type them: bare names, paths, the first spellings, nested verbs, mistakes, completion."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from b2m import errors
from b2m.modules import MODULES
from b2m.project import Project, load_project
from b2m.project.words import database_of
from b2m.tasks import namespace
from b2m.tasks.argv import rewritten
from b2m.tasks.completing import candidates
from tests.e2e.conftest import Copy, copied, templates

__all__ = ["copied", "templates"]

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("b2m status ipm", "b2m status --db ipm"),
        ("b2m status ipm-db-v5.db", "b2m status --db ipm-db-v5.db"),
        ("b2m upload ipm emoji", "b2m upload --db ipm --db emoji"),
        ("b2m upload ipm --host ann emoji", "b2m upload --db ipm --host ann --db emoji"),
        ("b2m download db/all_dbs/ipm-db-v3.db", "b2m download --db db/all_dbs/ipm-db-v3.db"),
        ("b2m sync --db ipm --message hello emoji", "b2m sync --db ipm --message hello --db emoji"),
        ("b2m sync --message=hello ipm", "b2m sync --message=hello --db ipm"),
        ("b2m sync -e report_to=ops ipm", "b2m sync -e report_to=ops --db ipm"),
        ("b2m sync -ereport_to=ops ipm", "b2m sync -e report_to=ops --db ipm"),
        ("b2m sync ipm --check", "b2m sync --db ipm --check"),
        ("b2m sync --check ipm", "b2m sync --check --db ipm"),
        ("b2m --status", "b2m status"),
        ("b2m --status ipm", "b2m status --db ipm"),
        ("b2m --upload ipm emoji", "b2m upload --db ipm --db emoji"),
        ("b2m --download ipm emoji --host ann", "b2m download --db ipm --db emoji --host ann"),
        ("b2m bucket init", "b2m bucket.init"),
        ("b2m runs 20261121T232652Z-f421", "b2m runs --id 20261121T232652Z-f421"),
        ("b2m runs ipm", "b2m runs --db ipm"),
        # A database may be called as a task is; and nobody means to run two tasks.
        ("b2m sync test", "b2m sync --db test"),
        ("b2m --project ops status", "b2m status --project ops"),
        ("b2m --project=ops bucket init", "b2m bucket.init --project=ops"),
        ("b2m -e x=1 --host ann sync ipm", "b2m sync --db ipm -e x=1 --host ann"),
        ("b2m help", "b2m --help"),
        ("b2m help sync", "b2m --help sync"),
        ("b2m help bucket init", "b2m --help bucket.init"),
        # These are not b2m's to change.
        ("b2m -e sync ipm", "b2m -e sync ipm"),
        ("b2m", "b2m"),
        ("b2m --list", "b2m --list"),
        ("b2m --help sync", "b2m --help sync"),
        ("b2m init folder --db ipm=ipm.db", "b2m init --folder folder --db ipm=ipm.db"),
        ("b2m snyc ipm", "b2m snyc ipm"),
        ("b2m sync ipm --hots prod", "b2m sync ipm --hots prod"),
        ("b2m sync --bd ipm", "b2m sync --bd ipm"),
    ],
)
def test_a_command_line_is_rewritten_for_invoke(typed: str, understood: str) -> None:
    assert shlex.join(rewritten(shlex.split(typed), namespace)) == understood


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("sync ipm --hots prod", "No idea what"),
        ("sync --bd ipm", "No idea what '--bd' is"),
        ("snyc ipm", "No idea what 'snyc' is"),
        ("--upolad ipm", "No idea what '--upolad' is"),
        ("status imp", "unknown database imp"),
        ("status ipm history", "unknown database history"),
        ("status elsewhere/ipm-db-v1.db --host ann", "elsewhere/ipm-db-v1.db is not in the folder of ann"),
        ("status ben/dbs/ipm-db-v1.db --host ann", "it is ipm on ben: add --host ben"),
    ],
)
def test_a_mistake_is_refused(typed: str, said: str, copied: Copy) -> None:
    done = copied("team").b2m(*shlex.split(typed))
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project(ROOT, MODULES)


@pytest.mark.parametrize("word", ["ipm", "ipm-db-v5.db", "ipm-db-v12.db", str(ROOT / ".demo/ann/dbs/ipm-db-v1.db")])
def test_a_name_a_file_and_a_path_mean_the_same_database(word: str, project: Project) -> None:
    assert database_of(project, word, "ann") == "ipm"


@pytest.mark.parametrize("word", ["ipm-db-v.db", "ipm-db-v5.db.gz", "xipm-db-v5.db", "imp", "all", "ipmdb"])
def test_what_names_no_file_of_a_database_stays_as_it_is(word: str, project: Project) -> None:
    assert database_of(project, word, "ann") == word


def test_the_path_of_another_host_names_it(project: Project) -> None:
    with pytest.raises(errors.UsageError, match="add --host ben"):
        database_of(project, str(ROOT / ".demo/ben/dbs/ipm-db-v1.db"), "ann")


def test_several_files_are_taken_by_the_first_spelling(copied: Copy) -> None:
    world = copied("team")
    world.insert("ann", "spelled")
    done = world.b2m("--upload", "ipm", "emoji", "--host", "ann")
    assert done.code == 0, done
    assert world.head("ipm") == 2
    assert "ipm success" in done.out
    assert "emoji success" in done.out
    path = str(world.live("ben"))
    assert world.b2m("--download", path, "--host", "ben").code == 0
    assert world.live("ben").name == "ipm-db-v2.db"


# -- completion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        ("", {"sync", "bucket", "bucket.init"}, {"--db"}),
        ("sy", {"sync", "bucket"}, {"--db"}),
        ("bucket", {"init", "bucket"}, {"--db"}),
        ("bucket ini", {"init"}, {"sync"}),
        ("bucket init --b", {"--bucket"}, {"--db", "ipm"}),
        ("sync --db", {"ipm", "emoji", "all"}, {"--host", "ann"}),
        ("sync --db ip", {"ipm", "all"}, {"ann"}),
        ("sync --db ipm --host", {"ann", "demo"}, {"ipm"}),
        ("sync --db ipm --host de", {"demo"}, set()),
        ("status ip", {"ipm", "emoji", "--max-age"}, {"sync"}),
        ("sync --ch", {"--check", "--db"}, {"sync"}),
        ("fetch-db-toml --output", set(), {"--db", "ipm"}),
        ("snyc ip", set(), {"ipm"}),
    ],
)
def test_words_are_completed(
    words: str, offered: set[str], not_offered: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = set(candidates(words.split(), namespace))
    assert offered <= found
    assert not found & not_offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["sy"], "sync"),
        (["bucket", "i"], "init"),
        (["sync", "--db", "e"], "emoji"),
        (["status", "--host", "an"], "ann"),
    ],
)
def test_bash_completes_by_the_printed_script(typed: list[str], offered: str, tmp_path: Path) -> None:
    (tmp_path / "b2m").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m b2m "$@"\n')
    (tmp_path / "b2m").chmod(0o755)
    words = shlex.join(["./b2m", *typed])
    script = (
        f"PATH={shlex.quote(str(tmp_path))}:$PATH; source <(b2m --print-completion-script bash) || exit 9\n"
        f"complete -p b2m >/dev/null || exit 8\n"
        f"cd {shlex.quote(str(ROOT))}; COMP_WORDS=({words}); COMP_WORDS[0]={shlex.quote(str(tmp_path))}/b2m\n"
        f'_complete_b2m b2m {shlex.quote(typed[-1])}; echo "${{COMPREPLY[@]}}"\n'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert offered in done.stdout.split()
    assert not re.search(r"Traceback|not found", done.stderr)


def test_b2m_runs_the_tests_of_one_file(tmp_path: Path) -> None:
    inner = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    words = [sys.executable, "-m", "b2m", "test", "--only", str(ROOT / "tests" / "test_state.py")]
    done = subprocess.run(words, cwd=tmp_path, env=inner, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (count,) = re.findall(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert 0 < int(count) < 300  # all of them are thousands
