"""Messages of a run on another host are sent from here: the host knows neither the address nor that there is one."""

from __future__ import annotations

from pathlib import Path

from tests.support.far import FarWorld
from tests.support.listener import listening

SECRET = "to-Ken_5ecret"


def test_what_happens_there_is_told_from_here(far: FarWorld) -> None:
    far.change("inventory.yaml", "databases:\n  ipm:\n", "messages:\n  ops: $DISCORD_OPS\ndatabases:\n  ipm:\n")
    far.change("playbooks/ipm.yaml", "role: report_success", "role: report_success\n    vars: {to: ops}")
    far.change("playbooks/ipm.yaml", "scenarios:", "schedule: {every: 6h, host: prod, ping: $PING}\n\nscenarios:")
    far.change(
        "playbooks/ipm.yaml",
        "    - name: Publish what the server wrote",
        "    - shell: {run: cat /proc/*/environ /proc/*/cmdline > seen.txt || true, reason: test}\n"
        "    - name: Publish what the server wrote",
    )
    with listening() as discord, far.serving():
        env = {"DISCORD_OPS": discord.webhook, "PING": f"{discord.url}/{SECRET}", "no_proxy": "127.0.0.1"}
        done = far.sync(env=env)
    assert done.code == 0, done
    # They are sent side by side.
    ping, message = sorted(discord.requests, key=lambda request: request.method)
    assert message.json["content"].startswith("ipm@prod  ready_to_upload -> up_to_date  - -> v1  ")
    assert (ping.method, ping.path) == ("GET", f"/{SECRET}")
    assert b"b2m" in (far.base / "seen.txt").read_bytes()
    files = [path for path in Path(far.host.home).rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in done.out + done.err
