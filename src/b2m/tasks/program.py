"""The program: Invoke with b2m's tasks, and nested verbs as two words."""

from __future__ import annotations

import os
import sys

from invoke.collection import Collection
from invoke.program import Program

from b2m import __version__


class B2mProgram(Program):
    """Reads ``b2m bucket init`` as ``b2m bucket.init``."""

    def normalize_argv(self, argv: list[str] | None) -> None:
        super().normalize_argv(argv)
        self.argv = join_nested(self.argv, self.namespace)

    def parse_core(self, argv: list[str] | None) -> None:
        super().parse_core(argv)
        # Invoke turns the cache of compiled modules off; with it every start takes twice as long.
        sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))


def join_nested(argv: list[str], namespace: Collection | None) -> list[str]:
    """Join the words of a nested task to Invoke's dotted name."""
    if namespace is None or len(argv) < 3:
        return argv
    group, verb = argv[1], argv[2]
    if group in namespace.collections and verb in namespace.collections[group].tasks:
        return [argv[0], f"{group}.{verb}", *argv[3:]]
    return argv


def main() -> None:
    """Run the command line."""
    from b2m.tasks import namespace

    program = B2mProgram(
        name="b2m",
        version=__version__,
        binary="b2m",
        binary_names=["b2m"],
        namespace=namespace,
    )
    program.run()
