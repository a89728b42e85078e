"""The states that a sensor goes through, and what the rest of the daemon is told of them.

PROBING -> RUNNING -> DEGRADED -> LOST -> PROBING: every change has a reason, is logged once, and is published.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from edge.complaints import Complaints

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class SensorState(StrEnum):
    """Where the source stands."""

    PROBING = "probing"
    """Looking for bus and sensor, at growing intervals: it was never there, or has not come back yet."""
    RUNNING = "running"
    """Samples come, and nothing was lost lately."""
    DEGRADED = "degraded"
    """The sensor is there, and something was lost or failed within the last CALM_S."""
    LOST = "lost"
    """The sensor has just been given up; the bus is released, and will be opened anew."""


MAY_FOLLOW = {
    SensorState.PROBING: {SensorState.RUNNING, SensorState.DEGRADED},
    SensorState.RUNNING: {SensorState.DEGRADED, SensorState.LOST},
    SensorState.DEGRADED: {SensorState.RUNNING, SensorState.LOST},
    SensorState.LOST: {SensorState.PROBING},
}
LOSSES_IN_FULL = 2
"""So often in a row the log tells all about a lost sensor; of one that comes and goes it then tells ever less."""
CALM_S = 10.0
"""So long without trouble, and a degraded sensor is a good one again."""


@dataclass(frozen=True, slots=True)
class SensorStatus:
    """What is known of the sensor now.

    reason: why it is in this state, for people; rate_hz: measured against the host's clock, None before it is known;
    silent_s: since the last good sample, None before the first.
    """

    state: SensorState
    reason: str
    rate_hz: float | None = None
    silent_s: float | None = None


class StateMachine:
    """Holds the state; refuses a change that must not be, and logs each one that is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.state = SensorState.PROBING
        self.reason = "not looked for yet"
        self._clock = clock
        self._troubled_s = clock()
        self._losses = 0
        self._complaints = Complaints(clock)

    def change(self, state: SensorState, reason: str) -> None:
        """Go to another state; ValueError if that may not follow the present one."""
        if state not in MAY_FOLLOW[self.state]:
            raise ValueError(f"sensor state {state} after {self.state}; allowed: {sorted(MAY_FOLLOW[self.state])}")
        self._losses += state is SensorState.LOST
        if state is SensorState.RUNNING:
            self._losses = 0
            self._complaints.clear()
        quiet = state in (SensorState.RUNNING, SensorState.PROBING)
        self._tell(f"sensor {state} (was {self.state}): {reason}", logging.INFO if quiet else logging.WARNING)
        self.state, self.reason = state, reason
        self._troubled_s = self._clock()

    def trouble(self, reason: str) -> None:
        """Note that something was lost or failed while the sensor is there."""
        if self.state is SensorState.RUNNING:
            self.change(SensorState.DEGRADED, reason)
            return
        if reason != self.reason:
            self._tell(f"sensor {self.state}: {reason}", logging.WARNING)
        self.reason = reason
        self._troubled_s = self._clock()

    def good(self) -> bool:
        """Note that good samples came; whether the sensor has been calm for CALM_S."""
        calm = self._clock() - self._troubled_s >= CALM_S
        if calm and self.state is SensorState.DEGRADED:
            self.change(SensorState.RUNNING, f"no trouble for {CALM_S:.0f} s")
        return calm

    def _tell(self, line: str, level: int) -> None:
        """Log it; of a sensor that is lost again and again each state only now and then."""
        if self._losses > LOSSES_IN_FULL:
            self._complaints.log(line, key=line.partition(":")[0])
        else:
            log.log(level, "%s", line)
