"""The modules: what a task in a playbook can be.

Each imports what it works with when it works: who reads a playbook needs to know the arguments only.
"""

from __future__ import annotations

from collections.abc import Mapping

from b2m.modules.base import Module
from b2m.modules.download import Download
from b2m.modules.hold import Hold
from b2m.modules.message import Message
from b2m.modules.rename import Rename
from b2m.modules.replay import Replay
from b2m.modules.shell import Shell
from b2m.modules.snapshot import Snapshot
from b2m.modules.swap import Swap
from b2m.modules.upload import Upload
from b2m.modules.verify import Verify

MODULES: Mapping[str, type[Module]] = {
    module.key: module for module in (Download, Snapshot, Replay, Verify, Hold, Swap, Rename, Upload, Message, Shell)
}
