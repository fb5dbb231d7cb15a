"""Where a host is reached: read by OpenSSH itself from its configuration; and what known_hosts says about a name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from b2m import errors
from b2m.remote import known_hosts
from b2m.remote.address import Address, Route, resolve

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="these tests need OpenSSH's client")


def route(folder: Path, config: str, destination: str) -> Route:
    (folder / "config").write_text(config)
    return resolve(Address("prod", destination, config=folder / "config"))


@pytest.mark.parametrize(
    ("destination", "parts"),
    [
        ("prod", (None, "prod", None)),
        ("deploy@prod.example.org", ("deploy", "prod.example.org", None)),
        ("deploy@prod.example.org:2222", ("deploy", "prod.example.org", 2222)),
        ("ssh://deploy@10.0.0.7:22", ("deploy", "10.0.0.7", 22)),
        ("deploy@[2001:db8::7]:2222", ("deploy", "2001:db8::7", 2222)),
        ("[fe80::1%eth0]", (None, "fe80::1%eth0", None)),
        ("a.b-c+d@under_score", ("a.b-c+d", "under_score", None)),
    ],
)
def test_the_parts_of_a_destination(destination: str, parts: tuple[str | None, str, int | None]) -> None:
    assert Address("prod", destination).parts == parts


def test_what_openssh_would_do_is_done(tmp_path: Path) -> None:
    (tmp_path / "included").write_text("Host prod\n  IdentityFile %d/keys/%r@%h\n  IdentitiesOnly yes\n")
    config = f"""\
Include {tmp_path}/included
Host prod
  HostName db.Example.org
  User deploy
  Port 2222
  UserKnownHostsFile {tmp_path}/one {tmp_path}/two
  GlobalKnownHostsFile /dev/null
"""
    assert route(tmp_path, config, "prod") == Route(
        machine="db.example.org",
        port=2222,
        user="deploy",
        identities=(Path.home() / "keys" / "deploy@db.example.org",),
        only_identities=True,
        known_hosts=(tmp_path / "one", tmp_path / "two", Path("/dev/null")),
        known_as="[db.example.org]:2222",
        proxy=None,
    )


def test_what_the_inventory_names_comes_before_the_configuration(tmp_path: Path) -> None:
    found = route(tmp_path, "Host prod\n  User other\n  Port 1\n", "deploy@prod:22")
    assert (found.user, found.port, found.known_as) == ("deploy", 22, "prod")


def test_a_host_key_alias_names_the_host_in_known_hosts(tmp_path: Path) -> None:
    found = route(tmp_path, "Host prod\n  HostKeyAlias the-database\n  Port 2222\n", "prod")
    assert (found.known_as, found.aliased) == ("the-database", True)


def test_a_file_of_known_hosts_may_have_a_space_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "known hosts").touch()
    config = f'UserKnownHostsFile "{tmp_path}/known hosts"\nGlobalKnownHostsFile /dev/null\n'
    assert route(tmp_path, config, "prod").known_hosts == (tmp_path / "known hosts", Path("/dev/null"))


def test_jump_hosts_and_proxy_commands_become_one_command(tmp_path: Path) -> None:
    config = "Host prod\n  ProxyJump u@first:22,second\nHost other\n  ProxyCommand nc -X 5 %h %p %%\n"
    jump = route(tmp_path, config, "prod").proxy
    assert jump is not None
    assert jump.startswith(f"exec ssh -F {tmp_path}/config -o BatchMode=yes -o StrictHostKeyChecking=yes ")
    assert jump.endswith(" -J u@first:22 -W '[prod]:22' -- ssh://second")
    assert route(tmp_path, config, "other:7").proxy == "exec nc -X 5 other 7 %"
    assert route(tmp_path, config + "Host third\n  ProxyCommand none\n", "third").proxy is None


def test_other_files_can_be_named_in_the_environment(tmp_path: Path) -> None:
    variables = {"B2M_SSH_CONFIG": "/c", "B2M_KNOWN_HOSTS": "/k", "B2M_SSH_IDENTITY": "/i"}
    assert Address.of("prod", "x:22", variables) == Address("prod", "x:22", Path("/c"), Path("/k"), Path("/i"))
    assert Address.of("prod", None, {}) == Address("prod", "prod")


def test_a_machine_without_openssh_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.HostUnreachable) as raised:
        resolve(Address("prod", "prod"))
    assert str(raised.value) == (
        "host prod: the program ssh is missing on this machine; install OpenSSH's client (Debian: openssh-client)"
    )


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIKvQ0p5fM9X2nN0q1m3m9w2H5H4bVwq0h2hXo3h9y8qk"


@pytest.mark.parametrize(
    ("names", "name", "known"),
    [
        ("prod.example.org", "prod.example.org", True),
        ("prod.example.org", "PROD.example.org", True),
        ("prod.example.org", "[prod.example.org]:2222", False),
        ("[prod.example.org]:2222", "[prod.example.org]:2222", True),
        ("[prod.example.org]:*", "[prod.example.org]:2222", True),
        ("a,*.example.org", "prod.example.org", True),
        ("*.example.org,!prod.example.org", "prod.example.org", False),
        ("!prod.example.org,*.example.org", "prod.example.org", False),
        ("!other", "prod.example.org", False),
        ("10.0.0.?", "10.0.0.7", True),
        ("p[ra]od", "prod", False),
        ("|1|broken", "prod", False),
        ("|1|!!!|???", "prod", False),
    ],
)
def test_names_and_patterns_of_known_hosts(tmp_path: Path, names: str, name: str, known: bool) -> None:
    (tmp_path / "known_hosts").write_text(f"{names} ssh-ed25519 {KEY} a comment\n")
    assert bool(known_hosts.read([tmp_path / "missing", tmp_path / "known_hosts"], name)) is known
