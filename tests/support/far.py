"""A world whose production host is another machine, as far as b2m can tell: another user's home, reached by SSH.

The ops box and its members stay in the test's own folder; ``prod`` and ``prod-stop`` are one server in that home.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b2m.buckets import open_bucket
from b2m.buckets.marker import init_bucket
from tests.support.sshd import ROOT, Prod
from tests.support.world import INVENTORY, Done, World


@dataclass(frozen=True)
class Store:
    """A bucket that both machines reach: its entry of inventory.yaml, and the secrets that it names."""

    entry: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The entry as ``open_bucket`` takes it in this process: with the secrets themselves."""

        def plain(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: plain(item) for key, item in value.items()}
            return self.secrets[value[1:]] if isinstance(value, str) and value.startswith("$") else value

        return {key: plain(value) for key, value in self.entry.items()}

    @property
    def yaml(self) -> str:
        """The entry below ``main:``; JSON is YAML too."""
        return "".join(f"    {key}: {json.dumps(value)}\n" for key, value in self.entry.items())


class FarWorld(World):
    """A world over SSH."""

    def __init__(self, root: Path, host: Prod, store: Store, *, start_timeout: str = "10s") -> None:
        self.host, self.store = host, store
        super().__init__(root, start_timeout=start_timeout)
        base = host.home / root.name.replace(" ", "-")
        self.base = base
        inventory = INVENTORY.format(python="{{ python }}", server="server.py", start_timeout=start_timeout)
        inventory = inventory.replace("    type: folder\n    path: bucket\n", store.yaml)
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
        self.bucket = open_bucket(store.config)
        self.bucket_id = init_bucket(self.bucket).id
        if store.entry["type"] == "folder":
            own(host, Path(str(store.entry["path"])))

    def b2m(
        self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 120, under: Sequence[str] = ()
    ) -> Done:
        return super().b2m(*args, env={**self.environment, **(env or {})}, timeout=timeout, under=under)

    def start_b2m(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return super().start_b2m(*args, env={**self.environment, **(env or {})})

    @property
    def environment(self) -> dict[str, str]:
        return {**self.host.environment, **self.store.secrets}

    def server(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Command the server as its user: not over SSH, as its service manager would."""
        words = ["python3", str(self.base / "server.py"), "--folder", str(self.prod), "--state", str(self.state), *args]
        return self.host.sh(" ".join(f"'{word}'" for word in words), check=check)

    def folder(self, host: str) -> Path:
        return self.prod if host.startswith("prod") else self.root / host / "dbs"


def own(host: Prod, path: Path) -> None:
    """Give a folder, and all in it, to the host's user."""
    subprocess.run(["chown", "-R", host.user, str(path)], check=True)
