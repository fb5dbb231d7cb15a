"""Loads what the tests' forks need."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

import b2m

for _found in walk_packages(b2m.__path__, "b2m."):
    if not _found.name.endswith("__main__"):
        import_module(_found.name)
