"""What a review says of branches, word for word: golden/<branch>.md is the comment under its exit code.

B2M_WRITE_GOLDEN=1 writes the files anew; their difference is then to be reviewed like code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from b2m.review import review
from b2m.review.markdown import markdown
from tests.review.repositories import FILES, INVENTORY, PLAYBOOK, ROLE, changed, commit, repository

GOLDEN = Path(__file__).parent / "golden"
PLAY, PUBLISH = "playbooks/ipm.yaml", "roles/publish/role.yaml"
VERIFY = "    - verify: {file: candidate, checks: [integrity, foreign_keys, rows]}\n"
SHELL = '    - shell: {run: "curl -H token=abcd1234efgh example.org", reason: "the cache"}\n'

EMOJI = changed(INVENTORY, ("groups:", "  emoji:\n    file: emoji.db\n    bucket: main\ngroups:"))
HOSTS = (
    ("      prod:", "      spare: {folder: x, databases: {ipm: {}, emoji: {}}}\n      prod:"),
    ("          ipm:\n", "          emoji: {service: web}\n          ipm:\n"),
)
EMOJI_PLAYBOOK = changed(PLAYBOOK, ("db: ipm", "db: emoji"), ("policy:\n", "policy:\n  naming: stable\n"))

BRANCHES: Mapping[str, Mapping[str, str | None]] = {
    "removes-verify": {PLAY: changed(PLAYBOOK, (VERIFY, ""))},
    "removes-a-check": {PLAY: changed(PLAYBOOK, ("foreign_keys, rows]", "foreign_keys]"))},
    "verifies-only-sometimes": {PLAY: changed(PLAYBOOK, (VERIFY, f"{VERIFY}      when: live.dirty\n"))},
    "changes-a-default-of-a-role": {PUBLISH: changed(ROLE, ("[integrity, foreign_keys]", "[integrity]"))},
    "renames-a-variable": {PLAY: changed(PLAYBOOK, ("tone: calm", "mood: calm"), ("{{ tone }}", "{{ mood }}"))},
    "renames-a-variable-in-one-place": {"inventory.yaml": changed(INVENTORY, ("team: ops", "crew: ops"))},
    "raises-max_downtime": {PLAY: changed(PLAYBOOK, ("max_downtime: 5s", "max_downtime: 30s"))},
    "lowers-guards": {
        PLAY: changed(
            PLAYBOOK,
            ("rows: 100", "rows: 5000, share: 0.5"),
            ("  max_downtime", "  merge: {tables: {users: {on_conflict: newest, by: changed}}}\n  max_downtime"),
            ("        - replay: {from: live, onto: candidate}\n", ""),
            ("  ready_to_upload:\n", f"  ready_to_upload:\n{SHELL}"),
            (PLAYBOOK[PLAYBOOK.index("on_failed:") :], "on_failed: []\n"),
        ),
        "inventory.yaml": changed(
            INVENTORY,
            ('            health: {url: "http://127.0.0.1:8000/health"}\n', "            stop_timeout: 2m\n"),
            ("    bucket: main\n", "    bucket: main\n    direction: both\n"),
        ),
    },
    "adds-a-database-and-a-host": {
        "inventory.yaml": changed(EMOJI, *HOSTS),
        "playbooks/emoji.yaml": EMOJI_PLAYBOOK,
        "deploy.sh": "true\n",
    },
    "renames-a-database": {
        "inventory.yaml": changed(
            INVENTORY, ("  ipm:\n    file: ipm", "  mpi:\n    file: ipm"), ("          ipm:", "          mpi:")
        ),
        PLAY: None,
        "playbooks/mpi.yaml": changed(PLAYBOOK, ("db: ipm", "db: mpi")),
    },
    "breaks-the-project": {PLAY: changed(PLAYBOOK, ("max_downtime: 5s", "max_downtime: 5"), ("verify", "verfy"))},
}


@pytest.mark.parametrize("branch", BRANCHES)
def test_the_comment_of_a_branch(branch: str, tmp_path: Path) -> None:
    root = repository(tmp_path / "project", FILES)
    commit(root, BRANCHES[branch])
    found = review(str(root))
    # Commits have other tokens every time.
    lines = [re.sub(r"`[0-9a-f]{10}`", "`COMMIT`", line) for line in markdown(found)]
    text = "\n".join([f"exit code {found.exit_code}", "", *lines, ""])
    file = GOLDEN / f"{branch}.md"
    if os.environ.get("B2M_WRITE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_golden_file_belongs_to_a_branch() -> None:
    assert {file.stem for file in GOLDEN.glob("*.md")} == set(BRANCHES)
