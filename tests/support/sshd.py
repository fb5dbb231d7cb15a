"""A production host on this machine: a real sshd on a free port of 127.0.0.1, and another unix user with its own home.

``Prod`` is that host; ``Hole`` is a line to it that stops carrying anything when told to. Everything is made anew for a
test session and removed at its end, the user and all its processes too. It needs root, and an sshd.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from b2m.remote.address import Address

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", ""))
ROOT = Path(__file__).resolve().parents[2]
PREFIX = "b2mt"
NUMBERS = count()  # one process may have several hosts

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {key}
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers {user}
MaxStartups 200
MaxSessions 200
PrintMotd no
Subsystem sftp {sftp}
{more}
"""

CLIENT = """\
Host prod
  HostName 127.0.0.1
  Port {port}
Host prod-behind
  HostName 127.0.0.1
  Port {port}
  ProxyJump prod
Host *
  User {user}
  IdentityFile "{identity}"
  IdentitiesOnly yes
  UserKnownHostsFile "{known_hosts}"
  GlobalKnownHostsFile /dev/null
"""


def missing() -> str | None:
    """Return why there can be no production host here, in one line; None if there can."""
    if os.geteuid() != 0:
        return "tests of another host need root, to make another user"
    if SSHD is None:
        return "tests of another host need sshd (Debian: openssh-server; .ci/services installs it)"
    return None


class Prod:
    """The production host: ``user``, ``home`` and ``port`` there; key, known_hosts and config of the ops box."""

    def __init__(self) -> None:
        _sweep()
        self.user = f"{PREFIX}{os.getpid()}n{next(NUMBERS)}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.user}-"))
        self.folder.chmod(0o755)
        self.home = self.folder / "home of prod"
        self.identity = self.folder / "id_ed25519"
        self.known_hosts = self.folder / "known_hosts"
        self.config = self.folder / "ssh_config"
        self.host_key = self.folder / "host_key"
        self.log = self.folder / "sshd.log"
        self.port = free_port()
        self._listener: subprocess.Popen[bytes] | None = None
        _make_user(self.user, self.home)
        new_key(self.identity)
        new_key(self.host_key)
        (self.folder / "authorized").write_text(Path(f"{self.identity}.pub").read_text())
        known = {"port": self.port, "user": self.user, "identity": self.identity, "known_hosts": self.known_hosts}
        self.config.write_text(CLIENT.format(**known))
        self.trust()
        self.start()

    @property
    def uid(self) -> int:
        return pwd.getpwnam(self.user).pw_uid

    def address(self, destination: str = "prod", *, port: int | None = None, **options: object) -> Address:
        """Return the address of this host: by its alias, or by another port of 127.0.0.1 (a Hole's)."""
        if port is not None:
            destination = f"{self.user}@127.0.0.1:{port}"
        given = {"config": self.config, **options}
        return Address("prod", destination, **given)  # type: ignore[arg-type]

    @property
    def environment(self) -> dict[str, str]:
        """What a b2m process needs to get here as host ``prod``."""
        return {"B2M_SSH_CONFIG": str(self.config)}

    def trust(self) -> None:
        """Write the present host key into known_hosts, for every port (a Hole has another one)."""
        kind, key = Path(f"{self.host_key}.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:* {kind} {key}\n")

    def start(self, more: str = "", sftp: str = "internal-sftp") -> None:
        """Start the listener, and wait until it answers; ``more`` is added to its configuration."""
        assert SSHD is not None
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        settings = {"port": self.port, "key": self.host_key, "user": self.user, "more": more, "sftp": sftp}
        config.write_text(CONFIG.format(**settings, authorized=self.folder / "authorized"))
        with self.log.open("ab") as log:
            self._listener = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as made:
                    made.settimeout(5)
                    assert made.recv(4) == b"SSH-"
                    return
            except OSError:
                assert time.monotonic() < deadline, f"sshd did not start: {self.log.read_text()}"
                assert self._listener.poll() is None, f"sshd ended: {self.log.read_text()}"
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop listening; sessions that are open stay open."""
        if self._listener is not None:
            self._listener.kill()
            self._listener.wait()
            self._listener = None

    def restart(self, **configuration: str) -> None:
        self.stop()
        self.start(**configuration)

    @contextmanager
    def configured(self, **configuration: str) -> Iterator[None]:
        """Let sshd run with another configuration (see ``start``) while the block lasts."""
        self.restart(**configuration)
        try:
            yield
        finally:
            self.restart()

    @contextmanager
    def another_host_key(self) -> Iterator[None]:
        """Show another host key than known_hosts has, while the block lasts."""
        kept = self.host_key
        self.host_key = self.folder / "other_host_key"
        if not self.host_key.exists():
            new_key(self.host_key)
        try:
            self.restart()
            yield
        finally:
            self.host_key = kept
            self.restart()

    def sessions(self) -> list[int]:
        """The processes of sshd that carry a session, of root and of the user."""
        assert self._listener is not None
        return [pid for pid in _descendants(self._listener.pid) if _comm(pid).startswith("sshd")]

    def kill_sessions(self) -> None:
        """Cut all connections at the host; what runs in them only sees its input and output end."""
        _kill(self.sessions())

    def processes(self, word: str = "") -> list[int]:
        """The user's own processes whose command line has a word; without those of sshd."""
        return [pid for pid in _of_user(self.uid) if not _comm(pid).startswith("sshd") and word in command_line(pid)]

    def reboot(self) -> None:
        """Kill every process of the host at once, whatever it is at, and start its sshd again."""
        sessions = self.sessions()
        self.stop()
        _kill([*sessions, *self.processes()])
        while self.processes():
            _kill(self.processes())
        self.start()

    def sh(self, command: str, *, check: bool = True, **options: str) -> subprocess.CompletedProcess[str]:
        """Run a command line there as the host's user, not through SSH."""
        user = pwd.getpwnam(self.user)
        environment = {"HOME": str(self.home), "USER": self.user, "PATH": "/usr/local/bin:/usr/bin:/bin", **options}
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.home,
            env=environment,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=check,
            timeout=120,
        )

    def bootstrap_with_tests_own(self) -> None:
        """Put the tests' own b2m and libraries there as its ``current``, in no time; bootstrap's own tests do it fully.

        The user must be able to read them: what lies in a private folder is copied (linked, on the same disk).
        """
        import b2m

        current = self.home / ".b2m" / "current"
        if current.is_symlink() and str(current.readlink()) == "versions/tests-own":
            return
        packages, source = Path(os.__file__).parent / "site-packages", Path(b2m.__file__).parents[1]
        packages = next((Path(path) for path in sys.path if (Path(path) / "apsw").is_dir()), packages)
        version = self.home / ".b2m" / "versions" / "tests-own"
        version.mkdir(parents=True, exist_ok=True)
        for name, path in (("packages", packages), ("lib", source)):
            there = self.folder / name
            if not there.exists() and self.sh(f"test -r '{path}/.' && ls '{path}'", check=False).returncode != 0:
                subprocess.run(["cp", "-a", path, there], check=True)
        packages, source = (
            self.folder / name if (self.folder / name).exists() else path
            for name, path in (("packages", packages), ("lib", source))
        )
        base = Path(sys.executable).resolve()
        if self.sh(f"'{base}' -c ''", check=False).returncode != 0:
            base = Path("/usr/bin/python3")
        subprocess.run([base, "-m", "venv", "--without-pip", version / "venv"], check=True)
        (found,) = (version / "venv" / "lib").glob("python3*/site-packages")
        (found / "b2m.pth").write_text(f"{source}\n{packages}\n")
        current.unlink(missing_ok=True)
        current.symlink_to("versions/tests-own")
        subprocess.run(["chown", "-hR", self.user, self.home / ".b2m"], check=True)

    def close(self) -> None:
        """End and remove everything, the user too."""
        self.kill_sessions()
        self.stop()
        _remove_user(self.user)
        shutil.rmtree(self.folder, ignore_errors=True)


class Hole:
    """A TCP proxy on a port of its own that carries everything, until ``swallow`` or ``cut``.

    The first stands for a middlebox that acknowledges and forwards nothing, the other for a connection reset.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._control, theirs = socket.socketpair()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        program = [sys.executable, __file__, str(listener.fileno()), str(theirs.fileno()), str(target)]
        self._process = subprocess.Popen(program, pass_fds=(listener.fileno(), theirs.fileno()))
        listener.close()
        theirs.close()

    def __enter__(self) -> Hole:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._control.close()

    def swallow(self) -> None:
        """Go on taking everything from both sides, and pass nothing on; new connections find silence."""
        self._say(b"s")

    def carry(self) -> None:
        """Carry again what comes from now on; what was swallowed is gone."""
        self._say(b"c")

    def cut(self) -> None:
        """Reset every connection that is open now."""
        self._say(b"x")

    def _say(self, word: bytes) -> None:
        self._control.sendall(word)
        assert self._control.recv(1) == b"."


def _carry(listener: socket.socket, control: socket.socket, target: int) -> None:
    """Be the proxy: one thread, all sockets."""
    import selectors

    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(control, selectors.EVENT_READ)
    other: dict[socket.socket, socket.socket] = {}
    silent = False

    def drop(one: socket.socket) -> None:
        for each in (one, other.pop(one, one)):
            other.pop(each, None)
            with suppress(KeyError, ValueError):
                selector.unregister(each)
            each.close()

    while True:
        for key, _ in selector.select():
            ready = key.fileobj
            if ready is control:
                word = control.recv(1)
                if not word:
                    return
                silent = {b"s": True, b"c": False}.get(word, silent)
                if word == b"x":
                    for each in list(other):
                        with suppress(OSError):
                            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        drop(each)
                control.sendall(b".")
            elif ready is listener:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", target))
                for one, two in ((near, far), (far, near)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    other[one] = two
                    selector.register(one, selectors.EVENT_READ)
            elif isinstance(ready, socket.socket) and ready in other:
                try:
                    data = ready.recv(65536)
                    if data and not silent:
                        other[ready].sendall(data)
                except OSError:
                    data = b""
                if not data and not silent:
                    drop(ready)
                elif not data:
                    selector.unregister(ready)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def new_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    """Make a key pair, ``path`` and ``path.pub``."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "b2m tests", "-f", path], check=True)


def command_line(pid: int) -> str:
    """Return a process's command line; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


# -- the user ------------------------------------------------------------------------------------------------------


def _make_user(name: str, home: Path) -> None:
    command = ["useradd", "--create-home", "--home-dir", str(home), "--skel", "/var/empty", "--shell", "/bin/sh"]
    # A locked password ("!") would keep keys out too. Another session may hold the lock of /etc/passwd for a moment.
    for attempt in range(50):
        ran = subprocess.run([*command, "--password", "*", name], capture_output=True, text=True)
        if ran.returncode == 0:
            home.chmod(0o700)
            return
        assert attempt < 49, ran.stderr
        time.sleep(0.1)


def _remove_user(name: str) -> None:
    uid = pwd.getpwnam(name).pw_uid
    while left := _of_user(uid):
        _kill(left)
    for _ in range(50):
        ran = subprocess.run(["userdel", "--force", name], capture_output=True, text=True)
        if ran.returncode in (0, 6):
            return
        time.sleep(0.1)


def _sweep() -> None:
    """Remove the users and folders of test sessions that were killed."""

    def is_dead(name: str) -> bool:
        found = re.match(rf"{PREFIX}(\d+)n\d+", name)
        return found is not None and not Path("/proc", found[1]).exists()

    for user in [user.pw_name for user in pwd.getpwall() if is_dead(user.pw_name)]:
        with suppress(KeyError):
            _remove_user(user)
    for path in [path for path in Path(tempfile.gettempdir()).iterdir() if is_dead(path.name)]:
        shutil.rmtree(path, ignore_errors=True)


# -- processes -----------------------------------------------------------------------------------------------------


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _of_user(uid: int) -> list[int]:
    found = [(pid, _status(pid)) for pid in _pids()]
    return [pid for pid, is_ in found if is_.get("Uid", "").split("\t")[0] == str(uid) and is_["State"][0] not in "ZX"]


def _descendants(parent: int) -> list[int]:
    parents = {pid: int(_status(pid).get("PPid", 0)) for pid in _pids()}
    found = [parent]
    for pid in found:
        found += [child for child, its in parents.items() if its == pid]
    return found[1:]


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _carry(socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
