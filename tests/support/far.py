"""A world whose production host is another machine, as far as b2m can tell: another user's home, reached by SSH.

The ops box and its members stay in the test's own folder; ``prod`` and ``prod-stop`` are one server in that home.
The bucket is one that both reach.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from b2m.buckets import open_bucket
from b2m.buckets.marker import init_bucket
from tests.support.sshd import ROOT, Prod
from tests.support.world import INVENTORY, Done, World


class FarWorld(World):
    """A world over SSH."""

    def __init__(self, root: Path, host: Prod, bucket: Mapping[str, Any], *, start_timeout: str = "10s") -> None:
        self.host = host
        super().__init__(root, start_timeout=start_timeout)
        base = host.home / root.name.replace(" ", "-")
        self.base = base
        inventory = INVENTORY.format(python="{{ python }}", server="server.py", start_timeout=start_timeout)
        inventory = inventory.replace("    type: folder\n    path: bucket\n", yaml_of(bucket))
        for name in ("prod", "prod-stop"):
            there = f"connection: ssh\n        address: prod\n        folder: {base}/prod/dbs\n        workdir: {base}"
            inventory = inventory.replace(f"      {name}:\n        folder: prod/dbs", f"      {name}:\n        {there}")
        (root / "inventory.yaml").write_text(inventory)
        base.mkdir()
        shutil.copytree(ROOT / "examples" / "server", base, dirs_exist_ok=True)
        shutil.move(root / "prod", base / "prod")
        own(host, base)
        self.prod, self.state = base / "prod" / "dbs", base / "prod" / "state"
        shutil.rmtree(root / "bucket", ignore_errors=True)
        self.bucket = open_bucket(bucket)
        self.bucket_id = init_bucket(self.bucket).id
        if bucket["type"] == "folder":
            own(host, Path(str(bucket["path"])))

    def b2m(
        self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 120, under: Sequence[str] = ()
    ) -> Done:
        return super().b2m(*args, env={**self.environment, **(env or {})}, timeout=timeout, under=under)

    def start_b2m(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return super().start_b2m(*args, env={**self.environment, **(env or {})})

    @property
    def environment(self) -> dict[str, str]:
        """How to get to the host; the bucket's secrets are in this process's own environment."""
        return self.host.environment

    def server(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Command the server as its user: not over SSH, as its service manager would."""
        words = ["python3", str(self.base / "server.py"), "--folder", str(self.prod), "--state", str(self.state), *args]
        return self.host.sh(" ".join(f"'{word}'" for word in words), check=check)

    def folder(self, host: str) -> Path:
        return self.prod if host.startswith("prod") else self.root / host / "dbs"


def yaml_of(entry: Mapping[str, Any]) -> str:
    """A bucket's entry below its name; JSON is YAML too."""
    return "".join(f"    {key}: {json.dumps(value)}\n" for key, value in entry.items())


def own(host: Prod, path: Path) -> None:
    """Give a folder, and all in it, to the host's user."""
    subprocess.run(["chown", "-R", f"{host.user}:", str(path)], check=True)
