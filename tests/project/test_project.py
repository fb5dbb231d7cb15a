"""A valid project: found, loaded, and asked what a run on one host needs to know."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2m import secrets
from b2m.errors import InvalidProject, UsageError
from b2m.project import Target, Task, find_project, load_project, walk
from tests.project.samples import FILES, INVENTORY, PLAYBOOK, ROLE, arguments, load, write

REPOSITORY = Path(__file__).parents[2]
FACTS: dict[str, Any] = {"live": {"dirty": True}, "db": {"rename_due": True}, "refusal": "no space"}


def task(target: Target, state: str, module: str) -> Task:
    return next(task for task, _ in walk(target.tasks(state)) if task.module == module)


@pytest.mark.alone
def test_the_project_of_this_repository_loads_with_its_real_modules_well_within_a_tenth_of_a_second() -> None:
    from b2m.modules import MODULES as REAL

    took = []
    for _ in range(3):
        began = time.perf_counter()
        project = load_project(find_project(REPOSITORY), REAL)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1
    assert project.databases == ("emoji", "ipm")
    assert project.hosts_of("ipm") == ("local", "demo", "demo-stop", "ann", "ben")
    for db in project.databases:
        for host in project.hosts_of(db):
            target = project.target(db, host)
            for state in target.playbook.scenarios:
                for found, _ in walk(target.tasks(state)):
                    assert found.model is None or isinstance(target.render(found, FACTS_OF_A_RUN), REAL[found.module])


FACTS_OF_A_RUN = FACTS | {"lease": {"owner": "ann@laptop", "since": "2026-09-21T18:00:04Z", "age": 4000.0}}


def test_a_project_is_found_upwards_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "ops", FILES)
    (root / "a" / "b").mkdir(parents=True)
    assert find_project(start=root / "a" / "b") == root
    monkeypatch.chdir(root / "a")
    assert find_project() == root
    assert find_project("..") == root


def test_a_folder_without_a_project_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no inventory.yaml in .* or above it: go into a project, or name one with"):
        find_project(start=tmp_path)
    with pytest.raises(UsageError, match=r"has no inventory.yaml: name a project's folder, or write one$"):
        find_project(tmp_path)
    with pytest.raises(UsageError, match=r"^there is no folder /nowhere/at/all$"):
        find_project("/nowhere/at/all")


def test_a_target_has_everything_resolved(tmp_path: Path) -> None:
    target = load(tmp_path).target("ipm", "prod")
    assert (target.db, target.host, target.key, target.direction) == ("ipm", "prod", "ipmdb", "both")
    assert target.folder == tmp_path / "dbs"
    assert target.bucket == {"type": "folder", "path": str(tmp_path / "bucket")}
    assert (target.bucket_name, target.file_name(6)) == ("main", "ipm-db-v6.db")
    assert target.vars == {"team": "ops", "color": "red"}
    assert target.policy.max_downtime == 5.0
    assert target.policy.lease_ttl == 60.0
    assert target.policy.merge.rule("any").on_conflict == "fail"
    assert target.service is not None
    assert (target.service.away, target.service.back, target.service.verb) == ("stop ipm", "start ipm", "stop")
    assert target.service.cwd == str(tmp_path)


def test_this_machine_is_a_host_without_being_named(tmp_path: Path) -> None:
    inventory = INVENTORY.replace("    bucket: main\n", "    bucket: main\n    folder: mine\n")
    target = load(tmp_path, inventory=inventory).target("ipm")
    assert (target.host, target.connection, target.service) == ("local", "local", None)
    assert target.folder == tmp_path / "mine"
    assert arguments(target.render(task(target, "outdated_db", "hold"), FACTS)) == {"service": None}


def test_the_inventory_may_describe_this_machine(tmp_path: Path) -> None:
    inventory = INVENTORY.replace("      prod:\n", "      local:\n")
    target = load(tmp_path, inventory=inventory).target("ipm")
    assert target.folder == tmp_path / "dbs"
    assert target.service is not None


@pytest.mark.parametrize(
    ("db", "host", "what"),
    [
        ("ipmm", "prod", "unknown database ipmm, did you mean ipm? inventory.yaml knows: emoji, ipm"),
        ("x", "prod", "unknown database x; inventory.yaml knows: emoji, ipm"),
        ("ipm", "prd", "unknown host prd, did you mean prod? inventory.yaml knows: local, prod, spare"),
        ("ipm", "spare", "playbooks/ipm.yaml does not run on spare; it runs on: local, prod"),
        ("emoji", "prod", "there is no playbook for emoji: write playbooks/emoji.yaml"),
    ],
)
def test_an_unknown_name_is_told_with_what_there_is(tmp_path: Path, db: str, host: str, what: str) -> None:
    inventory = INVENTORY.replace("groups:\n", "  emoji:\n    file: emoji-v{version}.db\n    bucket: main\ngroups:\n")
    project = load(tmp_path, inventory=inventory + "  x:\n    hosts:\n      spare: {folder: x, databases: {ipm: {}}}\n")
    with pytest.raises(UsageError) as caught:
        project.target(db, host)
    assert str(caught.value) == what


def test_a_host_overrides_what_a_database_says(tmp_path: Path) -> None:
    own = "            service: web\n            folder: ~/elsewhere\n            direction: bucket_to_host\n"
    target = load(tmp_path, inventory=INVENTORY.replace("            service: web\n", own)).target("ipm", "prod")
    assert target.folder == Path.home() / "elsewhere"
    assert target.direction == "bucket_to_host"


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("endpoint", "http://[::1]:9000", "http://[::1]:9000"),
        ("endpoint", "https://minio.example.org/", "https://minio.example.org"),
        ("endpoint", "http://127.0.0.1:65535", "http://127.0.0.1:65535"),
        ("realm", "production", "production"),
        ("realm", "http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("realm", "https://proxy.example.org/b2", "https://proxy.example.org/b2"),
    ],
)
def test_a_store_may_stand_at_any_good_address(tmp_path: Path, key: str, written: str, read: str) -> None:
    kind = "s3" if key == "endpoint" else "b2"
    entry = f'    type: {kind}\n    url: {kind}://bucket\n    {key}: "{written}"\n    key_id: $ID\n    key: $KEY'
    project = load(tmp_path, inventory=INVENTORY.replace("    type: folder\n    path: bucket", entry))
    assert project.bucket("main")[key] == read


def test_a_target_knows_every_secret_that_is_named_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_mentioned", set())
    entry = "    type: b2\n    url: b2://bucket\n    key_id: $ID\n    key: $KEY\n    locks: "
    entry += "{url: b2://locks, key_id: $LOCKS_ID, key: $LOCKS_KEY}"
    inventory = INVENTORY.replace("    type: folder\n    path: bucket", entry)
    inventory = inventory.replace("    bucket: main\n", "    bucket: main\n    messages: [$OWN]\n")
    project = load(
        tmp_path,
        inventory="messages: {ops: $OPS, all: [$ONE, $OPS]}\n" + inventory,
        playbook=PLAYBOOK.replace("vars:\n", "schedule: {every: 6h, host: prod, ping: $PING}\nvars:\n"),
    )
    known = {"ID", "KEY", "LOCKS_ID", "LOCKS_KEY", "OWN", "OPS", "ONE", "PING"}
    monkeypatch.setenv("LOCKS_KEY", "of-the-lock-bucket")
    assert secrets.redacted("of-the-lock-bucket") == "of-the-lock-bucket"
    assert project.target("ipm", "local").mentioned == known
    assert secrets.redacted("of-the-lock-bucket") == "(secret LOCKS_KEY)"


def test_commands_are_one_shell_line_with_quoted_values(tmp_path: Path) -> None:
    root = tmp_path / "it's here"
    root.mkdir()
    command = "{{ python }} {{ project }}/server.py {{ service.name }} {{ db.key }} {{ team }} {{ host.folder }}"
    inventory = INVENTORY.replace("stop {{ db.name }}", command).replace("team: ops", 'team: "a; b"')
    service = load(root, inventory=inventory).target("ipm", "prod").service
    assert service is not None
    quoted = "'" + str(root).replace("'", "'\"'\"'")
    assert service.away == f"{shlex.quote(sys.executable)} {quoted}'/server.py web ipmdb 'a; b' {quoted}/dbs'"


def test_a_health_probe_comes_with_its_service(tmp_path: Path) -> None:
    health = '            health: {url: "http://127.0.0.1:8000/{{ db.name }}"}\n            start_timeout: 2m\n'
    inventory = INVENTORY.replace('            start: "start', health + '            start: "start')
    service = load(tmp_path, inventory=inventory).target("ipm", "prod").service
    assert service is not None
    assert (service.health_url, service.health_command) == ("http://127.0.0.1:8000/ipm", None)
    assert (service.start_timeout, service.stop_timeout) == (120.0, 30.0)


def test_roles_stand_in_place_as_blocks_with_their_own_sources(tmp_path: Path) -> None:
    target = load(tmp_path).target("ipm", "prod")
    seen = [(found.module, len(around), str(found.at)) for found, around in walk(target.tasks("ready_to_upload"))]
    assert seen == [
        ("role", 0, "playbooks/ipm.yaml:13:7"),
        ("snapshot", 1, "roles/publish/role.yaml:4:5"),
        ("verify", 1, "roles/publish/role.yaml:5:5"),
        ("upload", 1, "roles/publish/role.yaml:6:5"),
        ("message", 1, "roles/publish/role.yaml:7:5"),
    ]
    assert [found.module for found in target.tasks("on_refused")] == ["message"]


LEVELS = ("role default", "group", "host", "playbook", "role var")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(LEVELS), min_size=1))
def test_the_nearest_level_that_sets_a_variable_wins(tmp_path: Path, levels: set[str]) -> None:
    def line(level: str, text: str) -> str:
        return text.format(f"word: {level}") if level in levels else ""

    target = load(
        tmp_path,
        inventory=INVENTORY.replace("      team: ops\n", "      team: ops\n" + line("group", "      {}\n")).replace(
            "        folder: dbs\n", "        folder: dbs\n" + line("host", "        vars: {{{}}}\n")
        ),
        playbook=PLAYBOOK.replace("  color: red\n", "  color: red\n" + line("playbook", "  {}\n")).replace(
            "    - role: publish\n", "    - role: publish\n" + line("role var", "      vars: {{{}}}\n")
        ),
        role=ROLE.replace("  word: done\n", line("role default", "  {}\n") or "  other: x\n"),
    ).target("ipm", "prod")
    message = target.render(task(target, "ready_to_upload", "message"), FACTS)
    assert arguments(message) == {"text": max(levels, key=LEVELS.index)}


def test_a_variable_may_use_the_levels_below_and_is_rendered_only_when_read(tmp_path: Path) -> None:
    vars = 'vars:\n  team: "{{ team }}-{{ host.name }}"\n  unread: "{{ lease.age / 0 }}"\n'
    target = load(tmp_path, playbook=PLAYBOOK.replace("vars:\n", vars)).target("ipm", "prod")
    message = target.render(task(target, "on_refused", "message"), FACTS)
    assert arguments(message) == {"text": "ops-prod: no space"}


def test_a_variable_of_a_group_is_missed_on_a_host_without_it_with_its_place(tmp_path: Path) -> None:
    target = load(tmp_path).target("ipm", "local")
    with pytest.raises(InvalidProject) as caught:
        target.render(task(target, "on_refused", "message"), FACTS)
    assert caught.value.problems == ["playbooks/ipm.yaml:21:21: team is not defined"]


def test_a_rendered_value_is_validated_with_its_type_and_its_place(tmp_path: Path) -> None:
    playbook = PLAYBOOK.replace("version: head", 'version: "{{ wanted }}"')
    good = load(tmp_path, playbook=playbook.replace("color: red", "wanted: 7")).target("ipm", "prod")
    assert arguments(good.render(task(good, "outdated_db", "download"), FACTS)) == {"version": 7, "as": "candidate"}
    bad = load(tmp_path, playbook=playbook.replace("color: red", "wanted: '7'")).target("ipm", "prod")
    with pytest.raises(InvalidProject) as caught:
        bad.render(task(bad, "outdated_db", "download"), FACTS)
    assert caught.value.problems == [
        'playbooks/ipm.yaml:15:27: version: expected a whole number or head, not the text "7"'
    ]


@pytest.mark.parametrize(("age", "expected"), [(3599.0, False), (3601.0, True)])
def test_a_condition_is_judged_by_the_facts_of_the_run(tmp_path: Path, age: float, expected: bool) -> None:
    target = load(tmp_path).target("ipm", "prod")
    assert target.applies(target.tasks("locked")[0], {"lease": {"age": age, "owner": "x"}}) is expected


def test_a_condition_that_cannot_be_judged_is_told_with_its_place(tmp_path: Path) -> None:
    target = load(tmp_path).target("ipm", "prod")
    with pytest.raises(InvalidProject) as caught:
        target.applies(target.tasks("locked")[0], {"lease": {"age": None}})
    assert caught.value.problems[0].startswith("playbooks/ipm.yaml:11:13: cannot be computed: '>' not supported")


def test_stable_naming_goes_with_a_file_without_a_number(tmp_path: Path) -> None:
    target = load(
        tmp_path,
        inventory=INVENTORY.replace("-db-v{version}.db", ".db"),
        playbook=PLAYBOOK.replace("max_downtime: 5s", "naming: stable"),
    ).target("ipm", "prod")
    assert target.file_name(6) == "ipm.db"


def test_anchors_spare_repetition_in_a_playbook(tmp_path: Path) -> None:
    playbook = PLAYBOOK.replace("- role: publish", "- &say\n      message: {text: hello}\n    - *say")
    tasks = load(tmp_path, playbook=playbook).target("ipm").tasks("ready_to_upload")
    assert [arguments(load(tmp_path, playbook=playbook).target("ipm").render(t, FACTS)) for t in tasks] == [
        {"text": "hello"},
        {"text": "hello"},
    ]
