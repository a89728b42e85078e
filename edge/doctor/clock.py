"""The clock: who sets it, and whether what it shows is possible."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, fail, ok, warn
from edge.wall_clock import synchronised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.doctor.finding import Context

AREA = "clock"
LIMIT_S = 10.0
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""Footfall is younger than this clock may be."""
_SYNC = "check the network and run `timedatectl`; without a network fit a real-time clock"


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
