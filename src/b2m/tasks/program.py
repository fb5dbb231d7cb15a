"""The program: Invoke with b2m's tasks, and command lines as people type them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from invoke.exceptions import Exit
from invoke.program import Program

from b2m import __version__
from b2m.tasks.argv import rewritten
from b2m.tasks.completing import candidates


class B2mProgram(Program):
    """Invoke's program, with command lines rewritten and names completed."""

    def normalize_argv(self, argv: list[str] | None) -> None:
        super().normalize_argv(argv)
        self.argv = rewritten(self.argv, self.namespace)

    def parse_core(self, argv: list[str] | None) -> None:
        with self._any_program():
            super().parse_core(argv)
        # Invoke turns the cache of compiled modules off; with it every start takes twice as long.
        sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))

    @contextmanager
    def _any_program(self) -> Iterator[None]:
        """Let the completion script ask the program that is being typed: ./b2m need not be on the PATH."""
        said = io.StringIO()
        try:
            with redirect_stdout(said):
                yield
        finally:
            sys.stdout.write(said.getvalue().replace("`b2m --complete", "`${COMP_WORDS[0]} --complete"))

    def parse_cleanup(self) -> None:
        if self.args.complete.value:
            words = self.core.remainder.split()[1:]  # the first is the program
            print("\n".join(candidates(words, self.collection)))
            raise Exit
        super().parse_cleanup()


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
