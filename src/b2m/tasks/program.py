"""The program: Invoke with b2m's tasks, and command lines as people type them."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches

from invoke.exceptions import Exit, ParseError
from invoke.program import Program

from b2m import __version__
from b2m.tasks.argv import flags_of, rewritten
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

    def parse_tasks(self) -> None:
        with self._meant():
            super().parse_tasks()

    @contextmanager
    def _meant(self) -> Iterator[None]:
        """Add to what Invoke says of a word that it does not know what was probably meant."""
        try:
            yield
        except ParseError as error:
            found = re.fullmatch(r"No idea what '(-*)(.+)' is!", str(error))
            if found is None or self.namespace is None:
                raise
            known = [*self.namespace.task_names, *self.namespace.collections]
            if found[1]:
                typed = self.argv[1] in self.namespace.task_names
                known = [flag.lstrip("-") for flag in flags_of(self.namespace[self.argv[1]])] if typed else []
            close = get_close_matches(found[2], known, 1)
            raise ParseError(str(error) + (f" Did you mean {found[1]}{close[0]}?" if close else "")) from None

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
        with self._meant():
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
