"""What bad networks and stores do to S3: no version is lost or doubled, and what fails says why in one line."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from b2m.buckets import Bucket, lease, open_bucket, s3_requests
from b2m.buckets.lease import acquire, look
from b2m.buckets.marker import init_bucket
from b2m.buckets.s3 import S3Bucket
from b2m.buckets.s3_requests import NoConditions
from b2m.buckets.s3_store import S3Store
from b2m.errors import BucketError, LeaseLost, ObjectDamaged, ObjectExists, ObjectMissing
from b2m.secrets import resolved
from b2m.versions import log
from b2m.versions.commit import Commit
from tests.buckets.hanging import assert_a_signal_ends, put_until_told
from tests.buckets.s3_backends import set_up
from tests.support import s3_server
from tests.support.commands import wait_for
from tests.support.processes import running, together
from tests.support.proxy import Conditions, Fault, Proxy, Request, proxied
from tests.support.settings import trials
from tests.versions.conftest import make_commit

MB = 1 << 20
Config = Mapping[str, Any]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxied(s3_server.server().host, s3_server.server().port) as found:
        yield found


@pytest.fixture
def config(proxy: Proxy) -> Config:
    return s3_server.server().config(s3_server.server().new_bucket(), "team", endpoint=proxy.endpoint)


@pytest.fixture
def bucket(config: Config) -> Bucket:
    """A bucket that was set up; what follows goes through the proxy."""
    found = open_bucket(config)
    set_up(config)
    return found


@pytest.fixture
def direct(config: Config) -> Bucket:
    """The same bucket, past the proxy."""
    found = open_bucket({**config, "endpoint": s3_server.server().endpoint})
    set_up(config)
    return found


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is tried again be tried at once."""
    monkeypatch.setattr(s3_requests, "_PAUSE", 0.01)
    monkeypatch.setattr(s3_requests, "_SLOW_PAUSE", 0.01)


@pytest.fixture
def twice(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is tried again be tried twice."""
    monkeypatch.setattr(s3_requests, "ATTEMPTS", 2)


def _store(config: Config, **other: Any) -> S3Store:
    given = {key: value for key, value in resolved(config).items() if key != "type"} | other
    return S3Store(**given)


def is_create(request: Request) -> bool:
    return request.is_conditional


ACTS: dict[str, Callable[[Bucket], object]] = {
    "put": lambda bucket: bucket.put("a", b"new"),
    "get": lambda bucket: bucket.get("old"),
    "get_range": lambda bucket: bucket.get_range("old", 1, 2),
    "size": lambda bucket: bucket.size("old"),
    "stream": lambda bucket: b"".join(bucket.stream("old")),
    "list": lambda bucket: bucket.list("below"),
    "create": lambda bucket: bucket.create("c", b"new"),
    "delete": lambda bucket: bucket.delete("gone"),
}
RESULTS = {"put": 3, "get": b"old", "get_range": b"ld", "size": 3, "stream": b"old", "list": ["below/1"]}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("what", [500, 503, 429, "reset"])
@pytest.mark.usefixtures("hurried")
def test_what_passes_is_tried_again(proxy: Proxy, bucket: Bucket, act: str, what: Any) -> None:
    for name in ("old", "gone", "below/1"):
        bucket.put(name, b"old")
    proxy.faults = [Fault(what, times=2)]
    assert ACTS[act](bucket) == RESULTS.get(act)
    assert proxy.done[what] == 2
    after = {"put": ["a"], "create": ["c"]}.get(act, [])
    gone = ["gone"] if act != "delete" else []
    assert bucket.list("") == sorted(["b2m.json", "below/1", "old", *after, *gone])


def test_a_store_that_asks_to_slow_down_is_left_alone_for_a_while(proxy: Proxy, bucket: Bucket) -> None:
    proxy.faults = [Fault(503, times=2)]
    began = time.monotonic()
    bucket.put("a", b"new")
    assert 1.5 <= time.monotonic() - began < 5


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.usefixtures("twice")
def test_what_does_not_pass_is_an_error_and_changes_nothing(proxy: Proxy, bucket: Bucket, act: str) -> None:
    for name in ("old", "gone", "below/1"):
        bucket.put(name, b"old")
    proxy.faults = [Fault(503, times=2)]
    with pytest.raises(BucketError, match=r" answered 503 \(2 times\); that passes; run again later$") as caught:
        ACTS[act](bucket)
    assert type(caught.value) is BucketError
    assert bucket.list("") == ["b2m.json", "below/1", "gone", "old"]


def test_a_store_without_conditional_writes_is_asked_once(proxy: Proxy, config: Config) -> None:
    store = _store(config)
    proxy.conditions = "501"
    with pytest.raises(NoConditions):
        store.create("a", b"x")
    assert proxy.seen == {"PUT": 1}


def test_a_key_without_the_right_is_told_at_once(proxy: Proxy, bucket: Bucket) -> None:
    proxy.seen.clear()
    proxy.faults = [Fault(403, code="AccessDenied")]
    with pytest.raises(BucketError) as caught:
        bucket.put("a", b"x")
    assert str(caught.value).endswith(
        "cannot write a: the key may not do that (403 AccessDenied); "
        "give it the rights of docs/buckets.md, or see: b2m bucket.check"
    )
    assert proxy.seen == {"PUT": 1}


def test_a_commit_whose_acknowledgement_was_lost_is_published_once(proxy: Proxy, bucket: Bucket) -> None:
    first = make_commit()
    proxy.faults = [Fault("lost", to=is_create)]
    log.publish(bucket, first)
    assert proxy.done["lost"] == 1
    second = make_commit(first)
    proxy.faults = [Fault("lost", times=2, to=is_create)]
    log.publish(bucket, second)
    assert log.numbers(bucket, "ipm") == [1, 2]
    assert log.head(bucket, "ipm") == second


@pytest.mark.usefixtures("twice")
def test_a_commit_of_which_nothing_was_ever_heard_is_found_to_be_there(proxy: Proxy, bucket: Bucket) -> None:
    commit = make_commit()
    proxy.faults = [Fault("lost", times=1, to=is_create), Fault("reset", times=1, to=is_create)]
    log.publish(bucket, commit)
    assert proxy.done == {"lost": 1, "reset": 1}
    assert log.head(bucket, "ipm") == commit


@pytest.mark.usefixtures("twice")
def test_a_commit_that_never_got_there_is_an_error(proxy: Proxy, bucket: Bucket) -> None:
    proxy.faults = [Fault("reset", times=2, to=is_create)]
    with pytest.raises(BucketError, match=r"cannot create ipm/commits/00000001\.json: .* the connection was cut"):
        log.publish(bucket, make_commit())
    assert log.numbers(bucket, "ipm") == []


def test_a_lease_whose_acknowledgement_was_lost_is_ours(proxy: Proxy, bucket: Bucket, tmp_path: Path) -> None:
    proxy.faults = [Fault("lost", to=is_create)]
    with acquire(bucket, "ipm", owner="a", host="h", work="w", reason="r", seen=tmp_path / "seen") as ours:
        assert proxy.done["lost"] == 1
        assert ours.epoch == 1
        ours.ensure()
    assert look(bucket, "ipm") is None


def test_a_stale_listing_neither_hides_nor_doubles_a_version(proxy: Proxy, bucket: Bucket, direct: Bucket) -> None:
    first = make_commit()
    log.publish(bucket, first)
    proxy.freeze_listings()
    assert log.numbers(bucket, "ipm") == [1]
    theirs = make_commit(first, author="bob")
    log.publish(direct, theirs)
    assert log.numbers(bucket, "ipm") == [1]
    with pytest.raises(LeaseLost, match="v2 was published by bob meanwhile"):
        log.publish(bucket, make_commit(first))
    proxy.thaw_listings()
    assert log.numbers(bucket, "ipm") == [1, 2]
    assert log.head(bucket, "ipm") == theirs


def test_a_stale_listing_gives_nobody_a_lease_twice(
    proxy: Proxy, bucket: Bucket, direct: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_MOST_RACES", 5)
    proxy.freeze_listings()
    assert look(bucket, "ipm") is None
    with acquire(direct, "ipm", owner="b", host="h", work="theirs", reason="r", seen=tmp_path / "b"):
        with pytest.raises(BucketError, match="the store contradicts itself; run again later"):
            acquire(bucket, "ipm", owner="a", host="h", work="ours", reason="r", seen=tmp_path / "a")
        assert proxy.seen["stale"] > 0
        seen = look(direct, "ipm")
        assert seen is not None
        assert (seen.owner, seen.epoch) == ("b", 1)


@pytest.fixture(params=["501", "ignored"])
def by_flags(request: pytest.FixtureRequest, proxy: Proxy, config: Config) -> Bucket:
    """A bucket whose store cannot create atomically."""
    proxy.conditions = request.param
    found = open_bucket(config)
    init_bucket(found)
    return found


def test_by_flags_too_a_lost_acknowledgement_publishes_once(proxy: Proxy, by_flags: Bucket) -> None:
    first = make_commit()
    proxy.faults = [
        Fault("lost", to=lambda request: request.method == "PUT" and request.name.endswith(".flag")),
        Fault("lost", to=lambda request: request.method == "PUT" and "/00000001-f" in request.name),
    ]
    log.publish(by_flags, first)
    assert proxy.done["lost"] == 2
    assert log.history(by_flags, "ipm") == [first]


def test_by_flags_too_a_stale_listing_doubles_no_version(proxy: Proxy, by_flags: Bucket, config: Config) -> None:
    first = make_commit()
    log.publish(by_flags, first)
    proxy.freeze_listings()
    assert log.numbers(by_flags, "ipm") == [1]
    assert by_flags.list("ipm/commits") == ["ipm/commits/00000001.json"]
    second = make_commit(first)
    with pytest.raises(BucketError, match=r"its listing does not show .* nothing can be created safely, try later"):
        log.publish(by_flags, second)
    proxy.thaw_listings()
    # Whether it got there is for the next run to see, by its token; it is there at most once.
    now = open_bucket(config)
    assert log.history(now, "ipm") in ([first], [second, first])
    log.publish(now, second)
    assert log.history(now, "ipm") == [second, first]


def test_openers_of_one_bucket_agree_how_to_create(proxy: Proxy, config: Config) -> None:
    """The store may learn better later: who comes then must still see, and be seen by, those who came before."""
    proxy.conditions = "501"
    before = open_bucket(config)
    init_bucket(before)
    first = make_commit()
    log.publish(before, first)
    proxy.conditions = "kept"
    after = open_bucket(config)
    init_bucket(after)
    assert log.head(after, "ipm") == first
    second = make_commit(first)
    log.publish(after, second)
    with pytest.raises(LeaseLost):
        log.publish(before, make_commit(first))
    assert log.history(before, "ipm") == [second, first]


def test_a_listing_of_many_pages_is_whole_and_the_names_of_one_number_cost_one_request(
    proxy: Proxy, bucket: Bucket, config: Config
) -> None:
    names = [f"ipm/commits/{number:08d}.json" for number in range(1, 1102)]
    straight = {**config, "endpoint": s3_server.server().endpoint}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: open_bucket(straight).put(name, b"x"), names))
    proxy.seen.clear()
    assert bucket.list("ipm/commits") == names
    assert proxy.seen == {"GET": 2}
    proxy.seen.clear()
    assert _store(config).list_beginning("ipm/commits/00000007") == ["ipm/commits/00000007.json"]
    assert proxy.seen == {"GET": 1}


def _object(bucket: Bucket, megabytes: int) -> bytes:
    content = bytes(range(256)) * 4096 * megabytes
    assert bucket.put("large", content) == megabytes * MB
    return content


def test_a_download_that_is_cut_goes_on_from_there(proxy: Proxy, bucket: Bucket) -> None:
    content = _object(bucket, 12)
    ranges: list[str | None] = []

    def remember(request: Request) -> bool:
        ranges.append(request.headers.get("range"))
        return False

    proxy.faults = [Fault("reset", to=remember), Fault("cut", times=2)]
    assert b"".join(bucket.stream("large")) == content
    assert proxy.done == {"cut": 2}
    assert ranges[0] is None
    starts = [int(str(found).removeprefix("bytes=").rstrip("-")) for found in ranges[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(content)


def test_a_download_of_an_object_that_is_replaced_meanwhile_is_no_mixture(proxy: Proxy, bucket: Bucket) -> None:
    _object(bucket, 12)
    proxy.faults = [Fault("cut", to=lambda request: request.method == "GET")]
    pieces = bucket.stream("large")
    next(pieces)
    bucket.put("large", b"y" * 12 * MB)
    with pytest.raises(BucketError, match="cannot read large: it was replaced meanwhile; run again"):
        list(pieces)


def test_a_small_object_that_is_cut_is_read_again(proxy: Proxy, bucket: Bucket) -> None:
    bucket.put("a", b"0123456789")
    proxy.faults = [Fault("cut", times=2)]
    assert bucket.get("a") == b"0123456789"
    assert proxy.done["cut"] == 2


def test_a_body_that_a_middlebox_cut_short_is_noticed(proxy: Proxy, bucket: Bucket) -> None:
    commit = make_commit()
    log.publish(bucket, commit)
    proxy.faults = [Fault("truncated", to=lambda request: "commits/0" in request.name)]
    with pytest.raises(ObjectDamaged):
        log.head(bucket, "ipm")
    assert log.head(bucket, "ipm") == commit


def test_an_upload_in_parts_survives_what_passes(proxy: Proxy, bucket: Bucket) -> None:
    content = bytes(range(256)) * 4096 * 23
    part = [Fault(503, times=2, to=lambda request: "partNumber" in request.path)]
    proxy.faults = [*part, Fault("reset", to=lambda request: "partNumber=2" in request.path)]
    assert bucket.put("large", (content[at : at + MB] for at in range(0, len(content), MB))) == len(content)
    assert proxy.done == {503: 2, "reset": 1}
    assert b"".join(bucket.stream("large")) == content


def test_an_upload_whose_last_answer_was_lost_is_there(proxy: Proxy, bucket: Bucket) -> None:
    proxy.faults = [Fault("lost", to=lambda request: request.method == "POST" and "uploadId" in request.path)]
    content = _object(bucket, 12)
    assert proxy.done["lost"] == 1
    assert bucket.get("large") == content


def test_an_upload_that_is_refused_leaves_the_object_as_it_was(proxy: Proxy, bucket: Bucket) -> None:
    bucket.put("large", b"old")
    proxy.faults = [Fault(403, times=99, code="AccessDenied", to=lambda request: "partNumber=3" in request.path)]
    with pytest.raises(BucketError, match=r"cannot write large: the key may not do that \(403 AccessDenied\)"):
        bucket.put("large", (b"x" * MB for _ in range(23)))
    assert bucket.get("large") == b"old"


@pytest.mark.parametrize("after", [1, 30])
def test_an_upload_is_ended_by_whatever_its_source_raises(bucket: Bucket, after: int) -> None:
    class Stop(BaseException):
        pass

    def source() -> Iterator[bytes]:
        for _ in range(after):
            yield b"x" * MB
        raise Stop

    bucket.put("large", b"old")
    with pytest.raises(Stop):
        bucket.put("large", source())
    assert bucket.get("large") == b"old"


@pytest.mark.parametrize("megabytes", [1, 40])
@pytest.mark.usefixtures("bucket")
def test_a_signal_ends_an_upload_that_hangs(proxy: Proxy, config: Config, megabytes: int) -> None:
    proxy.faults = [Fault("hang", times=99, to=lambda request: request.method == "PUT")]
    with running(put_until_told, config, megabytes) as (process, connection):
        wait_for(lambda: proxy.done["hang"] >= min(megabytes, 4), "so many requests hung")
        assert_a_signal_ends(process, connection, within=5)
    assert open_bucket(config).list("") == ["b2m.json"]


@pytest.mark.usefixtures("twice")
def test_a_store_that_never_answers_is_given_up(proxy: Proxy, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "ANSWER", 0.5)
    bucket = open_bucket(config)
    proxy.faults = [Fault("hang", times=999)]
    for act in ACTS.values():
        began = time.monotonic()
        with pytest.raises(BucketError, match=f"{proxy.endpoint} did not answer within 0.5 s.*; check the network"):
            act(bucket)
        assert time.monotonic() - began < 4


@pytest.mark.usefixtures("twice")
def test_a_store_that_is_not_there_is_told_by_its_address(config: Config) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(BucketError) as caught:
            open_bucket({**config, "endpoint": endpoint}).get("a")
    assert str(caught.value) == (
        f"bucket {config['url']}: cannot read a: {endpoint} cannot be reached (connection refused) (2 times); "
        "is the store running, and endpoint right in inventory.yaml?"
    )


def test_a_bucket_that_is_not_there_is_told_by_its_name(config: Config) -> None:
    bucket = open_bucket({**config, "url": "s3://no-such-bucket"})
    for act in ACTS.values():
        with pytest.raises(BucketError, match=r"there is no bucket no-such-bucket at http://127\.0") as caught:
            act(bucket)
        assert not isinstance(caught.value, ObjectMissing)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"key_id": "SomebodyElse"}, "does not know the key (403 InvalidAccessKeyId)"),
        ({"key": "a-wrong-secret-key"}, "the key does not fit its id (403 SignatureDoesNotMatch)"),
        ({"endpoint": "https://127.0.0.1:PORT"}, "failed, it does not speak TLS; is it http:// instead?"),
    ],
)
@pytest.mark.usefixtures("twice")
def test_a_wrong_entry_is_told_without_its_secrets(proxy: Proxy, config: Config, wrong: Config, text: str) -> None:
    given = {key: str(value).replace("PORT", str(proxy.port)) for key, value in wrong.items()}
    options = {key: value for key, value in {**resolved(config), **given}.items() if key != "type"}
    with pytest.raises(BucketError) as caught:
        S3Bucket(**options).list("")
    assert text in str(caught.value)
    for secret in (options["key"], options["key_id"]):
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.__cause__) + repr(caught.value.__context__)


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (
            403,
            "RequestTimeTooSkewed",
            "the clocks of this machine and of .* differ too much",
        ),
        (301, "", "bucket b2m-[0-9a-f]* is not in region us-east-1; set region"),
        (400, "AuthorizationHeaderMalformed", "is in eu-west-1, not in us-east-1; set region"),
    ],
)
def test_what_the_store_says_is_put_in_words(proxy: Proxy, config: Config, status: int, code: str, text: str) -> None:
    proxy.faults = [Fault(status, times=9, code=code, message="the region is wrong; expecting 'eu-west-1'")]
    with pytest.raises(BucketError, match=text):
        open_bucket(config).list("")


def _certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority and a certificate that it signed; return the authority's file, the certificate's, the key's."""
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for line in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=store -keyout key.pem -out request",
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out store.pem",
    ):
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem", folder / "store.pem", folder / "key.pem"


@pytest.mark.usefixtures("twice")
def test_a_store_with_an_authority_of_its_own_needs_its_certificate(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with proxied(s3_server.server().host, s3_server.server().port, tls=context) as secure:
        secured = {**config, "endpoint": secure.endpoint}
        with pytest.raises(BucketError, match=r"signed by nobody .* trusts; let SSL_CERT_FILE name a file"):
            open_bucket(secured).list("")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert open_bucket(secured).list("") == []


def test_the_environment_s_own_keys_stay_there(proxy: Proxy, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []

    def remember(request: Request) -> bool:
        sent.append(request.headers)
        return False

    monkeypatch.setenv("AWS_SESSION_TOKEN", "somebody's")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_S3_EXPRESS", "true")
    proxy.faults = [Fault("reset", times=1, to=remember)]
    bucket = open_bucket(config)
    bucket.put("a", b"x")
    assert bucket.get("a") == b"x"
    assert len(sent) == 2
    assert not any("somebody's" in value for headers in sent for value in headers.values())


@pytest.mark.parametrize("now", ["501", "ignored", "racy"])
def test_a_bucket_that_moved_to_a_lesser_store_is_told_and_mended(
    proxy: Proxy, config: Config, bucket: Bucket, now: Any
) -> None:
    first = make_commit()
    log.publish(bucket, first)
    proxy.conditions = now
    if now == "501":
        with pytest.raises(BucketError, match=r"if it was moved here, end all runs and then: b2m bucket\.init"):
            log.publish(open_bucket(config), make_commit(first))
    marker = init_bucket(open_bucket(config))
    ours, theirs = open_bucket(config), open_bucket(config)
    assert init_bucket(ours) == marker
    second = make_commit(first)
    log.publish(ours, second)
    with pytest.raises(LeaseLost):
        log.publish(theirs, make_commit(first))
    assert log.history(theirs, "ipm") == [second, first]


def _publish_all(index: int, barrier: Barrier, config: Config, rounds: int) -> list[tuple[int, str]]:
    """Race for each number; say how that ended: "won", "lost", "unknown" on a line that was too bad, or what else."""
    bucket = open_bucket(config)
    ends = []
    head: Commit | None = None
    while head is None or head.number < rounds:
        commit = make_commit(head, author=f"racer {index}")
        barrier.wait(120)
        try:
            log.publish(bucket, commit)
            ends.append((commit.number, "won"))
        except LeaseLost:
            ends.append((commit.number, "lost"))
        except BucketError as error:
            ends.append((commit.number, "unknown" if "run again" in str(error) else str(error)))
        barrier.wait(120)
        head = _head_at_last(bucket)
    return ends


def _head_at_last(bucket: Bucket) -> Commit | None:
    while True:
        with suppress(BucketError):
            return log.head(bucket, "ipm")


@pytest.mark.parametrize("conditions", ["kept", "501", "racy"])
def test_four_processes_on_a_bad_line_publish_each_version_once(
    proxy: Proxy, config: Config, conditions: Conditions
) -> None:
    proxy.conditions = conditions
    init_bucket(open_bucket(config))
    rounds = trials(ci=4, full=100)
    count = 0

    def counted(request: Request) -> bool:
        nonlocal count
        count += 1
        return False

    proxy.faults.append(Fault(500, to=counted))
    whats: list[Any] = ["lost", "reset", "cut", 500]
    for kind, what in enumerate(whats):

        def every_seventh(request: Request, kind: int = kind) -> bool:
            return count % 7 == 0 and count // 7 % len(whats) == kind

        proxy.faults.append(Fault(what, times=sys.maxsize, to=every_seventh))
    ends = together(_publish_all, 4, config, rounds)
    assert all(proxy.done[what] for what in whats)
    assert proxy.done.total() > rounds
    proxy.faults = []
    found = open_bucket(config)
    assert log.numbers(found, "ipm") == list(range(1, rounds + 1))
    published = log.history(found, "ipm")
    assert len(published) == rounds
    authors = {commit.number: commit.author for commit in published}
    for index, each in enumerate(ends):
        for number, end in each:
            assert end == "unknown" or (end == "won") == (authors[number] == f"racer {index}"), (index, number, end)
    assert sum(end == "unknown" for each in ends for _, end in each) <= rounds // 10


def test_a_refused_create_says_so_even_after_a_conflict(proxy: Proxy, bucket: Bucket) -> None:
    """409 says that somebody else is writing, and nothing about the object."""
    proxy.faults = [Fault(409, code="ConditionalRequestConflict", to=is_create)]
    bucket.create("a", b"first")
    proxy.faults = [Fault(409, code="ConditionalRequestConflict", to=is_create)]
    with pytest.raises(ObjectExists):
        bucket.create("a", b"second")
    assert bucket.get("a") == b"first"
