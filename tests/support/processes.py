"""Real processes for tests: started fresh, with the tests' modules importable."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from tests.support.forks import CONTEXT, become


def together(function: Callable[..., Any], count: int, *arguments: object) -> list[Any]:
    """Run ``function(index, barrier, *arguments)`` in ``count`` processes; return their results by index."""
    barrier = CONTEXT.Barrier(count)
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(count)]
    processes = [
        CONTEXT.Process(target=_send, args=(pipes[index][1], _here(), function, index, barrier, *arguments))
        for index in range(count)
    ]
    try:
        for process in processes:
            process.start()
        for _, sender in pipes:
            sender.close()
        answers = [receiver.recv() for receiver, _ in pipes]
    finally:
        for process in processes:
            if process.pid is not None:
                process.join(timeout=0 if barrier.broken else 10)
                process.kill()
                process.join()
    failed = [result for fine, result in answers if not fine]
    # One that fails breaks the barrier of the others: what they then say is no cause.
    causes = [result for result in failed if not result.startswith("BrokenBarrierError")]
    assert not failed, f"a process failed: {'; '.join(causes or failed)}"
    return [result for _, result in answers]


def alone(function: Callable[..., Any], *arguments: object) -> Any:
    """Run ``function(*arguments)`` in a process of its own and return its result."""
    return together(_without_race, 1, function, arguments)[0]


@contextmanager
def running(function: Callable[..., Any], *arguments: object) -> Iterator[tuple[BaseProcess, Any]]:
    """Run ``function(connection, *arguments)`` in a process while the block lasts; yield it and our end of the pipe."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_run, args=(_here(), function, theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()


def peak_memory() -> int:
    """Return this process's largest resident size so far, in bytes (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _without_race(index: int, barrier: Barrier, function: Callable[..., Any], arguments: Sequence[object]) -> Any:
    return function(*arguments)


def _here() -> tuple[dict[str, str], str]:
    return dict(os.environ), str(Path.cwd())


def _run(here: tuple[dict[str, str], str], function: Callable[..., Any], *arguments: object) -> None:
    become(*here)
    function(*arguments)


def _send(
    sender: Any,
    here: tuple[dict[str, str], str],
    function: Callable[..., Any],
    index: int,
    barrier: Barrier,
    *arguments: object,
) -> None:
    become(*here)
    try:
        sender.send((True, function(index, barrier, *arguments)))
    except BaseException as error:
        barrier.abort()
        sender.send((False, f"{type(error).__name__}: {error}"))
