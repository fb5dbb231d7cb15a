"""``b2m check``: what loading lets pass and a reviewer should see, from the files alone."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from b2m.project.checks import Report, check_project
from b2m.project.overrides import read_overrides
from b2m.project.secrets import looks_secret
from tests.project.samples import FILES, INVENTORY, MODULES, PLAYBOOK, ROLE, write
from tests.support.settings import slowness

REPOSITORY = Path(__file__).parents[2]
# The sample is short; check wants the late rows before its swap.
LATE = PLAYBOOK.replace("- swap:", "- replay: {from: live, onto: candidate}\n        - swap:").replace(
    "    - verify:", "    - snapshot: {}\n    - verify:"
)
GOOD = LATE.replace("vars:\n  color: red\n", "")
HEALTHY = INVENTORY.replace(
    '            start: "start', '            health: {command: "true"}\n            start: "start'
)


def check(root: Path, *, inventory: str = HEALTHY, playbook: str = GOOD, role: str = ROLE, **more: str) -> Report:
    files = dict(zip(FILES, (inventory, playbook, role), strict=True))
    return check_project(write(root, files | more), MODULES)


def lines(report: Report) -> tuple[list[str], list[str]]:
    return [str(found) for found in report.errors], [str(found) for found in report.warnings]


def test_a_good_project_has_neither_errors_nor_warnings(tmp_path: Path) -> None:
    report = check(tmp_path)
    assert lines(report) == ([], [])
    assert report.files == ("inventory.yaml", "playbooks/ipm.yaml", "roles/publish/role.yaml")


def test_late_rows_come_before_a_swap_in_the_same_hold(tmp_path: Path) -> None:
    assert lines(check(tmp_path, playbook=PLAYBOOK.replace("vars:\n  color: red\n", "")))[0] == [
        "playbooks/ipm.yaml:17:11: swap needs the late rows first: a replay from live onto candidate, in the same hold"
    ]
    elsewhere = GOOD.replace("replay: {from: live, onto: candidate}", "replay: {from: live, onto: another}")
    assert lines(check(tmp_path, playbook=elsewhere))[0] == [
        "playbooks/ipm.yaml:18:11: no task before this one makes a file named another: download or snapshot does",
        "playbooks/ipm.yaml:19:11: swap needs the late rows first: a replay from live onto candidate, in the same hold",
    ]
    before = GOOD.replace("        - replay: {from: live, onto: candidate}\n", "").replace(
        "    - hold:", "    - replay: {from: live, onto: candidate}\n    - hold:"
    )
    assert len(check(tmp_path, playbook=before).errors) == 1


def test_a_hold_that_holds_nothing_where_a_service_opens_the_database(tmp_path: Path) -> None:
    report = check(tmp_path, playbook=GOOD.replace('hold: {service: "{{ db.service }}"}', "hold: {}"))
    assert lines(report)[0] == [
        'playbooks/ipm.yaml:16:7: this holds nothing, but web opens ipm on prod: write service: "{{ db.service }}"'
    ]


def test_a_database_without_a_playbook_and_a_bucket_without_a_database(tmp_path: Path) -> None:
    more = "  emoji:\n    file: emoji-v{version}.db\n    bucket: main\ngroups:"
    spare = "  spare:\n    type: folder\n    path: x\ndatabases:"
    inventory = HEALTHY.replace("groups:", more).replace("databases:", spare, 1)
    assert lines(check(tmp_path, inventory=inventory)) == (
        ["inventory.yaml:12:3: emoji has no playbook: write playbooks/emoji.yaml"],
        ["inventory.yaml:5:3: no database is kept in bucket spare"],
    )


def test_a_playbook_that_is_no_yaml_is_not_called_missing(tmp_path: Path) -> None:
    assert lines(check(tmp_path, playbook="db: ipm\n\thosts: []\n"))[0] == [
        "playbooks/ipm.yaml:2:1: a tab: YAML is indented with spaces"
    ]


def test_what_a_service_lacks_and_what_no_playbook_runs_on(tmp_path: Path) -> None:
    inventory = INVENTORY.replace("service: web", "service: null") + (
        "  more:\n    hosts:\n      spare:\n        folder: x\n        databases:\n          ipm: {}\n"
    )
    assert lines(check(tmp_path, inventory=inventory))[1] == [
        "inventory.yaml:17:11: no database of prod is opened by service web",
        "inventory.yaml:17:11: service web has no health probe: nobody would notice that it did not come back",
        "inventory.yaml:28:11: playbooks/ipm.yaml does not run on spare",
    ]


def test_variables_that_nothing_reads_and_roles_that_nobody_includes(tmp_path: Path) -> None:
    inventory = HEALTHY.replace("team: ops", "team: ops\n      unread: 1")
    playbook = LATE.replace("- role: publish", "- role: publish\n      vars: {shade: 2}")
    role = ROLE.replace("word: done", "word: done\n  tone: 3")
    report = check(tmp_path, inventory=inventory, playbook=playbook, role=role, **{"roles/b/role.yaml": "tasks: []\n"})
    assert lines(report) == (
        [],
        [
            "inventory.yaml:13:7: nothing reads the variable unread",
            "playbooks/ipm.yaml:4:3: nothing reads the variable color",
            "playbooks/ipm.yaml:14:14: nothing reads the variable shade",
            "roles/b/role.yaml:1:1: no playbook includes role b",
            "roles/publish/role.yaml:3:3: nothing reads the variable tone",
        ],
    )


def test_check_tells_what_loading_refuses_together_with_its_own(tmp_path: Path) -> None:
    playbook = PLAYBOOK.replace("vars:\n  color: red\n", "").replace("up_to_date: []", "up_to_date: [{snapshoot: {}}]")
    assert lines(check(tmp_path, playbook=playbook, inventory=HEALTHY.replace("path: bucket", "path: 5")))[0] == [
        "inventory.yaml:4:11: path: expected text, not the number 5",
        "playbooks/ipm.yaml:6:17: unknown module snapshoot, did you mean snapshot?",
        "playbooks/ipm.yaml:17:11: swap needs the late rows first: a replay from live onto candidate, in the same hold",
    ]


def test_variables_of_the_command_line_are_checked_too(tmp_path: Path) -> None:
    write(tmp_path, dict(zip(FILES, (HEALTHY, GOOD, ROLE), strict=True)))
    assert check_project(tmp_path, MODULES, read_overrides(["word=x"])).errors == ()
    assert [str(found) for found in check_project(tmp_path, MODULES, read_overrides(["wrd=x"])).errors] == [
        "-e wrd: no playbook has a variable wrd, did you mean word?"
    ]


# -- shared values -------------------------------------------------------------------------------------------------


def test_values_for_anchors_stand_under_keys_that_are_read_nowhere_else(tmp_path: Path) -> None:
    inventory = "x-service: &web\n  health: {command: 'check {{ db.name }}'}\n" + INVENTORY.replace(
        "          web:\n", "          web:\n            <<: *web\n"
    )
    playbook = "x-say: &say\n  message: {text: hello}\n" + GOOD.replace("up_to_date: []", "up_to_date:\n    - *say")
    assert lines(check(tmp_path, inventory=inventory, playbook=playbook)) == ([], [])
    wrong = playbook.replace("text: hello", "txt: hello")
    assert lines(check(tmp_path, inventory=inventory, playbook=wrong))[0] == [
        "playbooks/ipm.yaml:2:12: text is missing",
        "playbooks/ipm.yaml:2:13: unknown key txt, did you mean text?",
    ]


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("password", "hunter2"),
        ("db_token", "abc"),
        ("api-key", "0"),
        ("password", "$uper-secret-1"),
        ("api_key", "{{ 1 }}hunter22secret"),
        ("api_key", "{{ 'hunter22secret' }}"),
        ("any", "{{ 'aB3dE5fG7hJ9kL1mN3pQ5rS7' }}"),
        ("text", "https://hooks.slack.com/services/T0/B0/x"),
        ("url", "https://discord.com/api/webhooks/1/x"),
        ("url", "https://api.telegram.org/bot12:x/sendMessage"),
        ("url", "https://ping.example.org/5e1c1b2a-7d3c-4b2f-9c0a-1f2e3d4c5b6a"),
        ("url", "https://example.org/hook?token=abcdef123"),
        ("url", "postgres://app:pw@host/db"),
        ("stop", "stop --password hunter2"),
        ("stop", "PASSWORD=hunter2 stop"),
        ("run", "curl -H 'Authorization: Bearer aB3dE5fG7hJ9kL1mN3pQ5rS7' x"),
        ("run", "aws configure set aws_access_key_id AKIAIOSFODNN7EXAMPLE"),
        ("run", "echo -----BEGIN RSA PRIVATE KEY-----"),
        ("any", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"),
        ("any", "9f86d081884c7d659a2feaa0c55ad015"),
    ],
)
def test_a_literal_that_looks_like_a_secret_is_seen(key: str, text: str) -> None:
    assert looks_secret(key, text) is not None


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("password", ""),
        ("password", "{{ secret_of_the_host }}"),
        ("password", "{{ x }}-suffix"),
        ("token", "{{ db.name }}-production-v2"),
        ("token", "Bearer {{ vars['b2_token'] }}"),
        ("password", "$DB_PASSWORD"),
        ("token_env", "B2_TOKEN"),
        ("key", "ipmdb"),
        ("run", "mysql --password=$PASSWORD --password {{ pw }}"),
        ("text", "the token was lost: ask for a new one"),
        ("text", "ipm is held by {{ lease.owner }} since {{ lease.since }} on every production host of this project"),
        ("stop", "systemctl stop my-very-long-service-name-v2-production.service"),
        ("file", "installerpedia-database-2024-production-v{version}.db"),
        ("url", "http://127.0.0.1:8000/health?db={{ db.name }}"),
        ("any", "InstallerpediaProductionDatabase"),
        ("any", "20260921T180004Z-9f3a"),
    ],
)
def test_a_literal_that_is_none_is_let_pass(key: str, text: str) -> None:
    assert looks_secret(key, text) is None


def test_braces_that_never_close_cost_no_time() -> None:
    began = time.process_time()
    assert looks_secret("text", "{{" * 50_000) is None
    assert time.process_time() - began < 2.0  # 28 s if each looks for its own end


def test_a_secret_is_told_with_its_place_and_not_repeated_and_a_comment_lets_one_pass(tmp_path: Path) -> None:
    literal = '"https://hooks.slack.com/services/T0/B0/x"'
    playbook = GOOD.replace("policy:", f"vars:\n  hook: {literal}\npolicy:").replace('"{{ team', '"{{ hook }}{{ team')
    (found,) = lines(check(tmp_path, playbook=playbook))[0]
    assert found.startswith("playbooks/ipm.yaml:4:9: this looks like a webhook's address: let the command")
    assert "T0/B0" not in found
    assert check(tmp_path, playbook=playbook.replace(literal, f"{literal}  # not a secret")).errors == ()
    held_back = "x-hook: &hook " + literal + "\n" + GOOD.replace('text: "{{ team }}: {{ refusal }}"', "text: *hook")
    # A value behind an anchor is told once, where it stands.
    assert [one.partition(": ")[0] for one in lines(check(tmp_path, playbook=held_back))[0]] == [
        "playbooks/ipm.yaml:1:9"
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789: 1", "4:3: this looks like an access key"),
        ("x: {ghp_abcdefghijklmnopqrstuvwxyz0123456789: {}}", "4:7: this looks like an access key"),
        ("password: {a: hunter22}", "4:17: this looks like a secret under password"),
        ("ok: 1 # password: hunter2hunter2", "4:9: this looks like a secret in a comment"),
        ("ok: 1 # ghp_abcdefghijklmnopqrstuvwxyz0123456789", "4:9: this looks like an access key"),
        ("# was https://hooks.slack.com/services/T0/B0/x", "4:3: this looks like a webhook's address"),
        ("ok: ['x # password: hunter2hunter2']", "4:8: this looks like a secret in a text"),
        ("ok: 'x # y' # password: hunter2hunter2", "4:10: this looks like a secret in a comment"),
    ],
)
def test_a_secret_is_seen_in_keys_comments_and_below_a_secrets_name(tmp_path: Path, line: str, found: str) -> None:
    played = GOOD.replace("policy:", f"vars:\n  {line}\n  last: 1\npolicy:")
    assert [one.partition(": let ")[0] for one in lines(check(tmp_path, playbook=played))[0]] == [
        f"playbooks/ipm.yaml:{found}"
    ]
    assert check(tmp_path, playbook=played.replace(line, f"{line}  # not a secret")).errors == ()


@pytest.mark.parametrize(
    "line",
    [
        "ok: 1 # the token: see B2_TOKEN2 in docs/buckets.md",
        "ok: 1 # pinned to 3f2a9c0d1e4b5a69788796a5b4c3d2e1f0a9b8c7",
        "token: {env: B2_TOKEN, help: the token of the store}",
        "password: {a: $DB_PASSWORD1, b: '{{ db.name }}'}",
    ],
)
def test_names_and_words_around_secrets_are_let_pass(tmp_path: Path, line: str) -> None:
    assert check(tmp_path, playbook=GOOD.replace("policy:", f"vars:\n  {line}\n  last: 1\npolicy:")).errors == ()


# -- the command ---------------------------------------------------------------------------------------------------


def b2m(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "b2m", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.alone
def test_this_repository_passes_in_less_than_a_second() -> None:
    # It waits for nothing, so that its processor time is the time that it takes on an idle machine.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = b2m(REPOSITORY, "check")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout) == (0, ""), done
    assert done.stderr == "9 files, no errors, no warnings\n"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0 * slowness()


def test_the_command_says_where_and_leaves_with_3(tmp_path: Path) -> None:
    for name in ("inventory.yaml", "playbooks", "roles"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    playbook = tmp_path / "playbooks" / "ipm.yaml"
    playbook.write_text(playbook.read_text().replace("policy:", "vars: {unread: 1}\npolcy:", 1))
    done = b2m(tmp_path, "check")
    assert done.returncode == 3
    # What nothing reads is told when all could be read.
    assert done.stdout == "playbooks/ipm.yaml:7:1: unknown key polcy, did you mean policy?\n"
    assert done.stderr == "9 files, 1 error, no warnings\n"
    as_json = [json.loads(line) for line in b2m(tmp_path, "check", "--json").stdout.splitlines()]
    assert as_json[0] == {
        "type": "finding",
        "severity": "error",
        "file": "playbooks/ipm.yaml",
        "line": 7,
        "col": 1,
        "text": "unknown key polcy, did you mean policy?",
    }
    assert (as_json[-1]["type"], as_json[-1]["errors"], as_json[-1]["warnings"]) == ("check", 1, 0)


# -- files that tasks make and prove -------------------------------------------------------------------------------


def in_outdated(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


OURS = "    - replay: {from: ours, onto: candidate}\n    - verify:"


def test_a_swap_of_replayed_rows_needs_the_rows_proven(tmp_path: Path) -> None:
    report = check(tmp_path, playbook=in_outdated("    - verify:", OURS))
    assert lines(report)[0] == [
        "playbooks/ipm.yaml:20:11: swap needs more checks in the verify of candidate before it: rows"
    ]
    every = OURS.replace("verify:", "verify: {checks: [integrity, foreign_keys, rows]}\n    - verify:")
    assert lines(check(tmp_path, playbook=in_outdated("    - verify:", every))) == ([], [])
    unknown = in_outdated("- verify: {file: candidate}", "- verify: {checks: '{{ anchor.commit }}'}")
    assert lines(check(tmp_path, playbook=unknown)) == ([], [])


def test_a_replay_after_the_verify_asks_for_another_one(tmp_path: Path) -> None:
    after = "- verify: {file: candidate}\n    - replay: {from: ours, onto: candidate}"
    assert lines(check(tmp_path, playbook=in_outdated("- verify: {file: candidate}", after)))[0] == [
        "playbooks/ipm.yaml:20:11: swap needs a verify of candidate after what last changed it: "
        "foreign_keys, integrity, rows"
    ]


def test_an_upload_needs_sqlites_own_check(tmp_path: Path) -> None:
    role = ROLE.replace("verify: {file: ours}", "verify: {file: ours, checks: [foreign_keys]}")
    assert lines(check(tmp_path, role=role))[0] == [
        "roles/publish/role.yaml:6:5: upload needs more checks in the verify of ours before it: integrity"
    ]


def test_a_file_that_no_task_makes_and_a_hold_that_exchanges_nothing(tmp_path: Path) -> None:
    without = in_outdated("    - download: {version: head, as: candidate}\n", "")
    missing = "no task before this one makes a file named candidate: download or snapshot does"
    assert lines(check(tmp_path, playbook=without))[0] == [
        f"playbooks/ipm.yaml:{place}: {missing}" for place in ("14:7", "17:11", "18:11")
    ]
    idle = in_outdated("        - swap: {file: candidate}\n", "")
    nothing = "this hold takes the database away and exchanges nothing: no swap or rename is in it"
    assert lines(check(tmp_path, playbook=idle)) == ([], [f"playbooks/ipm.yaml:16:7: {nothing}"])


@pytest.mark.parametrize(
    ("old", "new", "place", "name"),
    [
        ("{from: live, onto: candidate}", "{from: live, since: candidate, onto: candidate}", "18:39", "candidate"),
        ("- snapshot: {}", "- snapshot: {}\n    - replay: {from: candidate}", "15:22", "candidate"),
        ("- snapshot: {}", "- snapshot: {}\n    - download: {as: ours}", "19:26", "ours"),
    ],
)
def test_a_replay_starts_from_a_snapshot_and_from_no_other_file(
    tmp_path: Path, old: str, new: str, place: str, name: str
) -> None:
    found = lines(check(tmp_path, playbook=in_outdated(old, new)))[0]
    what = "is no snapshot: a replay needs the name of a file that a snapshot task made"
    assert found[0] == f"playbooks/ipm.yaml:{place}: {name} {what}"


def test_a_replay_may_start_from_any_snapshot(tmp_path: Path) -> None:
    later = "- snapshot: {as: later}\n    - hold: {"
    playbook = in_outdated("- hold: {", later).replace("{from: live,", "{from: live, since: later,")
    assert lines(check(tmp_path, playbook=playbook)) == ([], [])


def test_what_could_not_be_read_makes_no_noise(tmp_path: Path) -> None:
    report = check(tmp_path, playbook=in_outdated("download:", "donwload:"))
    assert lines(report) == (["playbooks/ipm.yaml:13:7: unknown module donwload, did you mean download?"], [])
    report = check(tmp_path, playbook="db: ipm\n\thosts: []\n")
    assert lines(report) == (["playbooks/ipm.yaml:2:1: a tab: YAML is indented with spaces"], [])
