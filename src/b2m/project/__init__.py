"""Project files: strict YAML with positions, pydantic models, sandboxed expressions, and the rules across files."""

from b2m.project.load import Project, find_project, load_project
from b2m.project.models import ALL, LOCAL, STATES, MaxDeletes, Merge, MergeRule, Policy
from b2m.project.schedule import ScheduleFile as Schedule
from b2m.project.strict import Name, Strict
from b2m.project.target import Service, Target
from b2m.project.tasks import Limits, Modules, Playbook, Task, walk
from b2m.project.units import Command, Duration, Size

__all__ = [
    "ALL",
    "LOCAL",
    "STATES",
    "Command",
    "Duration",
    "Limits",
    "MaxDeletes",
    "Merge",
    "MergeRule",
    "Modules",
    "Name",
    "Playbook",
    "Policy",
    "Project",
    "Schedule",
    "Service",
    "Size",
    "Strict",
    "Target",
    "Task",
    "find_project",
    "load_project",
    "walk",
]
