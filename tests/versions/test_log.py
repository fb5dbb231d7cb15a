"""Versions come into being one after another, and their history can be proved."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier
from typing import Any

import pytest

from b2m.buckets import Bucket, open_bucket
from b2m.errors import BucketError, LeaseLost, ObjectDamaged, ObjectExists, ObjectMissing, UnknownFormat
from b2m.versions import log
from b2m.versions.commit import Commit
from tests.buckets.backends import LosesAnswers
from tests.support.processes import together
from tests.support.settings import trials
from tests.versions.conftest import make_commit


def _publish(bucket: Bucket, count: int, **fields: Any) -> list[Commit]:
    """Publish ``count`` versions and return them, oldest first."""
    commits: list[Commit] = []
    for _ in range(count):
        commits.append(make_commit(commits[-1] if commits else None, **({} if commits else fields)))
        log.publish(bucket, commits[-1])
    return commits


def test_an_empty_bucket_has_no_head(bucket: Bucket) -> None:
    assert log.head(bucket, "ipm") is None
    assert log.numbers(bucket, "ipm") == []
    assert log.history(bucket, "ipm") == []


def test_the_head_is_the_newest_version(bucket: Bucket) -> None:
    commits = _publish(bucket, 3, number=9)
    assert log.head(bucket, "ipm") == commits[-1]
    assert log.numbers(bucket, "ipm") == [9, 10, 11]
    assert log.read(bucket, "ipm", 10) == commits[1]
    assert log.head(bucket, "emoji") is None


def test_history_is_newest_first_and_as_long_as_asked(bucket: Bucket) -> None:
    commits = _publish(bucket, 4)
    assert log.history(bucket, "ipm") == commits[::-1]
    assert log.history(bucket, "ipm", 2) == commits[:1:-1]


def test_a_version_that_is_not_there_is_missing(bucket: Bucket) -> None:
    with pytest.raises(ObjectMissing, match=r"there is no object ipm/commits/00000004\.json"):
        log.read(bucket, "ipm", 4)


def test_publishing_the_same_commit_again_is_fine(bucket: Bucket) -> None:
    first, second = _publish(bucket, 2)
    log.publish(bucket, second)
    log.publish(bucket, first)
    assert log.numbers(bucket, "ipm") == [1, 2]


def test_a_number_that_somebody_else_took_is_not_overwritten(bucket: Bucket) -> None:
    first = _publish(bucket, 1)[0]
    theirs = make_commit(first, author="bob")
    log.publish(bucket, theirs)
    with pytest.raises(LeaseLost, match=r"was lost \(v2 was published by bob meanwhile\); nothing was published"):
        log.publish(bucket, make_commit(first))
    assert log.head(bucket, "ipm") == theirs


def test_a_number_that_is_taken_between_the_look_and_the_create_is_not_overwritten(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _publish(bucket, 1)[0]
    theirs = make_commit(first, author="bob")
    monkeypatch.setattr(log, "numbers", lambda bucket, db: [1])
    log.publish(bucket, theirs)
    with pytest.raises(LeaseLost, match="v2 was published by bob meanwhile"):
        log.publish(bucket, make_commit(first))


@pytest.mark.parametrize("number", [1, 2, 4, 9])
def test_only_the_head_may_be_followed(bucket: Bucket, number: int) -> None:
    _publish(bucket, 3)
    with pytest.raises(LeaseLost):
        log.publish(bucket, make_commit(number=number + 1, parent=number, parent_token="0" * 32))
    with pytest.raises(LeaseLost):
        log.publish(bucket, make_commit(number=number + 5))
    assert log.numbers(bucket, "ipm") == [1, 2, 3]


def test_a_head_of_the_right_number_but_another_content_may_not_be_followed(bucket: Bucket) -> None:
    _publish(bucket, 3)
    with pytest.raises(LeaseLost, match="v3 is another than the one that v4 was made from"):
        log.publish(bucket, make_commit(number=4, parent=3, parent_token="0" * 32))


def test_a_lost_answer_is_settled_by_the_token(bucket: Bucket) -> None:
    parent = None
    for answer in (BucketError, ObjectExists):
        flaky: Any = LosesAnswers(bucket, answer)
        commit = make_commit(parent)
        log.publish(flaky, commit)
        assert log.head(bucket, "ipm") == commit
        parent = commit


def test_an_unclear_answer_with_another_s_commit_there_is_a_lost_race(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = bucket.create

    def theirs_was_first(name: str, data: bytes) -> None:
        create(name, make_commit(author="bob").to_bytes())
        raise BucketError(bucket="b", what="timed out")

    monkeypatch.setattr(bucket, "create", theirs_was_first)
    with pytest.raises(LeaseLost, match="v1 was published by bob meanwhile"):
        log.publish(bucket, make_commit())


def test_a_create_that_failed_is_an_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, data: bytes) -> None:
        raise BucketError(bucket="b", what="timed out")

    monkeypatch.setattr(bucket, "create", fails)
    with pytest.raises(BucketError, match="timed out"):
        log.publish(bucket, make_commit())


def _publish_next(index: int, barrier: Barrier, config: dict[str, str], rounds: int) -> list[bool]:
    bucket = open_bucket(config)
    won = []
    for _ in range(rounds):
        head = log.head(bucket, "ipm")
        barrier.wait(60)
        try:
            log.publish(bucket, make_commit(head, author=f"racer {index}"))
            won.append(True)
        except LeaseLost:
            won.append(False)
        barrier.wait(60)
    return won


def test_of_eight_processes_without_a_lease_one_publishes_each_version(bucket: Bucket, config: dict[str, str]) -> None:
    rounds = trials(ci=15, full=50)
    wins = together(_publish_next, 8, config, rounds)
    assert [sum(racer[number] for racer in wins) for number in range(rounds)] == [1] * rounds
    history = log.history(bucket, "ipm")
    assert [commit.number for commit in history] == list(range(rounds, 0, -1))
    assert log.is_ancestor(bucket, "ipm", 1, history[-1].token, history[0]) == "ok"


def test_ancestors_are_told_from_strangers(bucket: Bucket) -> None:
    commits = _publish(bucket, 4, number=3)
    head = commits[-1]
    for commit in commits:
        assert log.is_ancestor(bucket, "ipm", commit.number, commit.token, head) == "ok"
        assert log.is_ancestor(bucket, "ipm", commit.number, "0" * 32, head) == "changed"
    assert log.is_ancestor(bucket, "ipm", 2, "0" * 32, head) == "diverged"
    assert log.is_ancestor(bucket, "ipm", 7, "0" * 32, head) == "diverged"


def test_a_version_that_was_replaced_on_the_way_is_noticed(bucket: Bucket) -> None:
    commits = _publish(bucket, 4)
    bucket.put(commits[1].name(), make_commit(commits[0], message="forged").to_bytes())
    assert log.is_ancestor(bucket, "ipm", 1, commits[0].token, commits[3]) == "changed"
    assert log.is_ancestor(bucket, "ipm", 3, commits[2].token, commits[3]) == "ok"


def test_a_damaged_commit_is_an_error_wherever_it_is_read(bucket: Bucket) -> None:
    commits = _publish(bucket, 3)
    bucket.put(commits[1].name(), commits[1].to_bytes().replace(b'"size": 8192', b'"size": 8193'))
    with pytest.raises(ObjectDamaged):
        log.is_ancestor(bucket, "ipm", 1, commits[0].token, commits[2])
    with pytest.raises(ObjectDamaged):
        log.history(bucket, "ipm")
    assert log.head(bucket, "ipm") == commits[2]


def test_other_objects_beside_commits_are_no_versions(bucket: Bucket) -> None:
    _publish(bucket, 2)
    bucket.put("ipm/commits/README", b"")
    bucket.put("ipm/commits/00000009-0123.json", b"")
    assert log.numbers(bucket, "ipm") == [1, 2]


# -- which number the first version has ----------------------------------------------------------------------------

FIRST = "ipm/commits/00000000.json"


def test_who_asks_first_decides_for_all_which_number_the_first_version_has(bucket: Bucket) -> None:
    assert log.first_number(bucket, "ipm", 5) == 5
    assert log.first_number(bucket, "ipm", 1) == 5
    assert log.first_number(bucket, "ipm", 5) == 5
    assert log.first_number(bucket, "emoji", 1) == 1, "each database has its own"


def test_what_decides_the_first_number_is_no_version(bucket: Bucket) -> None:
    assert log.first_number(bucket, "ipm", 5) == 5
    assert bucket.list("ipm/commits") == [FIRST]
    assert (log.numbers(bucket, "ipm"), log.head(bucket, "ipm"), log.history(bucket, "ipm")) == ([], None, [])
    commits = _publish(bucket, 2, number=5)
    assert log.numbers(bucket, "ipm") == [5, 6]
    assert log.head(bucket, "ipm") == commits[-1]
    assert log.history(bucket, "ipm") == commits[::-1]


def test_a_first_number_whose_answer_was_lost_is_decided(bucket: Bucket) -> None:
    for answer in (BucketError, ObjectExists):
        flaky: Any = LosesAnswers(bucket, answer)
        assert log.first_number(flaky, "ipm", 5) == 5
        bucket.delete(FIRST)


def test_a_first_number_that_could_not_be_written_is_an_error(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, data: bytes) -> None:
        raise BucketError(bucket="b", what="timed out")

    monkeypatch.setattr(bucket, "create", fails)
    with pytest.raises(BucketError, match="timed out"):
        log.first_number(bucket, "ipm", 5)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"5", b"{}", b'{"format": 1}', b'{"first": 0, "format": 1}', b'{"first": "5", "format": 1}'],
)
def test_a_first_number_that_nobody_can_read_is_damaged(bucket: Bucket, content: bytes) -> None:
    bucket.create(FIRST, content)
    with pytest.raises(ObjectDamaged, match=r"ipm/commits/00000000\.json.* it has no number of a first version"):
        log.first_number(bucket, "ipm", 5)


def test_a_first_number_of_a_newer_b2m_is_refused(bucket: Bucket) -> None:
    bucket.create(FIRST, b'{"first": 5, "format": 2}')
    with pytest.raises(UnknownFormat):
        log.first_number(bucket, "ipm", 5)


def _begin(index: int, barrier: Barrier, config: dict[str, str], rounds: int) -> list[int]:
    bucket = open_bucket(config)
    found = []
    for number in range(rounds):
        barrier.wait(60)
        found.append(log.first_number(bucket, f"db{number}", index + 1))
    return found


def test_eight_processes_that_all_begin_agree_on_one_number(config: dict[str, str]) -> None:
    found = together(_begin, 8, config, trials(ci=15, full=50))
    assert all(len(set(numbers)) == 1 for numbers in zip(*found, strict=True))
