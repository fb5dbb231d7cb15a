"""The tasks of this project, for Invoke: every ops repository can have this same file."""

from b2m.tasks import namespace as ns

__all__ = ["ns"]
