"""The right to mount: whether this process has it, and a user namespace that grants it to anybody."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from emulator import EmulatorError

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
CAP_SYS_ADMIN = 1 << 21


def unavailable() -> str | None:
    """Return why this process cannot mount FUSE, None if it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not accessible"
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    capabilities = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    if not int(capabilities, 16) & CAP_SYS_ADMIN:
        return "mounting needs root, or a user namespace of one's own"
    return None


def prepare() -> str | None:
    """Make FUSE usable if it can be: enter a namespace of one's own if need be. Return why it cannot, None if it can.

    Call it before any thread is started, which `import numpy` does.
    """
    if unavailable() is None:
        private_mounts()
    elif os.access("/dev/fuse", os.R_OK | os.W_OK):
        try:
            private_namespace()
        except EmulatorError as error:
            return str(error)
    return unavailable()


def private_mounts() -> None:
    """Let what root mounts from now on go with this process and its children, however they end; best effort."""
    if _libc.unshare(CLONE_NEWNS) == 0:
        _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def private_namespace() -> None:
    """Give this process, and the children it starts from now on, a user and mount namespace in which it may mount.

    User and group stay what they are. Raises EmulatorError where the system forbids it.
    """
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        advice = "start it before numpy is imported" if number == errno.EINVAL else "run as root"
        raise EmulatorError(f"no user namespace: {os.strerror(number)}; {advice}")
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    except OSError as error:
        raise EmulatorError(f"user namespace refused: {error.strerror}; run as root") from error
