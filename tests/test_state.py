"""The truth table of ``classify``: facts in, a state or a refusal out.

One row a rule, and one a pair of rules whose order matters. A row starts from a host and a bucket in step (v3,
nothing new) and changes what it names.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2m import errors
from b2m.facts import BucketFacts, Facts, HostFacts, LeaseFacts, Live
from b2m.hosts.anchor import Anchor
from b2m.hosts.lock import Holder
from b2m.state import MAX_SKEW, STATES, classify
from b2m.versions.commit import Commit
from tests.support.settings import trials

BUCKET, OTHER = "b" * 32, "c" * 32


def token(number: int) -> str:
    return f"{number:032x}"


def anchor(number: int, bucket: str = BUCKET) -> Anchor:
    return Anchor(number, token(number), "0" * 64, 4096, bucket)


def commit(number: int) -> Commit:
    return Commit(
        db="ipm",
        number=number,
        parent=number - 1 if number > 1 else None,
        parent_token=token(number - 1) if number > 1 else None,
        token=token(number),
        epoch=1,
        blake3="0" * 64,
        size=4096,
        page_size=4096,
        page_count=1,
        schema_hash="s",
        author="ann@laptop",
        host="ann",
        time="2026-02-17T00:00:00+00:00",
        sqlite="3.54.0",
        run="20260217T000000Z-0000",
        b2m="0.1.0",
    )


def lease(*, ours: bool) -> LeaseFacts:
    return LeaseFacts("ann@laptop", "ann", "2026-02-17T00:00:00Z", 5.0, "sync", ours)


def facts(**changed: Any) -> Facts:
    """Return facts of a host in step with its bucket, with some of them changed, by the name of the fact."""
    values: dict[str, Any] = {
        "exists": True, "dirty": False, "anchor": anchor(3), "unfinished": None, "busy": None, "problem": None,
        "bucket_id": BUCKET, "head": commit(3), "ancestry": "ok", "lease": None, "skew": 0.0, "lost": None,
        "direction": "both",
    }  # fmt: skip
    assert changed.keys() <= values.keys()
    values.update(changed)
    rows = {"ipm_data": (2, 1, 0)} if values["dirty"] else {}
    live = Live("/dbs/ipm-db-v3.db", "ipm-db-v3.db", values["exists"], 3, 4096, values["dirty"], rows)
    return Facts(
        db="ipm",
        host="prod",
        direction=values["direction"],
        naming="versioned",
        rename="now",
        on_host=HostFacts(
            live=live,
            anchor=values["anchor"],
            unfinished=values["unfinished"],
            busy=values["busy"],
            problem=values["problem"],
        ),
        in_bucket=BucketFacts(
            bucket_id=values["bucket_id"],
            head=values["head"],
            ancestry=values["ancestry"],
            lease=values["lease"],
            skew=values["skew"],
            problem=values["lost"],
        ),
    )


UNREADABLE = errors.Unreadable(db="ipm", path="/dbs/ipm-db-v3.db", what="permission denied")
DAMAGED = errors.AnchorDamaged(db="ipm", host="prod", path="/dbs/.b2m/ipm/a.db", what="is gone")
BUSY = Holder("20260217T000000Z-0000", 4711, "2026-02-17T00:00:00+00:00")
LOST = "the bucket /mnt/b has no b2m.json: it is not set up, or not mounted"
NEW = {"exists": True, "anchor": None, "head": None, "dirty": True}
FRESH = {"exists": False, "anchor": None}
ANN, OURS = lease(ours=False), lease(ours=True)

Row = tuple[dict[str, Any], str, str | None]

RULES: list[Row] = [
    ({}, "up_to_date", None),
    ({"dirty": True}, "ready_to_upload", None),
    ({"anchor": anchor(2)}, "outdated_db", None),
    ({"anchor": anchor(2), "dirty": True}, "outdated_db", None),
    (NEW, "ready_to_upload", None),
    (FRESH, "outdated_db", None),
    ({"busy": BUSY}, "locked", None),
    ({"lease": ANN, "dirty": True}, "locked", None),
    ({"lease": ANN, "anchor": anchor(2)}, "locked", None),
    ({"lease": ANN, **NEW}, "locked", None),
    ({"lease": ANN, **FRESH}, "locked", None),
    ({"unfinished": "20260217T000000Z-0000"}, "refused", "unfinished"),
    ({"lost": LOST, "head": None, "bucket_id": None}, "refused", "bucket_lost"),
    ({"bucket_id": OTHER}, "refused", "bucket_lost"),
    ({"head": None}, "refused", "bucket_lost"),
    ({"head": commit(2)}, "refused", "bucket_lost"),
    ({"problem": UNREADABLE, "exists": False}, "refused", "unreadable"),
    ({"problem": DAMAGED}, "refused", "anchor_damaged"),
    ({"exists": False}, "refused", "live_missing"),
    ({"exists": False, "anchor": None, "head": None}, "refused", "nothing_here"),
    ({"anchor": None, "dirty": True}, "refused", "no_base"),
    ({"ancestry": "changed"}, "refused", "changed_under_number"),
    ({"ancestry": "diverged", "anchor": anchor(2)}, "refused", "diverged"),
    ({"skew": MAX_SKEW + 1}, "refused", "clock_skew"),
    ({"direction": "bucket_to_host", "dirty": True}, "refused", "read_only_host"),
    ({"direction": "bucket_to_host", **NEW, "dirty": False}, "refused", "nothing_here"),
]

ORDER: list[Row] = [
    # A run that is under way may be half done: nothing else that was seen counts.
    ({"busy": BUSY, "unfinished": "r"}, "locked", None),
    ({"busy": BUSY, "lost": LOST}, "locked", None),
    # An unfinished journal first: what else is seen may be half of something.
    ({"unfinished": "r", "lost": LOST}, "refused", "unfinished"),
    ({"unfinished": "r", "exists": False}, "refused", "unfinished"),
    # A bucket that is not there explains everything that seems to be missing from it.
    ({"lost": LOST, "head": None, "problem": UNREADABLE}, "refused", "bucket_lost"),
    ({"lost": LOST, "head": None, "exists": False}, "refused", "bucket_lost"),
    ({"lost": LOST, "head": None, "dirty": True}, "refused", "bucket_lost"),
    ({"lost": LOST, **NEW}, "refused", "bucket_lost"),
    ({"bucket_id": OTHER, "head": commit(9), "ancestry": "diverged"}, "refused", "bucket_lost"),
    ({"head": commit(2), "dirty": True}, "refused", "bucket_lost"),
    # A file that cannot be read is neither gone nor without a base.
    ({"problem": UNREADABLE, "exists": False, "anchor": None}, "refused", "unreadable"),
    ({"problem": DAMAGED, "ancestry": "changed"}, "refused", "anchor_damaged"),
    # A live file that is gone must not be replaced by a download, whatever the bucket has.
    ({"exists": False, "anchor": anchor(2)}, "refused", "live_missing"),
    ({"exists": False, "ancestry": "diverged"}, "refused", "live_missing"),
    # History before clocks, clocks before work.
    ({"ancestry": "changed", "skew": 999.0}, "refused", "changed_under_number"),
    ({"ancestry": "diverged", "dirty": True, "anchor": anchor(2)}, "refused", "diverged"),
    ({"skew": 999.0, "dirty": True, "lease": ANN}, "refused", "clock_skew"),
    ({"skew": MAX_SKEW}, "up_to_date", None),
    # A host that only receives refuses before it waits for anybody.
    ({"direction": "bucket_to_host", "dirty": True, "lease": ANN}, "refused", "read_only_host"),
    ({"direction": "bucket_to_host", "dirty": True, "anchor": anchor(2)}, "refused", "read_only_host"),
    ({"direction": "bucket_to_host", "anchor": anchor(2)}, "outdated_db", None),
    ({"direction": "bucket_to_host", **FRESH}, "outdated_db", None),
    ({"direction": "bucket_to_host"}, "up_to_date", None),
    # Somebody else's lease matters only where there is work; our own dead predecessor's never does.
    ({"lease": ANN}, "up_to_date", None),
    ({"lease": OURS, "dirty": True}, "ready_to_upload", None),
    ({"lease": OURS, "anchor": anchor(2)}, "outdated_db", None),
]


@pytest.mark.parametrize(("changed", "state", "reason"), RULES + ORDER)
def test_facts_give_this_state(changed: dict[str, Any], state: str, reason: str | None) -> None:
    verdict = classify(facts(**changed))
    assert (verdict.state, verdict.reason) == (state, reason)


def test_every_state_and_every_rule_of_the_table_is_in_the_truth_table() -> None:
    from b2m.state import TABLE

    given_facts = [facts(**changed) for changed, _, _ in RULES]
    first = {next(index for index, (fits, _) in enumerate(TABLE) if fits(each)) for each in given_facts}
    assert first == set(range(len(TABLE)))
    assert {state for _, state, _ in RULES} == {*STATES, "refused"}


versions = st.none() | st.integers(1, 5)
any_facts = st.fixed_dictionaries(
    {
        "exists": st.booleans(),
        "dirty": st.booleans(),
        "anchor": st.builds(lambda n, b: anchor(n, b) if n else None, versions, st.sampled_from([BUCKET, OTHER])),
        "unfinished": st.sampled_from([None, None, "20260217T000000Z-0000"]),
        "busy": st.sampled_from([None, None, BUSY]),
        "problem": st.sampled_from([None, None, UNREADABLE, DAMAGED]),
        "bucket_id": st.sampled_from([BUCKET, BUCKET, OTHER, None]),
        "head": st.builds(lambda n: commit(n) if n else None, versions),
        "ancestry": st.sampled_from(["ok", "ok", "diverged", "changed"]),
        "lease": st.sampled_from([None, ANN, OURS]),
        "skew": st.just(0.0) | st.floats(-1e9, 1e9),
        "lost": st.sampled_from([None, None, LOST]),
        "direction": st.sampled_from(["both", "bucket_to_host"]),
    }
)


@settings(max_examples=trials(500, 20_000), deadline=None)
@given(any_facts)
def test_classify_is_total_and_pure(changed: dict[str, Any]) -> None:
    seen = facts(**changed)
    before = repr(seen)
    one, two = classify(seen), classify(seen)
    assert repr(seen) == before
    assert (one.state, one.reason, str(one.refusal)) == (two.state, two.reason, str(two.refusal))
    assert one.state in (*STATES, "refused")
    assert (one.state == "refused") == (one.refusal is not None)
    if one.refusal is not None:
        assert one.reason
        assert one.refusal.exit_code == 8
        assert str(one.refusal).startswith("ipm: ")
        assert "\n" not in str(one.refusal)
    else:
        assert one.reason is None


@settings(max_examples=trials(500, 20_000), deadline=None)
@given(any_facts)
def test_work_is_only_found_where_it_cannot_lose_anything(changed: dict[str, Any]) -> None:
    seen = facts(**changed)
    verdict = classify(seen)
    if verdict.state == "ready_to_upload":
        assert seen.live.exists
        known = (seen.anchor.number if seen.anchor else None, seen.head.number if seen.head else None)
        assert known[0] == known[1], "only the head's own successor may be published"
    if verdict.state == "outdated_db" and seen.live.exists:
        assert seen.anchor is not None, "a live file is only replaced if its base is known"
        assert seen.in_bucket.ancestry == "ok"
    if verdict.state != "refused" and seen.on_host.busy is None and seen.anchor is not None:
        assert seen.in_bucket.bucket_id == seen.anchor.bucket_id
        assert cast(Commit, seen.head).number >= seen.anchor.number
