"""Runs by themselves: what a playbook's ``schedule`` asks for, as a line of a crontab or as systemd units."""

from b2m.schedule.checks import missing
from b2m.schedule.cron import Crontab
from b2m.schedule.entry import Entry, Installer, entry_of, try_out
from b2m.schedule.systemd import Units

__all__ = ["Crontab", "Entry", "Installer", "Units", "entry_of", "missing", "try_out"]
