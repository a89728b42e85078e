"""Steps count only while somebody walks: holds them until a walking bout is confirmed, then lets the held ones go too.

Arm motion has peaks like steps; what tells walking from typing or clapping shows only over seconds. So a step that was
found while nobody was known to walk waits. Once the model is sure of a bout, the steps of its start that waited are
released together, each with its own instant, and those that follow pass at once until the bout is over. What waited
longer than the back-fill time was no walking and is dropped. Nothing that was released is ever taken back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple


class Peak(NamedTuple):
    """A step found, confirmed or not: its instant on the source's clock, and the model's confidence in it, 0..1."""

    time_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Gate:
    """When a bout begins and ends.

    on, off: a bout is confirmed when the walking probability reaches `on` and over when it falls below `off`.
    backfill_s: how old a step may be, counted from the newest frame, when it is released.
    """

    on: float
    off: float
    backfill_s: float


class BoutGate:
    """The gate at work: two states, walking or not, with hysteresis between them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.reset()

    def reset(self) -> None:
        """Forget the bout and what waited: a new segment starts."""
        self.walking = False
        self._held: deque[Peak] = deque()

    def push(self, peaks: list[Peak], walking: float, newest_s: float) -> tuple[list[Peak], list[Peak]]:
        """Return (steps released after a wait, steps that pass at once).

        peaks: found in this hop; walking: its probability; newest_s: instant of its newest frame.
        """
        before = self.walking
        self.walking = walking >= (self._gate.off if before else self._gate.on)
        while self._held and self._held[0].time_s < newest_s - self._gate.backfill_s:
            self._held.popleft()
        if not self.walking:
            self._held.extend(peaks)
            return [], []
        released = [*self._held, *(peaks if not before else [])]
        self._held.clear()
        return released, (peaks if before else [])
