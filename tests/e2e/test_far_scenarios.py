"""The same scenarios as they are in production: the server on another host, reached by SSH, and a store as bucket.

Every test of test_scenarios.py, with an S3 server in a container, with that behind proxies that refuse conditions as
B2's S3 endpoint does, or ignore them, and with B2's native API, with and without a bucket for locks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets.b2_backends import B2_BACKENDS
from tests.buckets.backends import Backend
from tests.buckets.s3_backends import S3_BACKENDS
from tests.e2e import test_scenarios
from tests.e2e.conftest import Copy
from tests.support.far import FarWorld
from tests.support.settings import trials
from tests.support.sshd import Prod

STORES = {backend.name: backend for backend in [*S3_BACKENDS, *B2_BACKENDS]}
FIRST = "s3"
MOST = ("test_scenario_2_and_case_2_1", "test_scenario_4", "test_two_members_and_a_busy_server")
"""What CI repeats on the stores after the first; the full count repeats everything."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its stores."""
    whole = trials(0, 1) or metafunc.function.__name__.startswith(MOST)
    names = [name for name in STORES if whole or name == FIRST]
    if metafunc.function.__name__.startswith("test_case_2_2"):
        names = [name for name in names if name != "b2-locks"]  # its numbers only go up: nobody publishes v1 again
    metafunc.parametrize("store", [STORES[name] for name in names], ids=names)


@pytest.fixture
def copied(store: Backend, bootstrapped: Prod, tmp_path: Path) -> Iterator[Copy]:
    """In place of the fixture of conftest.py: a world over SSH with the history ``team``, made anew each time."""
    made: list[FarWorld] = []
    bucket = store.make(tmp_path)

    def make(name: str) -> FarWorld:
        assert name == "team"
        far = FarWorld(tmp_path / f"ops {tmp_path.name}", bootstrapped, bucket)
        made.append(far)
        for db in ("ipm", "emoji"):
            assert far.sync("prod", db).code == 0
        far.member("ann", "ipm", "emoji")
        far.member("ben", "ipm", "emoji")
        return far

    yield make
    for far in made:
        far.server("stop", check=False)


for _name, _test in vars(test_scenarios).items():
    if _name.startswith("test_"):
        globals()[_name] = _test
