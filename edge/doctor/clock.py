"""The clock: who sets it, and whether what it shows is possible."""

from __future__ import annotations

import ctypes
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.doctor.finding import Context

AREA = "clock"
LIMIT_S = 10.0
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""Footfall is younger than this clock may be."""
STA_UNSYNC = 0x0040  # uapi/linux/timex.h
_SYNC = "check the network and run `timedatectl`; without a network fit a real-time clock"


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


def check(_: Context) -> Iterator[Finding]:
    """Judge the wall clock, by which steps are dated; steps are timed by another, which needs nobody."""
    yield judge(time.time(), synchronised())


def judge(now_s: float, is_synchronised: bool | None) -> Finding:
    """Say what a wall clock in such a state means."""
    now = datetime.fromtimestamp(now_s, tz=UTC)
    shown = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < EARLIEST:
        return fail(AREA, f"the clock shows {shown}, which is long past: steps would be dated wrong", _SYNC)
    if is_synchronised is False:
        return warn(AREA, f"the clock shows {shown} and is not synchronised: steps may be dated wrong", _SYNC)
    if is_synchronised is None:
        return ok(AREA, f"the clock shows {shown}; this machine does not say whether it is synchronised")
    return ok(AREA, f"the clock shows {shown} and is synchronised")


def synchronised() -> bool | None:
    """Ask the kernel, which is told by whatever NTP client there is; None where it cannot be asked. adjtimex(2)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = _Timex(modes=0)  # 0: read only, allowed to everybody
        if libc.adjtimex(ctypes.byref(state)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not state.status & STA_UNSYNC
