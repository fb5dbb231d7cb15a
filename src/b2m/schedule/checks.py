"""What a scheduled run would lack, besides what a look at its host and bucket shows."""

from __future__ import annotations

import subprocess

from b2m import errors, secrets
from b2m.project import Target


def missing(target: Target) -> list[str]:
    """Return, each as a sentence, the secrets that cannot be read and what else a scheduled run needs."""
    found = []
    names = {*secrets.names(target.bucket), *target.own_messages, *(target.ping,)}
    names |= {secret for known in target.messages.values() for secret in known}
    for name in sorted(name for name in names if name):
        try:
            secrets.read(name)
        except errors.SecretMissing as error:
            found.append(str(error))
    schedule = target.playbook.schedule
    if schedule is not None and schedule.pull is not None:
        found += _pull(target)
    return found


def _pull(target: Target) -> list[str]:
    command = ["git", "-C", str(target.root), "rev-parse", "--quiet", "--verify", "@{upstream}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ["schedule.pull: git does not work here"]
    if done.returncode == 0:
        return []
    return [f"schedule.pull: {target.root} is on no branch that follows another: git branch --set-upstream-to=…"]
