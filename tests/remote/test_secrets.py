"""No secret leaves the memory of the processes that use it: no process list, log, record or other disk has it."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from b2m import api
from b2m.remote.link import wanted_secrets
from tests.buckets.b2_backends import B2_BACKENDS
from tests.buckets.s3_backends import S3_BACKENDS
from tests.support import s3_server
from tests.support.far import FarWorld, yaml_of
from tests.support.sshd import Prod
from tests.support.world import World


@contextmanager
def watched() -> Iterator[set[bytes]]:
    """Collect the command lines and first environments of all processes, again and again."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in Path("/proc").iterdir():
                if not process.name.isdecimal() or int(process.name) == os.getpid():
                    continue
                for name in ("cmdline", "environ"):
                    try:
                        seen.add(name.encode() + (process / name).read_bytes())
                    except OSError:
                        continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def files_below(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def test_a_full_run_leaves_no_secret_anywhere(bootstrapped: Prod, tmp_path: Path) -> None:
    bucket = S3_BACKENDS[0].make(tmp_path)
    key = os.environ[s3_server.KEY].encode()
    webhook = f"https://discord.com/api/webhooks/1/{secrets.token_hex(12)}"
    far = FarWorld(tmp_path / f"ops {tmp_path.name}", bootstrapped, bucket)
    (far.root / "inventory.yaml").open("a").write("messages:\n  ops: $B2M_TEST_WEBHOOK\n")
    far.server("start")
    try:
        with watched() as seen:
            for _ in range(2):
                done = far.b2m("sync", "--db", "ipm", "--host", "prod", "--json", env={"B2M_TEST_WEBHOOK": webhook})
                assert done.code == 0, done
                assert far.post(f"entry-{secrets.token_hex(4)}") == 201
            failed = far.b2m("upload", "--db", "ipm", "--host", "prod", env={s3_server.KEY: "wrong-but-also-secret"})
            assert failed.code == 8, failed  # bucket_lost
    finally:
        far.server("stop", check=False)
    hidden = [key, webhook.rpartition("/")[2].encode(), b"wrong-but-also-secret"]
    said = [done.out.encode(), done.err.encode(), failed.out.encode(), failed.err.encode()]
    # What the tests gave b2m in its environment is there; nothing that b2m starts, here or there, has it in its own.
    given = f"{s3_server.KEY}=".encode()
    for text in [*said, *(line for line in seen if line.startswith(b"cmdline"))]:
        assert not [secret for secret in hidden if secret in text]
    far_user = [line for line in seen if b"HOME=" + str(bootstrapped.home).encode() in line]
    assert far_user, "the agent was seen"
    assert not [line for line in far_user if given in line or any(secret in line for secret in hidden)]
    for path, data in files_below(far.root, bootstrapped.folder):
        assert not [secret for secret in hidden if secret in data], path
    for name in far.bucket.list(""):
        data = far.bucket.get(name)
        assert not [secret for secret in hidden if secret in data], name


def test_what_may_change_locks_is_not_given_to_a_host(tmp_path: Path) -> None:
    entry = B2_BACKENDS[1].make(tmp_path)
    locks = entry["locks"]
    assert isinstance(locks, dict)
    world = World(tmp_path / "project")
    world.change("inventory.yaml", "    type: folder\n    path: bucket\n", yaml_of(entry))
    target = api.named(api.project(str(world.root)), ["ipm"], "prod")[0]
    given = wanted_secrets(target)
    assert sorted(f"${name}" for name in given) == sorted([str(entry["key_id"]), str(entry["key"])])
    assert os.environ[str(locks["key"])[1:]] not in given.values()
