"""A server's commands and its health: what cannot be run, and what answers nonsense, is a server that is not well."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2m.hosts.service import Service, ServiceError


def service(folder: Path, *, away: str = "true", url: str | None = None, health: str | None = None) -> Service:
    return Service("web", away, "true", "stop", str(folder), url, health, start_timeout=1.0, stop_timeout=5.0)


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """Answer connections with these bytes, in this order, the last for ever; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = list(answers)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(left.pop(0) if len(left) > 1 else left[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/health"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


WELL = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"starting up\r\n", "starting up"),
        (b"", "closed connection without response"),
        (b"\x00\xff\x00\r\n\r\n", ""),
        (b"HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 OK"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", "100 headers"),
        (b"HTTP/1.1 503 Later\r\n\r\n", "answered 503"),
    ],
)
def test_a_server_that_answers_nonsense_is_not_well(tmp_path: Path, answer: bytes, said: str) -> None:
    with answering(answer) as url:
        problem = service(tmp_path, url=url).problem()
    assert problem is not None
    assert problem.startswith(url)
    assert len(problem) > len(f"{url}: "), "something is said"
    assert said in problem


def test_a_server_that_starts_with_nonsense_is_waited_for(tmp_path: Path) -> None:
    with answering(b"starting up\r\n", b"starting up\r\n", WELL) as url:
        service(tmp_path, url=url).wait_healthy(time.monotonic() + 10)


def test_a_server_that_goes_on_with_nonsense_is_given_up(tmp_path: Path) -> None:
    with (
        answering(b"starting up\r\n") as url,
        pytest.raises(ServiceError, match=r"web is not healthy after 1 s: http://.*/health: starting up"),
    ):
        service(tmp_path, url=url).give_back()


def test_a_folder_that_is_not_there_is_told_with_the_command(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(ServiceError) as raised:
        service(gone, away="stop it").take_away()
    assert str(raised.value) == f"`stop it` cannot be run in {gone}: No such file or directory"
    assert service(gone, health="look").problem() == f"`look` cannot be run in {gone}: No such file or directory"


def test_of_what_a_command_says_the_last_lines_are_told(tmp_path: Path) -> None:
    talks = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i + 1)); done; exit 3"
    with pytest.raises(ServiceError) as raised:
        service(tmp_path, away=talks).take_away()
    assert str(raised.value).endswith(" ended with exit code 3: line 4997 / line 4998 / line 4999")


def test_of_a_command_that_is_not_found_it_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as raised:
        service(tmp_path, away="./stop.sh").take_away()
    assert str(raised.value).startswith("`./stop.sh` ended with exit code 127: ")
    assert str(raised.value).endswith(f" (it ran in {tmp_path}, the host's workdir in inventory.yaml)")
