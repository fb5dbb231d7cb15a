"""A connection to another host: who is let in, what is said when it fails, and that no wait is without an end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from b2m import errors
from b2m.remote import ssh as ssh_module
from b2m.remote.address import Address
from b2m.remote.ssh import Ssh
from tests.e2e.test_full_disk import small_disk
from tests.support.sshd import Hole, Prod, free_port, new_key


def refusal(address: Address) -> str:
    """Return the one line with which a connection is refused; its exit code is 5."""
    with pytest.raises(errors.HostUnreachable) as raised, Ssh(address):
        pass
    assert raised.value.exit_code == 5
    assert "\n" not in str(raised.value)
    return str(raised.value)


def fingerprint(key: Path) -> str:
    """What ssh-keygen says of a public key: ED25519 SHA256:…"""
    said = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True).stdout
    return f"{said.split()[-1].strip('()')} {said.split()[1]}"


def known(prod: Prod, folder: Path, text: str) -> Address:
    """Return the host's address with a known_hosts file of its own."""
    (folder / "known_hosts").write_text(text)
    return prod.address(known_hosts=folder / "known_hosts")


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


# -- commands and files --------------------------------------------------------------------------------------------


def test_a_command_runs_with_its_input_and_both_outputs_and_exit_code(prod_host: Prod) -> None:
    with Ssh(prod_host.address()) as ssh:
        ran = ssh.run("cat; echo problem >&2; tty; exit 7", timeout=20, input=b"to it\n")
        assert (ran.code, ran.out, ran.err) == (7, b"to it\nnot a tty\n", b"problem\n")
        assert ssh.run("pwd", timeout=20).text == str(prod_host.home)
        assert ssh.run("cat", timeout=20).out == b""


def test_much_data_in_all_three_directions_does_not_block(prod_host: Prod) -> None:
    data = os.urandom(5_000_000)
    with Ssh(prod_host.address()) as ssh:
        ran = ssh.run("tee /dev/stderr", timeout=60, input=data)
    assert ran.out == data
    assert ran.err == data


def test_a_command_that_a_signal_ended_is_no_lost_connection(prod_host: Prod) -> None:
    with Ssh(prod_host.address()) as ssh:
        assert ssh.run("kill -9 $$", timeout=20).code == -1
        assert ssh.run("exit 3", timeout=20, input=b"not read" * 100_000).code == 3


def test_a_started_command_keeps_its_channel(prod_host: Prod) -> None:
    with Ssh(prod_host.address()) as ssh:
        channel = ssh.start("echo hello; cat")
        assert channel.recv(6) == b"hello\n"
        channel.sendall(b"and back")
        assert channel.recv(8) == b"and back"
        assert ssh.run("echo beside it", timeout=20).text == "beside it"


def test_a_file_is_put_whole_or_not_at_all(prod_host: Prod, tmp_path: Path) -> None:
    target = prod_host.home / "put" / "the file"
    (tmp_path / "local").write_bytes(os.urandom(3_000_000))
    with Ssh(prod_host.address()) as ssh:
        assert ssh.run("mkdir put", timeout=20).code == 0
        ssh.put(b"first", str(target))
        assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"first", 0o600)
        ssh.put(tmp_path / "local", str(target), 0o755)
        assert target.read_bytes() == (tmp_path / "local").read_bytes()
        assert (target.stat().st_mode & 0o777, target.stat().st_uid) == (0o755, prod_host.uid)
        assert names(target.parent) == ["the file"]
        with pytest.raises(errors.HostUnreachable, match=r"cannot write /no/such/file \(.*No such file"):
            ssh.put(b"lost", "/no/such/file")
        with pytest.raises(errors.HostUnreachable, match=r"cannot write .*put \("):
            ssh.put(b"lost", str(target.parent))
        assert names(prod_host.home / "put") == ["the file"]
        assert [name for name in names(prod_host.home) if name.startswith(".put")] == []
        assert ssh.run("echo still there", timeout=20).text == "still there"


@pytest.mark.parametrize("size", [600_000, 3_000_000])
def test_a_full_disk_is_told_and_keeps_what_was_there(prod_host: Prod, size: int) -> None:
    """The answers to the last writes are read by nobody."""
    folder = prod_host.home / f"small {size}"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    with small_disk(folder, 500_000):
        os.chown(folder, prod_host.uid, -1)
        with Ssh(prod_host.address()) as ssh, pytest.raises(errors.HostUnreachable, match=r"cannot write .*free space"):
            ssh.put(os.urandom(size), str(folder / "file"))
        assert names(folder) == ["file"]
        assert (folder / "file").read_bytes() == b"old"


def test_a_host_without_sftp_says_so(prod_host: Prod) -> None:
    with prod_host.configured(sftp="/bin/false"), Ssh(prod_host.address()) as ssh:
        with pytest.raises(errors.HostUnreachable, match=r"^host prod: it transfers no files; enable sftp"):
            ssh.put(b"x", "file")
        assert ssh.run("true", timeout=20).code == 0


# -- the host's key ------------------------------------------------------------------------------------------------


def test_an_unknown_host_is_refused_and_the_command_that_is_named_lets_it_in(prod_host: Prod, tmp_path: Path) -> None:
    address = known(prod_host, tmp_path, "")
    text = refusal(address)
    add = f"ssh-keyscan -p {prod_host.port} -t ed25519 127.0.0.1 >> {tmp_path}/known_hosts"
    assert text == (
        f"host prod: its key is not known here: it shows {fingerprint(prod_host.host_key)}; "
        f"compare there with: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; if it is right: {add}"
    )
    subprocess.run(add, shell=True, check=True, capture_output=True)
    with Ssh(address) as ssh:
        assert ssh.run("echo in", timeout=20).text == "in"


def test_a_changed_key_is_refused_and_the_commands_that_are_named_mend_it(prod_host: Prod, tmp_path: Path) -> None:
    name = f"[127.0.0.1]:{prod_host.port}"
    address = known(prod_host, tmp_path, f"# a comment\n{name} {public(prod_host.host_key)}\n")
    was = fingerprint(prod_host.host_key)
    with prod_host.another_host_key():
        text = refusal(address)
        file = tmp_path / "known_hosts"
        remove = f"ssh-keygen -R '{name}' -f {file}"
        add = f"ssh-keyscan -p {prod_host.port} -t ed25519 127.0.0.1 >> {file}"
        assert text == (
            f"host prod: its key has changed: known is {was} ({file}:2), it shows {fingerprint(prod_host.host_key)}. "
            f"Either it was set up anew, or somebody is in between: compare there with: "
            f"ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; only if it is right: {remove}; {add}"
        )
        subprocess.run(f"{remove}; {add}", shell=True, check=True, capture_output=True)
        with Ssh(address) as ssh:
            assert ssh.run("true", timeout=20).code == 0


def test_hashed_names_are_known(prod_host: Prod, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    address = known(prod_host, tmp_path, f"[127.0.0.1]:{prod_host.port} {public(prod_host.host_key)}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", file], check=True, capture_output=True)
    assert file.read_text().startswith("|1|")
    with Ssh(address) as ssh:
        assert ssh.run("true", timeout=20).code == 0


def test_a_revoked_key_stays_refused_though_it_is_known_too(prod_host: Prod, tmp_path: Path) -> None:
    key = public(prod_host.host_key)
    address = known(prod_host, tmp_path, f"[127.0.0.1]:* {key}\n@revoked * {key}\n")
    assert refusal(address) == (
        f"host prod: its key {fingerprint(prod_host.host_key)} is revoked ({tmp_path}/known_hosts:2); "
        "do not connect, ask who looks after it"
    )


def test_marked_and_broken_lines_beside_a_good_one_do_no_harm(prod_host: Prod, tmp_path: Path) -> None:
    new_key(tmp_path / "other")
    other = public(tmp_path / "other")
    lines = [f"@cert-authority * {other}", f"@revoked * {other}", "* ssh-ed25519", "\xff\xfe nonsense", "@new * a b"]
    address = known(prod_host, tmp_path, "\n".join([*lines, f"[127.0.0.1]:* {public(prod_host.host_key)}", ""]))
    with Ssh(address) as ssh:
        assert ssh.run("true", timeout=20).code == 0


def test_a_certificate_authority_alone_lets_nobody_in(prod_host: Prod, tmp_path: Path) -> None:
    address = known(prod_host, tmp_path, f"@cert-authority * {public(prod_host.host_key)}\n")
    text = refusal(address)
    assert f"known only by a certificate authority ({tmp_path}/known_hosts:1), which b2m does not check" in text


def test_a_host_is_asked_for_the_kind_of_key_by_which_it_is_known(prod_host: Prod, tmp_path: Path) -> None:
    new_key(tmp_path / "rsa", "rsa")
    with prod_host.configured(more=f"HostKey {tmp_path}/rsa"):
        for key in (prod_host.host_key, tmp_path / "rsa"):
            with Ssh(known(prod_host, tmp_path, f"[127.0.0.1]:* {public(key)}\n")) as ssh:
                assert ssh.run("true", timeout=20).code == 0


# -- the way there -------------------------------------------------------------------------------------------------


def test_an_address_without_the_configuration_works_too(prod_host: Prod) -> None:
    address = Address(
        "prod",
        f"{prod_host.user}@127.0.0.1:{prod_host.port}",
        config=Path("/dev/null"),
        known_hosts=prod_host.known_hosts,
        identity=prod_host.identity,
    )
    with Ssh(address) as ssh:
        assert ssh.run("id -un", timeout=20).text == prod_host.user


def test_a_jump_host_leads_there_and_its_own_key_is_checked(prod_host: Prod, tmp_path: Path) -> None:
    with Ssh(prod_host.address("prod-behind")) as ssh:
        assert ssh.run("echo behind", timeout=20).text == "behind"
        (proxy,) = [pid for pid in children(os.getpid()) if "-W" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert not Path(f"/proc/{proxy}").exists()
    (tmp_path / "known_hosts").write_text("")
    text = refusal(prod_host.address("prod-behind", known_hosts=tmp_path / "known_hosts"))
    assert text.startswith("host prod: the way through its proxy failed (Host key verification failed.); try: ssh -F ")


def test_a_proxy_command_is_used_and_its_last_words_are_shown(prod_host: Prod, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host far\n  ProxyCommand sh -c 'echo no way to %h %p >&2'\nInclude {prod_host.config}\n")
    text = refusal(prod_host.address("far", config=config))
    assert text == f"host prod: the way through its proxy failed (no way to far 22); try: ssh -F {config} far"


def test_a_port_on_which_nothing_listens(prod_host: Prod) -> None:
    port = free_port()
    assert refusal(prod_host.address(port=port)) == (
        f"host prod: nothing listens at 127.0.0.1 port {port} (connection refused); "
        "start its SSH server, or correct the port"
    )


def test_a_name_that_nobody_knows(prod_host: Prod) -> None:
    text = refusal(prod_host.address("no-such-host.invalid"))
    assert text.startswith("host prod: no address is known for the name no-such-host.invalid (")
    assert text.endswith("); check its spelling in inventory.yaml, ~/.ssh/config and DNS")


def test_a_host_that_does_not_answer(prod_host: Prod) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # the kernel drops what does not fit in the queue, as a firewall does
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        with within(5):
            text = refusal(prod_host.address(port=port, connect_timeout=1.0))
        for each in waiting:
            each.close()
    assert text == (
        f"host prod: 127.0.0.1 port {port} did not answer within 1 s; "
        "is it up, and does a firewall let this machine in?"
    )


def test_a_port_that_takes_connections_and_says_nothing(prod_host: Prod) -> None:
    with Hole(prod_host.port) as hole:
        hole.swallow()
        with within(8):
            text = refusal(prod_host.address(port=hole.port, connect_timeout=1.0))
    assert f"127.0.0.1 port {hole.port} answers, but not as an SSH server (" in text


@pytest.mark.parametrize("destination", ["-oProxyCommand=reboot", "a b", "x;y", "u@h:p", "", "u@", "$(x)", "h:123456"])
def test_what_is_no_address_is_refused_before_anything_runs(prod_host: Prod, destination: str) -> None:
    text = refusal(prod_host.address(destination))
    assert text == f"host prod: {destination!r} is no address; write user@machine, or user@machine:port"


def test_a_broken_configuration_is_named(prod_host: Prod, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Hostt prod\n")
    text = refusal(prod_host.address(config=tmp_path / "config"))
    assert f"{tmp_path}/config: terminating, 1 bad configuration options; mend the SSH configuration" in text


# -- logging in ----------------------------------------------------------------------------------------------------


def test_a_key_that_is_not_let_in_is_named(prod_host: Prod, tmp_path: Path) -> None:
    new_key(tmp_path / "mine")
    assert refusal(prod_host.address(identity=tmp_path / "mine")) == (
        f"host prod: it refuses the login of {prod_host.user} "
        f"(tried: {tmp_path}/mine ({fingerprint(tmp_path / 'mine')})); "
        f"put the public key into ~{prod_host.user}/.ssh/authorized_keys there, then try: "
        f"ssh -F {prod_host.config} -i {tmp_path}/mine -o IdentitiesOnly=yes prod"
    )


def test_a_key_with_a_passphrase_is_taken_from_the_agent_and_never_asked_for(
    prod_host: Prod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "locked"
    subprocess.run(["cp", prod_host.identity, key], check=True)
    key.with_name("locked.pub").write_text(Path(f"{prod_host.identity}.pub").read_text())
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret words", "-f", key], check=True, capture_output=True)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with within(10):
        text = refusal(prod_host.address(identity=key))
    assert f"(tried: {key} needs its passphrase: ssh-add {key})" in text

    said = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(SSH_\w+)=([^;]+);", said))
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", found["SSH_AUTH_SOCK"])
        subprocess.run(["ssh-add", "-q", prod_host.identity], check=True)
        with Ssh(prod_host.address(identity=key)) as ssh:
            assert ssh.run("true", timeout=20).code == 0
    finally:
        os.kill(int(found["SSH_AGENT_PID"]), 15)


def test_a_missing_key_file_is_told_as_no_key(prod_host: Prod, tmp_path: Path) -> None:
    assert "(tried: no key was found)" in refusal(prod_host.address(identity=tmp_path / "none"))


def test_a_host_that_wants_a_second_factor_is_told_so(prod_host: Prod) -> None:
    with prod_host.configured(more="AuthenticationMethods publickey,publickey"):
        text = refusal(prod_host.address())
    assert text == f"host prod: it wants more than a key from {prod_host.user}; let this user in by key alone"


# -- no wait without an end ----------------------------------------------------------------------------------------


def test_a_command_has_an_end(prod_host: Prod) -> None:
    with Ssh(prod_host.address()) as ssh:
        with (
            within(3),
            pytest.raises(errors.HostUnreachable, match=r"^host prod: sleep 60 took longer than 0\.5 s; run"),
        ):
            ssh.run("sleep 60", timeout=0.5)
        with pytest.raises(errors.HostUnreachable):
            ssh.run("true", timeout=5)


def test_a_dead_line_ends_every_call_in_time(prod_host: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_module, "STALL", 1.0)
    with Hole(prod_host.port) as hole:
        address = replace(prod_host.address(port=hole.port), connect_timeout=1.0)

        def dead() -> Ssh:
            hole.carry()
            ssh = Ssh(address)
            ssh.open()
            hole.swallow()
            return ssh

        with within(3), pytest.raises(errors.HostUnreachable):
            dead().run("true", timeout=1.0)
        with within(3), pytest.raises(errors.HostUnreachable):
            dead().start("cat")
        with within(3), pytest.raises(errors.HostUnreachable):
            dead().put(b"x", "file")


def test_a_line_that_dies_while_a_file_is_sent_is_noticed(prod_host: Prod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_module, "STALL", 3.0)
    with Hole(prod_host.port) as hole, Ssh(prod_host.address(port=hole.port)) as ssh:

        def swallow_when_it_runs() -> None:
            while sum(path.stat().st_size for path in prod_host.home.glob(".big.*")) < 1_000_000:
                time.sleep(0.01)
            hole.swallow()

        threading.Thread(target=swallow_when_it_runs, daemon=True).start()
        with within(30), pytest.raises(errors.HostUnreachable, match="writing big stood still for 3 s; run"):
            ssh.put(b"x" * 300_000_000, "big")
    assert prod_host.sh("rm -f big .big.*").returncode == 0


def test_a_connection_that_the_host_ends_is_told_as_lost(prod_host: Prod) -> None:
    with Ssh(prod_host.address()) as ssh:
        threading.Timer(0.3, prod_host.kill_sessions).start()
        with within(5), pytest.raises(errors.HostUnreachable, match="the connection was lost during: sleep 60; run"):
            ssh.run("sleep 60", timeout=30)


def test_close_frees_a_command_that_runs(prod_host: Prod) -> None:
    with Ssh(prod_host.address()) as ssh:
        threading.Timer(0.3, ssh.close).start()
        with within(5), pytest.raises(errors.HostUnreachable):
            ssh.run("sleep 60", timeout=30)


def test_the_socket_notices_a_dead_link(prod_host: Prod) -> None:
    with Ssh(prod_host.address()) as ssh:
        made = ssh.client.get_transport().sock
        options = {name: made.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in TCP}
        assert options == TCP
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


TCP = {"TCP_NODELAY": 1, "TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}


def children(parent: int) -> list[int]:
    return [int(word) for path in Path(f"/proc/{parent}/task").glob("*/children") for word in path.read_text().split()]
