"""Whoever inserted an entry can read it at once, also in the moments in which the database is let go or comes back."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.server.example_server import demo_server, path_of


def test_an_entry_can_be_read_as_soon_as_it_was_acknowledged(tmp_path: Path) -> None:
    missed: list[str] = []
    with demo_server(tmp_path) as server:
        server.run("start")
        # Pages that were asked for make letting go take a while: they are rendered for the time without a database.
        for number in range(200):
            server.post(f"before-{number}")
            server.get(path_of(f"before-{number}"))
        stop = threading.Event()

        def insert_and_read(name: str) -> None:
            number = 0
            while not stop.is_set():
                slug = f"{name}-{number}"
                taken = server.post(slug)
                answer = server.get(path_of(slug))
                if taken.status >= 300 or answer.status != 200:
                    missed.append(f"{slug}: inserted {taken.status}, read {answer.status} from {answer.source}")
                number += 1

        clients = [threading.Thread(target=insert_and_read, args=(name,)) for name in ("a", "b")]
        for client in clients:
            client.start()
        try:
            for _ in range(8):
                server.run("--disconnect", "ipm")
                server.run("--connect", "ipm")
        finally:
            stop.set()
            for client in clients:
                client.join()
    assert missed == []
