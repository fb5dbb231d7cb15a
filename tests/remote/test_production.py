"""README's "Production in ten minutes", followed to the letter: a real store, and a host behind a real sshd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2m.demo import create_demo
from tests.support import s3_server
from tests.support.far import own
from tests.support.sshd import ROOT, Prod, free_port

README = (ROOT / "README.md").read_text().partition("## Production in ten minutes")[2].partition("\n## ")[0]
MAKEFILE = """\
SERVER = python3 server.py --state state --folder dbs
stop-prod:
\t$(SERVER) stop
start-prod:
\t$(SERVER) start --port {port}
"""


def blocks() -> Iterator[tuple[str, str]]:
    """Yield the language and text of each code block."""
    yield from re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def served(prod_host: Prod, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A web site of the host's user; returns what the README's names are called here."""
    port = free_port()
    base = prod_host.folder / f"srv-{tmp_path.name}"
    shutil.copytree(ROOT / "examples" / "server", base)
    (base / "Makefile").write_text(MAKEFILE.format(port=port))
    made = create_demo(tmp_path / "made")
    shutil.move(made, base / "dbs")
    (base / "dbs" / "ipm-db-v1.db").rename(base / "dbs" / "ipm-db-v5.db")
    (base / "dbs" / "db.toml").write_text('[db]\nipmdb = "ipm-db-v5.db"\nemojidb = "emoji-db-v1.db"\n')
    own(prod_host, base)
    prod_host.sh(f"cd '{base}' && make -s start-prod")
    yield {
        "/srv/web": str(base),
        "http://127.0.0.1:8000/health": f"http://127.0.0.1:{port}/health",
        "deploy@prod.example.org": "prod",
        "https://s3.eu-central-003.backblazeb2.com": s3_server.server().endpoint,
        "s3://acme-databases": f"s3://{s3_server.server().new_bucket()}",
        "eu-central-003": s3_server.REGION,
    }
    prod_host.sh(f"cd '{base}' && make -s stop-prod", check=False)
    shutil.rmtree(prod_host.home / ".b2m", ignore_errors=True)


def test_the_readme_followed_to_the_letter(served: dict[str, str], prod_host: Prod, tmp_path: Path) -> None:
    ops_box = tmp_path / "ops box"
    ops_box.mkdir()
    environment = {
        "PATH": f"{ROOT}:{os.environ['PATH']}",  # this clone's b2m, whatever else is installed
        "HOME": str(ops_box),
        "KEY_ID": os.environ[s3_server.KEY_ID],
        "KEY": os.environ[s3_server.KEY],
        **prod_host.environment,
    }
    script = ["set -eu"]
    for language, text in blocks():
        here = text
        for name, value in served.items():
            here = here.replace(name, value)
        if language == "yaml":
            script.append(f"cat > inventory.yaml <<'EOF'\n{here}EOF")
        else:
            script.append(here)
    crontab = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False).stdout
    try:
        done = subprocess.run(
            ["sh", "-c", "\n".join(script)], cwd=ops_box, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done
        assert re.search(r"^ipm@prod  ready_to_upload -> up_to_date  - -> v5 ", done.stdout, re.MULTILINE), done.stdout
        assert re.search(r"^ipm@prod  up_to_date ", done.stdout, re.MULTILINE), done.stdout

        installed = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=True).stdout
        (line,) = [line for line in installed.splitlines() if "sync" in line and str(ops_box) in line]
        command = line.split(maxsplit=5)[5].replace("\\%", "%")
        bare = {"HOME": str(ops_box), "LOGNAME": "root", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        ran = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=ops_box,
            env={**bare, **prod_host.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), ran
    finally:
        subprocess.run(["crontab", "-"], input=crontab, text=True, check=True)
