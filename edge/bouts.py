"""Steps count only while somebody walks: holds them until a walking bout is confirmed, then lets the held ones go too.

Arm motion has peaks like steps; what tells walking from typing or clapping shows only over seconds. So a step that was
found while nobody was known to walk waits. Once the model is sure of a bout, the steps of its start that waited are
released together, each with its own instant, and those that follow pass at once until the bout is over. What waited
longer than the back-fill time was no walking and is dropped, unless the model has all the while held a walk possible:
stairs and slow walks may take it ten seconds to be sure of. Nothing that was released is ever taken back.

The first step of a walk starts from rest and is weaker than those that follow, and the last one, when the feet come
together, is weaker than those before. Alone they would mean nothing; just before the first strong one of a confirmed
bout, or just after the last one of a bout that is over, they are steps, so they may reach a lower threshold (`first`,
`last`).

Sitting down or picking something up can look like two or three steps of a walk: a bout needs some more (`least`).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Peak(NamedTuple):
    """A step found, confirmed or not: its instant on the source's clock, and the model's confidence in it, 0..1."""

    time_s: float
    confidence: float


REACH_S = (0.3, 1.2)
"""How far a weak step may lie from the first or the last strong one: one step of a hurried or of a slow walk."""


@dataclass(frozen=True, slots=True)
class Gate:
    """When a bout begins and ends.

    on, off: a bout is confirmed when the walking probability reaches `on` and over when it falls below `off`.
    backfill_s: how old a step may be, counted from the newest frame, when it is released: a first one or a last one.
    first: what the step probability of a bout's first step must reach; None: what every step must.
    least: how many strong steps no older than `backfill_s` must wait before a bout is confirmed.
    last: what the step probability of a bout's last step must reach; None: what every step must.
    patience_s: how old a step may be, instead of `backfill_s`, while the walking probability has not been below `off`
        since (a bout's start has that much time to become likely itself); None: no older.
    """

    on: float
    off: float
    backfill_s: float
    first: float | None = None
    least: int = 0
    last: float | None = None
    patience_s: float | None = None

    @property
    def longest_wait_s(self) -> float:
        """How old a step may be at most when it is released."""
        return max(self.backfill_s, self.patience_s or 0.0)

    @property
    def weakest(self) -> float:
        """The least probability that may be a step; 1 where a weak one never is."""
        return min(1.0 if level is None else level for level in (self.first, self.last))


class BoutGate:
    """The gate at work: two states, walking or not, with hysteresis between them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.reset()

    def reset(self) -> None:
        """Forget the bout and what waited: a new segment starts."""
        self.walking = False
        self._passed_s, self._barred_s = 0.0, -math.inf
        self._unlikely_s = -math.inf
        self._held: deque[Peak] = deque()
        self._weak: deque[Peak] = deque()

    def push(
        self, peaks: list[Peak], walking: float, newest_s: float, weak: Sequence[Peak] = ()
    ) -> tuple[list[Peak], list[Peak]]:
        """Return (steps released after a wait, steps that pass at once).

        peaks: found in this hop; walking: its probability; newest_s: instant of its newest frame; weak: maxima that
        could only be the first or the last step of a walk.
        """
        if walking < self._gate.off:
            self._unlikely_s = newest_s
        if self.walking and walking >= self._gate.off:
            if peaks:
                self._passed_s = peaks[-1].time_s
                self._weak.clear()
            # Only what may still be the last one: hours of weak peaks would else be kept.
            self._weak.extend(peak for peak in weak if peak.time_s - self._passed_s <= REACH_S[1])
            return [], peaks
        # A bout ends and another one begins in different hops: `off` is at most `on`.
        if self.walking:
            self.walking = False
            last = self._last(peaks, newest_s)
            self._weak.clear()
            self._hold(peaks, weak, newest_s)
            return last, []
        self._hold(peaks, weak, newest_s)
        self.walking = walking >= self._gate.on and self._recent(newest_s) >= self._gate.least
        if not self.walking:
            return [], []
        released = [*self._first(), *self._held]
        self._passed_s = released[-1].time_s if released else newest_s
        self._held.clear()
        self._weak.clear()
        return released, []

    def _hold(self, peaks: list[Peak], weak: Sequence[Peak], newest_s: float) -> None:
        oldest_s = newest_s - self._gate.backfill_s
        if self._gate.patience_s is not None:
            likely_s = max(newest_s - self._gate.patience_s, self._unlikely_s - self._gate.backfill_s)
            oldest_s = min(oldest_s, likely_s)
        for waiting, new in ((self._held, peaks), (self._weak, weak)):
            waiting.extend(peak for peak in new if peak.time_s >= self._barred_s)
            while waiting and waiting[0].time_s < oldest_s:
                waiting.popleft()

    def _recent(self, newest_s: float) -> int:
        """Count the steps that wait, without the old ones: sitting down twice is no walk."""
        return sum(peak.time_s >= newest_s - self._gate.backfill_s for peak in self._held)

    def _first(self) -> list[Peak]:
        """Return the last weak step within reach before the first one that waits, if there is one."""
        if not self._held or self._gate.first is None:
            return []
        nearest_s, farthest_s = REACH_S
        first_s = self._held[0].time_s
        near = [peak for peak in self._weak if nearest_s <= first_s - peak.time_s <= farthest_s]
        return [peak for peak in near if peak.confidence >= self._gate.first][-1:]

    def _last(self, strong: Sequence[Peak], newest_s: float) -> list[Peak]:
        """Return the first weak step within reach after the last one that passed, if there is one.

        strong: those of the next bout, perhaps; none of them is as near to it as no two steps are.
        """
        if self._gate.last is None:
            return []
        nearest_s, farthest_s = REACH_S
        oldest_s = newest_s - self._gate.backfill_s
        near = [peak for peak in self._weak if nearest_s <= peak.time_s - self._passed_s <= farthest_s]
        last = [peak for peak in near if peak.confidence >= self._gate.last and peak.time_s >= oldest_s][:1]
        if any(abs(peak.time_s - step.time_s) < nearest_s for peak in strong for step in last):
            return []
        if last:
            self._barred_s = last[0].time_s + nearest_s
        return last
