"""Writing a file on a host over SFTP."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramiko import SFTPClient

EXTENDED = 200  # SSH_FXP_EXTENDED
PIECE = 32768


def upload(sftp: SFTPClient, local: Path | bytes, remote: str, mode: int) -> None:
    """Make a new file with this content and mode, durable; OSError if there is one already, or no room."""
    source = BytesIO(local) if isinstance(local, bytes) else local.open("rb")
    sent = 0
    with source, sftp.open(remote, "wxb") as file:
        file.set_pipelined(True)
        file.chmod(mode)
        while data := source.read(PIECE):
            file.write(data)
            sent += len(data)
        file.flush()
        # Written without waiting for each answer, some of which nobody reads: a full disk shows in the size.
        if file.stat().st_size != sent:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), remote)
        with suppress(OSError):  # a server that is not OpenSSH's may not know it
            sftp._request(EXTENDED, "fsync@openssh.com", file.handle)
