"""Git, asked only to read: the commit that a change starts from, and the project's files in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from b2m.errors import UsageError
from b2m.project.load import INVENTORY

READ = (INVENTORY, "playbooks", "roles")
"""What b2m reads of a project, and so all that a review looks at."""

USUAL_BASES = ("origin/main", "main")
_SECONDS = 60


@dataclass(frozen=True)
class Change:
    """What is reviewed: the commit that it starts from, the one checked out, and whether files differ from that."""

    base: str
    base_name: str
    head: str
    dirty: bool


@dataclass(frozen=True)
class Repository:
    """The Git repository around a project's folder."""

    root: Path

    def change(self, base: str | None) -> Change:
        """The change since HEAD and ``base`` parted, else origin/main or main; UsageError if there is no such point."""
        if self._try("rev-parse", "--is-inside-work-tree") != b"true":
            raise UsageError(what=f"{self.root} is in no Git repository: a review compares two revisions of a project")
        head = self._commit("HEAD")
        if head is None:
            raise UsageError(what=f"the Git repository of {self.root} has no commit yet: there is nothing to review")
        name = base or next((usual for usual in USUAL_BASES if self._commit(usual)), None)
        if name is None:
            raise UsageError(what=f"there is no {' and no '.join(USUAL_BASES)}: name the revision with --base REV")
        commit = self._commit(name)
        if commit is None:
            raise UsageError(what=f"unknown revision {name}: fetch it, or name another with --base REV")
        parted = self._try("merge-base", commit, head)
        if not parted:
            what = f"HEAD and {name} have no commit in common; a shallow clone is completed with: git fetch --unshallow"
            raise UsageError(what=what)
        dirty = bool(self._ask("status", "--porcelain", "--", "."))
        return Change(parted.decode(), name, head, dirty)

    def extract(self, commit: str, into: Path) -> list[str]:
        """Write what b2m reads of a revision to a folder; returned are links that lead out of the project."""
        files: list[tuple[PurePosixPath, str]] = []
        links: list[tuple[PurePosixPath, str]] = []
        for entry in _zero_ended(self._ask("ls-tree", "-r", "-z", commit, "--", *READ)):
            about, _, name = entry.partition("\t")
            mode, kind, oid = about.split()
            path = PurePosixPath(name)
            if kind == "blob" and ".." not in path.parts and (mode == "120000" or path.suffix in (".yaml", ".yml")):
                (links if mode == "120000" else files).append((path, oid))
        texts = self._blobs([oid for _, oid in (*files, *links)])
        for path, oid in files:
            _made(into / path).write_bytes(texts[oid])
        outside = []
        # Links come last, so that no file is written through one.
        for path, oid in links:
            link = _made(into / path)
            link.symlink_to(os.fsdecode(texts[oid]))
            if not link.resolve().is_relative_to(into.resolve()):
                link.unlink()
                outside.append(str(path))
        return outside

    def other_files(self, commit: str) -> list[str]:
        """The files of the project's folder that differ from a revision and that b2m does not read."""
        changed = self._ask("diff", "--name-only", "--no-ext-diff", "--relative", "-z", commit, "--", ".")
        new = self._ask("ls-files", "--others", "--exclude-standard", "-z")
        names = {*_zero_ended(changed), *_zero_ended(new)}
        return sorted(name for name in names if PurePosixPath(name).parts[0] not in READ)

    def _commit(self, name: str) -> str | None:
        # A name that begins with a dash would be taken for an option.
        found = None if name.startswith("-") else self._try("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return found.decode() if found else None

    def _blobs(self, oids: list[str]) -> dict[str, bytes]:
        rest = self._ask("cat-file", "--batch", said="".join(f"{oid}\n" for oid in oids).encode())
        found: dict[str, bytes] = {}
        for oid in oids:
            head, _, rest = rest.partition(b"\n")
            size = int(head.split()[2])
            found[oid], rest = rest[:size], rest[size + 1 :]
        return found

    def _try(self, *arguments: str) -> bytes | None:
        done = self._run(arguments, b"")
        return done.stdout.strip() if done.returncode == 0 else None

    def _ask(self, *arguments: str, said: bytes = b"") -> bytes:
        done = self._run(arguments, said)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise UsageError(what=f"git {arguments[0]}: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return done.stdout

    def _run(self, arguments: tuple[str, ...], said: bytes) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-C", str(self.root), *arguments]
        # Looking must not take the index's lock from whoever works here.
        env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        try:
            return subprocess.run(command, input=said, capture_output=True, timeout=_SECONDS, check=False, env=env)
        except FileNotFoundError:
            raise UsageError(what="git is missing: a review compares two revisions of a project") from None
        except subprocess.TimeoutExpired:
            raise UsageError(what=f"git {arguments[0]} took longer than {_SECONDS} s") from None


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _zero_ended(output: bytes) -> Iterator[str]:
    return (os.fsdecode(name) for name in output.split(b"\0") if name)
