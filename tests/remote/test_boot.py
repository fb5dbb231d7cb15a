"""The line of a host's crontab that settles at boot what a run left."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2m.remote.boot import _line
from tests.project.samples import INVENTORY, load

S3 = "type: s3\n    url: s3://bucket/prefix\n    key_id: $ID\n    key: $KEY"


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        ("~", "."),
        (".", "."),
        ("~/dbs", "dbs"),
        ("~/the dbs", "'the dbs'"),
        ("~/100%", r"100\%"),
        ("dbs", "dbs"),
        ("/srv/dbs", "/srv/dbs"),
        ("~deploy/dbs", "'~deploy/dbs'"),
    ],
)
def test_cron_starts_in_the_logins_home_so_a_folder_there_is_named_from_it(
    tmp_path: Path, folder: str, word: str
) -> None:
    inventory = INVENTORY.replace("type: folder\n    path: bucket", S3).replace("folder: dbs", f'folder: "{folder}"')
    inventory = inventory.replace("        folder:", "        connection: ssh\n        folder:")
    target = load(tmp_path, inventory=inventory).target("ipm", "prod")
    assert not target.here
    python = '"$HOME/.b2m/current/venv/bin/python"'
    assert _line(target) == f"@reboot {python} -I -m b2m.hosts.recovery {word}"
