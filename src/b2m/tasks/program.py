"""The program: Invoke with b2m's tasks, and command lines as people type them."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from typing import NoReturn

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.program import Program

from b2m import __version__
from b2m.tasks.argv import flags_of, rewritten
from b2m.tasks.completing import candidates
from b2m.tasks.frame import silence, unheard


class B2mProgram(Program):
    """Invoke's program, with command lines rewritten and names completed."""

    def normalize_argv(self, argv: list[str] | None) -> None:
        super().normalize_argv(argv)
        self.argv = rewritten(self.argv, self.namespace)

    def create_config(self) -> None:
        try:
            super().create_config()
        except OSError as error:  # Invoke reads ~/.invoke.yaml
            why = (error.strerror or str(error)).lower()
            raise Exit(f"b2m: {error.filename}: {why}; mend that, or set HOME to your own folder", 1) from None

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
            meant = self._close(found[1], found[2], self.namespace)
            raise ParseError(f"{error} Did you mean {meant}?" if meant else str(error)) from None

    def _close(self, dashes: str, word: str, namespace: Collection) -> str:
        """Return what was probably meant by a word that nobody knows, empty if nothing comes close."""
        if dashes:
            typed = self.argv[1] in namespace.task_names
            flags = {flag.lstrip("-"): flag for flag in flags_of(namespace[self.argv[1]])} if typed else {}
            return flags[close[0]] if (close := get_close_matches(word, flags, 1)) else ""
        if word in namespace.collections:
            return " or ".join(f"{word}.{verb}" for verb in namespace.collections[word].tasks)
        close = get_close_matches(word, [*namespace.task_names, *namespace.collections], 1)
        return close[0] if close else ""

    @contextmanager
    def _any_program(self) -> Iterator[None]:
        """Let the completion script ask the program that is being typed: ./b2m need not be on the PATH."""
        said = io.StringIO()
        try:
            with redirect_stdout(said):
                yield
        finally:
            if text := said.getvalue():
                sys.stdout.write(text.replace("`b2m --complete", "`${COMP_WORDS[0]} --complete"))

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

    open_standard_streams()
    program = B2mProgram(
        name="b2m",
        version=__version__,
        binary="b2m",
        binary_names=["b2m"],
        namespace=namespace,
    )
    try:
        program.run()
    except BrokenPipeError as error:
        leave_unheard(error)
    except SystemExit:
        try:
            sys.stdout.flush()
        except OSError as error:
            leave_unheard(error)
        raise


def leave_unheard(error: OSError) -> NoReturn:
    """Leave a command whose output could not be written."""
    silence(sys.stdout)
    sys.exit(unheard(error).code)


def open_standard_streams() -> None:
    """Give a process that was started without some of its three streams the null device for them.

    No file that is opened later may get the number of one: what is printed would go into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
