"""The task that installs b2m on other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from b2m import errors
from b2m.tasks.frame import FLAGS, emit, help_of, reported, say, tell, the_project

if TYPE_CHECKING:
    from b2m.remote.address import Address


@task(
    **FLAGS,
    help=help_of(
        "host",
        "project",
        "json",
        offline="fetch the libraries here and ship them: the host needs no package index",
        check="only look: what is there, and what is missing (exit 10 if a bootstrap is needed)",
    ),
)
def bootstrap(
    c: Context, host: str = "", project: str = "", json: bool = False, offline: bool = False, check: bool = False
) -> None:
    """Install b2m on a host that is reached by SSH, beside what is there; see docs/hosts.md."""
    with reported(c, json):
        from b2m.remote.bootstrap import bootstrap as install
        from b2m.remote.check import check as look
        from b2m.remote.ssh import Ssh

        with Ssh(_address(project, host)) as ssh:
            if check:
                report = look(ssh)
                emit(report.to_json()) if json else tell(*report.lines())
                if report.exit_code:
                    raise Exit(None, report.exit_code)
                return
            version = install(ssh, offline=offline, tell=lambda text: None if json else say(f"b2m: {host}: {text}"))
        if json:
            emit({"type": "bootstrap", "host": host, "version": version})
        else:
            tell(f"{host}  b2m {version} is ready")


def _address(project: str, name: str) -> Address:
    """Return where a host of the inventory is reached; UsageError if it is not by SSH."""
    from b2m.remote.address import Address

    hosts = the_project(project).hosts
    remote = [each for each, found in hosts.items() if found.file.connection == "ssh"]
    if name not in remote:
        what = f"there is no host {name}" if name else "name a host"
        what = f"{name} is not reached by SSH" if name in hosts else what
        raise errors.UsageError(what=f"{what}; with connection: ssh: {', '.join(remote) or 'none'}")
    return Address.of(name, hosts[name].file.address)


TASKS = (bootstrap,)
