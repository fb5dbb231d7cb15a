"""``b2m review`` on real repositories: what it reads, what it refuses, what it leaves alone."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from invoke.parser.parser import Parser

from b2m.errors import UsageError
from b2m.review import review
from b2m.review.markdown import markdown
from b2m.tasks import namespace
from tests.review.repositories import FILES, INVENTORY, PLAYBOOK, ROLE, changed, commit, git, repository, write

ROOT = Path(__file__).resolve().parents[2]
PLAY, PUBLISH = "playbooks/ipm.yaml", "roles/publish/role.yaml"
LONGER = changed(PLAYBOOK, ("max_downtime: 5s", "max_downtime: 10s"))
HELD = "a hold no longer names a service"
TWICE = "max_downtime 5s -> 10s: a hold may last twice as long"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path / "a project")


def b2m(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "b2m", "review", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def warnings(root: Path, base: str | None = None) -> list[str]:
    return [one.what for one in review(str(root), base).warnings]


def test_exit_codes_and_output(root: Path) -> None:
    done = b2m(root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No effect" in done.stdout
    write(root, {PLAY: LONGER})
    done = b2m(root)
    assert (done.returncode, done.stderr) == (8, "")
    assert TWICE in done.stdout
    assert "and uncommitted changes" in done.stdout
    done = b2m(root, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 8
    assert found[0] == {"type": "warning", "db": "ipm", "states": [], "hosts": [], "text": TWICE}
    assert found[-1] | {"base": "", "head": ""} == {
        "type": "review",
        "base": "",
        "head": "",
        "dirty": True,
        "warnings": 1,
        "databases": ["ipm"],
        "exit_code": 8,
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--base", "nowhere"), "b2m: unknown revision nowhere: fetch it, or name another with --base REV"),
        (("--base=--help",), "b2m: unknown revision --help: fetch it, or name another with --base REV"),
    ],
)
def test_an_unknown_revision_is_one_line(root: Path, words: tuple[str, ...], line: str) -> None:
    done = b2m(root, *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{line}\n")


def test_outside_of_git_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    done = b2m(tmp_path)
    what = f"b2m: {tmp_path} is in no Git repository: a review compares two revisions of a project\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", what)


def test_without_git_on_the_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"^git is missing"):
        review(str(root))


def test_a_repository_without_a_main_branch_or_a_common_commit(root: Path) -> None:
    git(root, "checkout", "-q", "--orphan", "alone")
    commit(root, {"README.md": "x"})
    with pytest.raises(UsageError, match="no commit in common; a shallow clone is completed with"):
        review(str(root))
    git(root, "branch", "-q", "-D", "main", "work")
    with pytest.raises(UsageError, match=r"^there is no origin/main and no main: name the revision with --base REV$"):
        review(str(root))


def test_only_what_the_branch_changed_counts_and_origin_comes_first(root: Path) -> None:
    commit(root, {"README.md": "x"})
    git(root, "checkout", "-q", "main")
    commit(root, {PLAY: LONGER})
    git(root, "checkout", "-q", "work")
    assert warnings(root) == []
    git(root, "merge", "-q", "--no-edit", "main")
    assert warnings(root) == []
    git(root, "update-ref", "refs/remotes/origin/main", "main~1")
    assert warnings(root) == [TWICE]
    assert warnings(root, "main") == []


def test_nothing_is_checked_out_or_written(root: Path) -> None:
    commit(root, {PLAY: LONGER})
    write(root, {"new.txt": "x"})
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    (root / ".git/index.lock").touch()  # somebody is at work
    assert warnings(root) == [TWICE]
    (root / ".git/index.lock").unlink()
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert {path.name for path in before.keys() ^ after.keys()} == set()
    del before[root / ".git"], after[root / ".git"]
    assert before == after


def test_a_project_below_the_top_of_its_repository(tmp_path: Path) -> None:
    top = repository(tmp_path, {f"ops/{name}": text for name, text in FILES.items()})
    commit(top, {f"ops/{PLAY}": LONGER, "elsewhere.txt": "x", "ops/run.sh": "x"})
    found = review(str(top / "ops"))
    assert [one.what for one in found.warnings] == [TWICE]
    assert found.unseen[-1] == "other files that changed, such as scripts that commands call: run.sh"


def test_a_project_that_is_new(tmp_path: Path) -> None:
    root = repository(tmp_path, {"README.md": "x"})
    commit(root, FILES)
    found = review(str(root))
    assert (found.exit_code, found.was_invalid) == (0, ())
    assert found.databases[0].notes[0].startswith("New in the project, on local, prod; its policy is compared with")


def test_the_policy_of_a_new_database_is_compared_with_the_defaults(tmp_path: Path) -> None:
    root = repository(tmp_path, {"README.md": "x"})
    commit(root, {**FILES, PLAY: LONGER})
    assert warnings(root) == [TWICE]


def test_a_verify_behind_the_swap_proves_nothing(root: Path) -> None:
    verify = "    - verify: {file: candidate, checks: [integrity, foreign_keys, rows]}\n"
    swap = "        - swap: {file: candidate}\n"
    commit(root, {PLAY: changed(PLAYBOOK, (verify, ""), (swap, f"{swap}    {verify}"))})
    assert warnings(root) == ["verify removed: the file is put live without it"]


def test_the_commands_of_the_ci_file_are_understood() -> None:
    jobs = yaml.safe_load((ROOT / "examples/ci/github-actions.yml").read_text("utf-8"))["jobs"]
    runs = "\n".join(step["run"] for job in jobs.values() for step in job["steps"] if "run" in step)
    commands = re.findall(r"^b2m [^>|\n]+", runs, re.MULTILINE)
    assert [shlex.split(command)[1] for command in commands] == ["check", "review"]
    for command in commands:
        contexts = Parser(contexts=namespace.to_contexts()).parse_argv(shlex.split(command)[1:])
        assert len(contexts) == 1
        assert not contexts.unparsed


def test_a_change_that_mends_the_project_passes(tmp_path: Path) -> None:
    root = repository(tmp_path, {**FILES, PLAY: changed(PLAYBOOK, ("5s", "5"))})
    commit(root, {PLAY: PLAYBOOK})
    found = review(str(root))
    assert found.exit_code == 0
    assert found.was_invalid[0].startswith(f"{PLAY}:6:17: max_downtime: expected a duration")
    assert "### Not valid before the change" in list(markdown(found))


@pytest.mark.parametrize("broken", [PLAY, "inventory.yaml"])
def test_a_file_that_is_no_yaml_removes_nothing(root: Path, broken: str) -> None:
    write(root, {broken: "a: b\n\tc: d\n"})
    found = review(str(root))
    assert found.exit_code == 3
    assert (found.databases, found.warnings) == ((), ())
    assert "can be read" in found.unseen[0]
    assert not any("No effect" in line for line in markdown(found))


def test_to_write_a_default_or_to_move_tasks_into_a_role_changes_nothing(root: Path) -> None:
    default = changed(PLAYBOOK, ("download: {version: head, as: candidate}", "download: {}"))
    inlined = changed(
        default,
        (
            "    - role: publish\n  outdated_db",
            "    - snapshot: {}\n    - verify: {file: ours, checks: [integrity, foreign_keys]}\n"
            "    - upload: {}\n  outdated_db",
        ),
    )
    commit(root, {PLAY: inlined})
    found = review(str(root))
    assert (found.exit_code, found.databases) == (0, ())


def test_a_task_that_never_runs_is_not_in_the_plan(root: Path) -> None:
    never = changed(ROLE, ('"{{ checks }}"}', '"{{ checks }}"}\n    when: checks == "all"'))
    commit(root, {PUBLISH: never})
    assert warnings(root) == ["verify removed: the file is published without it"]


def test_the_condition_of_a_role_holds_for_all_of_it(root: Path) -> None:
    publish = "    - role: publish\n"
    when = changed(PLAYBOOK, (f"{publish}  outdated", f"{publish}      when: live.dirty\n  outdated"))
    commit(root, {PLAY: when})
    found = review(str(root))
    assert found.warnings == ()
    assert found.databases[0].plans[0].lines[3:] == (
        "+ when live.dirty:",
        "+   snapshot as: ours",
        "+   verify file: ours, checks: [integrity, foreign_keys]",
        "+   upload file: ours",
    )


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("            service: web", "            service: null", "service web -> none"),
        ("    bucket: main\n", "    bucket: main\n    direction: bucket_to_host\n", None),
        ("        folder: /srv/dbs", "        folder: /srv/other", None),
        ('"systemctl stop {{ service.name }}"', '"systemctl kill web"', None),
    ],
)
def test_settings_of_the_inventory(root: Path, old: str, new: str, what: str | None) -> None:
    commit(root, {"inventory.yaml": changed(INVENTORY, (old, new))})
    found = review(str(root))
    assert [changed.weaker for changed, _ in found.databases[0].changed] == [what is not None]
    assert [one.what.split(":")[0] for one in found.warnings] == ([what, HELD] if what else [])


KEYS = "    key_id: $ID\n    key: $KEY\n"
S3 = f"    type: s3\n    url: s3://acme/b2m\n    endpoint: https://s3.one.example\n    region: eu\n{KEYS}"
B2 = f"    type: b2\n    url: b2://acme/b2m\n{KEYS}"
LOCKS = "    locks:\n      url: b2://acme-locks\n      key_id: $LOCKS_ID\n      key: $LOCKS_KEY\n"


@pytest.mark.parametrize(
    ("bucket", "after", "name", "was", "now"),
    [
        (S3, S3.replace("one", "two"), "bucket", "s3://acme/b2m at https://s3.one.example", "https://s3.two.example"),
        (B2 + LOCKS, B2, "locks", "b2://acme-locks", "none"),
        ("    type: folder\n    path: /srv/bucket\n", B2, "bucket", "/srv/bucket", "b2://acme/b2m"),
    ],
    ids=["s3", "b2", "folder"],
)
def test_a_bucket_in_any_store_is_compared(
    tmp_path: Path, bucket: str, after: str, name: str, was: str, now: str
) -> None:
    folder = "    type: folder\n    path: /srv/bucket\n"
    root = repository(tmp_path / "repository", {**FILES, "inventory.yaml": changed(INVENTORY, (folder, bucket))})
    commit(root, {"inventory.yaml": changed(INVENTORY, (folder, after))})
    ((one, _),) = review(str(root)).databases[0].changed
    assert (one.name, one.weaker) == (name, name == "locks")
    assert was in one.before
    assert now in one.after


def test_a_secret_is_told_by_its_place_and_never_printed(root: Path) -> None:
    secret = "hunter2hunter2"
    key = ("tone: calm", f"tone: calm\n  api_key: {secret}")
    asks = changed(PLAYBOOK, ('"{{ db.name }} (', f'"token={secret} ('), key)
    commit(root, {PLAY: asks})
    done = b2m(root)
    assert done.returncode == 8
    assert f"{PLAY}:5:12: this looks like a secret under api_key" in done.stdout
    assert secret not in done.stdout + b2m(root, "--json").stdout
    git(root, "branch", "-q", "-f", "main")
    commit(root, {PLAY: f"# moved down\n{asks}"})
    assert warnings(root) == []


def test_text_of_the_project_cannot_end_the_code_of_the_comment(root: Path) -> None:
    evil = "```\\n\\n@everyone <b>"
    about = ("db: ipm\n", f'db: ipm\nabout: "{evil}"\n')
    asks = changed(PLAYBOOK, about, ('"{{ db.name }} (', f'"{evil} {{{{ db.name }}}} ('))
    commit(root, {PLAY: asks})
    lines = list(markdown(review(str(root))))
    assert [line for line in lines if line.startswith("```")] == ["```diff", "```"]
    assert not any(line.startswith("@everyone") for line in lines)


def test_a_link_out_of_the_project_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text(PLAYBOOK, encoding="utf-8")
    root = tmp_path / "project"
    root.mkdir()
    write(root, FILES)
    (root / PLAY).unlink()
    (root / PLAY).symlink_to(tmp_path / "outside.yaml")
    repository(root, {})
    (root / PLAY).unlink()
    commit(root, {PLAY: PLAYBOOK})
    found = review(str(root))
    assert found.exit_code == 0
    assert any(one.startswith(f"{PLAY} was a link out of the project at ") for one in found.unseen)


def test_a_command_behind_a_condition_that_does_not_hold_is_shown(root: Path) -> None:
    purge = '    - shell: {run: ./purge.sh, reason: no module purges}\n      when: tone == "loud"\n'
    asleep = changed(PLAYBOOK, ("  up_to_date: []\n", f"  up_to_date:\n{purge}"))
    commit(root, {PLAY: asleep})
    found = review(str(root))
    new = 'new shell command, which nothing undoes: "./purge.sh", reason: "no module purges"; not run by default'
    assert [one.what for one in found.warnings] == [new]
    assert found.databases[0].plans[0].lines == (
        '+ shell run: "./purge.sh", reason: "no module purges" [not run by default] when tone == "loud"',
    )
    commit(root, {PLAY: asleep.replace("./purge.sh", "rm -rf /")})
    assert any("rm -rf /" in one.what for one in review(str(root)).warnings)
