"""What is wrong with a database on a host, and the one command to type next; nothing is changed by looking."""

from b2m.doctor.examine import examine
from b2m.doctor.findings import Diagnosis, Finding, Level

__all__ = ["Diagnosis", "Finding", "Level", "examine"]
