"""Inserts entries through a server, one after the other, and notes each one that was acknowledged.

Usage: writer.py SERVER_JSON SHADOW PAUSE. The port is read again after every failure, since a server that was started
anew has another. An entry whose answer never came is sent again under the same slug, so it is never two entries.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path


def main(server: str, shadow: str, pause: float) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    connection: http.client.HTTPConnection | None = None
    count = 0
    with Path(shadow).open("a", encoding="utf-8", buffering=1) as out:
        while not stopped:
            slug = f"w-{os.getpid()}-{count}"
            try:
                if connection is None:
                    port = json.loads(Path(server).read_bytes())["port"]
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                body = json.dumps({"slug": slug, "name": f"{slug} 'quoted' ? 🙂\n"})
                connection.request("POST", "/ipm", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.02)
                continue
            if answer.status in (200, 201, 202):
                out.write(slug + "\n")
                count += 1
            time.sleep(pause)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
