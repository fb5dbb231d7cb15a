"""The verbs of b2m, as functions: everything that a command line, a cron job or a dashboard may ask for.

Knows nothing of Invoke. Heavy libraries are imported where they are used.
"""

from b2m.api.authoring import check, init, variables
from b2m.api.changing import (
    adopt,
    download,
    ensure,
    folders_here,
    pause,
    recover,
    resume,
    rollback,
    sync,
    telling,
    unlock,
    upload,
    write_db_toml,
)
from b2m.api.choosing import SEVERITY, Failure, each, fleet, named, project, targets, worst
from b2m.api.looking import contract, db_toml, diff, doctor, history, locks, plan, rehearse, runs, seen, status
from b2m.api.on_hosts import ON_HOSTS, on_host
from b2m.api.scheduling import schedule_entry, scheduled
from b2m.api.stores import bucket_check, bucket_import, bucket_init

__all__ = [
    "ON_HOSTS",
    "SEVERITY",
    "Failure",
    "adopt",
    "bucket_check",
    "bucket_import",
    "bucket_init",
    "check",
    "contract",
    "db_toml",
    "diff",
    "doctor",
    "download",
    "each",
    "ensure",
    "fleet",
    "folders_here",
    "history",
    "init",
    "locks",
    "named",
    "on_host",
    "pause",
    "plan",
    "project",
    "recover",
    "rehearse",
    "resume",
    "rollback",
    "runs",
    "schedule_entry",
    "scheduled",
    "seen",
    "status",
    "sync",
    "targets",
    "telling",
    "unlock",
    "upload",
    "variables",
    "worst",
    "write_db_toml",
]
