"""Whether the wall clock is known to be right: a Raspberry Pi has none that runs on while it is switched off."""

from __future__ import annotations

import ctypes
from pathlib import Path

STA_UNSYNC = 0x0040  # uapi/linux/timex.h
_RUN = Path("/run")


class _Timex(ctypes.Structure):
    """The head of struct timex (uapi/linux/timex.h); the rest is room for the kernel to write into."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def synchronised(run: Path = _RUN) -> bool | None:
    """Ask the kernel, which is told by whatever NTP client there is; None where nobody can be asked. adjtimex(2).

    Under systemd's ProtectClock the kernel may not be asked; systemd-timesyncd(8) leaves a file in `run`.
    """
    is_synchronised = _by_kernel()
    timesync = run / "systemd" / "timesync"
    if is_synchronised is None and timesync.is_dir():
        return (timesync / "synchronized").exists()
    return is_synchronised


def _by_kernel() -> bool | None:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = _Timex(modes=0)  # 0: read only, allowed to everybody
        if libc.adjtimex(ctypes.byref(state)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not state.status & STA_UNSYNC
