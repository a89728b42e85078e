"""What this machine says: its name, where a process may keep state, whether a file can be read."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def host_device_id(_: Mapping[str, str] | None = None) -> str:
    """Take the host name, made to fit a device id: `Anna's Pi.local` becomes `anna-s-pi`."""
    name = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return name[:64].strip("-") or "footfall"


def default_outbox_path(environ: Mapping[str, str]) -> Path:
    """Where this process may keep state: as systemd says, /var/lib for root, the XDG state directory for others."""
    if directories := environ.get("STATE_DIRECTORY"):
        return Path(directories.split(":")[0]) / "outbox.db"
    return _state_directory(environ) / "footfall" / "outbox.db"


def _state_directory(environ: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib")
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # the XDG specification: a relative one is to be ignored
        return state
    try:
        return Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    except RuntimeError:  # a user without a home, such as a service's
        return Path("/var/lib")


def unreadable(path: Path) -> str | None:
    """Return why a file cannot be read, None if it can."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except OSError as error:
        return error.strerror
    if stat.S_ISDIR(mode):
        return "it is a directory"
    # A pipe without a writer would be read for ever, and of some devices there is no end.
    return None if stat.S_ISREG(mode) else "it is no regular file"
