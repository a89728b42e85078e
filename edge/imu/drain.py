"""One reading of a chip's FIFO, from which only frames come that can be trusted.

I2C carries no checksum, so a read is believed only if everything around it fits:
1. The level is a whole number of frames, and about as many as the time since the last read can have made. One that
   does not fit is read again once: corrupt twice is no accident.
2. Enough frames at once that the temperature in each of them proves the step (a random frame fits once in forty, four
   random ones once in three million).
3. The FIFO did not overflow: it was not nearly full before the burst, the fastest sensor had no time to fill it up
   until its end, and the chip does not say so. It still holds its configuration afterwards.
4. No frame is what a dead chip or an idle bus answers (three accelerations of exactly zero, or all ones), and frames do
   not repeat for seconds.
   Once they have, none is believed until the first that differs, however often the chip is set up anew.
What remains is said in docs/faults.md: a flipped bit that leaves a possible acceleration cannot be told from motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edge.imu.chip import FifoFault, RegisterFault

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from edge.imu.chip import Chip, Frames
    from edge.types import FloatArray

HEADROOM_FRAMES = 3
"""A FIFO this close to full is restarted: it may overflow between the count and the burst (as the kernel does)."""
MIN_FRAMES = 4
"""Fewer wait for the next read: too few to prove that they are in step."""
FASTEST = 1.25
"""No sensor runs so much too fast (ST: 1.19 measured); a level beyond it was not read right."""
SLOWEST = 0.6
SLACK_FRAMES = 2.0
LEVEL_BYTES = 2
"""At least so many bytes does a level have."""
FORGET = 1.01
"""The best time of a byte is forgotten by 1 % per read, so that a bus that became slower is accepted again."""
MOST_OF_ONES_M_S2 = 0.006
"""-1 LSB at up to ±16 g; no sensor measures it on three axes at once but in free fall, and then not for long."""
SILENCE_BEFORE_LOST_S = 1.0
FROZEN_S = 5.0
"""The same sample for so long: noise alone moves some of the three accelerations in every sample of a living sensor."""

DRAIN_S = 0.6
"""Each reading wakes the processor about four times: for itself, and to wait for each of its transactions."""
LEARNING_DRAIN_S = 0.1
LEARNING_S = 8.0
"""So long after the start of a segment the sample clock knows little yet: more frequent reads teach it faster."""
STALL_S = 0.65
"""A busy host may be so late before samples are lost, if the FIFO is long enough for that and a read now and then."""
FIFO_SHARE = 1.0 / 3.0
"""A shorter FIFO is read whenever a third of it is full."""


@dataclass(frozen=True, slots=True, eq=False)
class Drain:
    """Frames, the host time at which their number was known, and how long it took to read that number.

    complete: whether they may be all that the sensor made since the last ones; False: some before them are missing.
    """

    frames: Frames
    counted_s: float
    read_s: float
    complete: bool = True


def drain_interval_s(odr_hz: float, fifo_frames: float = math.inf, *, learning: bool = False) -> float:
    """How often to read: about every 0.6 s (0.1 s while the sample clock learns), less where the FIFO is short.

    Never a whole number of sample periods: then every read would meet the same phase of the sample clock, and the wait
    between sample and read could not be told from the sample's time. The golden fraction spreads the phases evenly.
    """
    wanted_s = LEARNING_DRAIN_S if learning else DRAIN_S
    allowed = max(FIFO_SHARE * fifo_frames, fifo_frames - STALL_S * odr_hz)
    periods = max(MIN_FRAMES + 1, math.floor(min(wanted_s * odr_hz, allowed)))
    return (periods - 0.382) / odr_hz


class FifoReader:
    """Reads one connected chip. counters: `fifo_empty` and `frozen_samples` are counted here.

    emptied_s: an instant before which nothing in the FIFO can have been measured.
    """

    def __init__(self, chip: Chip, clock: Callable[[], float], counters: dict[str, int], emptied_s: float) -> None:
        self._chip = chip
        self._clock = clock
        self._counters = counters
        self._emptied_s, self._heard_s = emptied_s, clock()
        self._byte_s = 1.0  # the least that a byte of a burst, or of a level, has taken
        self.frozen = False
        self._same: FloatArray | None = None
        self._repeats = 0

    def remember(self, before: FifoReader) -> None:
        """Know again the sample at which the sensor was frozen before it was set up anew."""
        if before.frozen:
            self.frozen, self._same = True, before._same

    def restart(self) -> None:
        """Empty the FIFO; raises OSError or RegisterFault."""
        self._emptied_s = self._clock()  # before: a busy host may be late to notice that it fills again
        self._chip.restart_fifo()
        self._heard_s = self._clock()

    def drain(self) -> Drain | None:
        """Return the frames that wait; None if there are none, or too few to be sure of them.

        Raises FifoFault, RegisterFault, or OSError if not even the level could be read: nothing is lost then.
        """
        chip = self._chip
        level, began_s, counted_s = self._level()
        if not self._fits(level, counted_s):
            level, began_s, counted_s = self._level()
        if level >= chip.fifo_bytes - HEADROOM_FRAMES * chip.frame_bytes:
            raise FifoFault("fifo_overflow", f"FIFO full or nearly so ({level} of {chip.fifo_bytes} bytes)")
        if level % chip.frame_bytes:
            raise FifoFault("bad_transfer", f"FIFO level {level} is not a multiple of {chip.frame_bytes}")
        if level > self._most(counted_s):
            raise FifoFault("bad_transfer", f"FIFO level {level} is more than the sensor can have made")
        if level < MIN_FRAMES * chip.frame_bytes:
            self._on_silence(level, counted_s)
            return None
        frames = self._burst(level, began_s)
        complete = level >= self._fewest(began_s, self._heard_s)
        self._emptied_s, self._heard_s = began_s, counted_s
        return Drain(self._living(frames), counted_s, counted_s - began_s, complete)

    def _level(self) -> tuple[int, float, float]:
        """FIFO level, and the host times between which it was true."""
        before_s = self._clock()
        level = self._chip.fifo_level()
        now_s = self._clock()
        self._byte_s = min(self._byte_s * FORGET, (now_s - before_s) / LEVEL_BYTES)
        return level, before_s, now_s

    def _most(self, now_s: float) -> float:
        """How many bytes can be in the FIFO at most, if it was empty when it was last emptied."""
        return self._made(now_s - self._emptied_s)

    def _made(self, seconds: float) -> float:
        """How many bytes the fastest sensor makes in this time."""
        return (seconds * self._chip.odr_hz * FASTEST + SLACK_FRAMES) * self._chip.frame_bytes

    def _fewest(self, now_s: float, since_s: float) -> float:
        """How many bytes the slowest sensor makes in this time."""
        return ((now_s - since_s) * self._chip.odr_hz * SLOWEST - SLACK_FRAMES) * self._chip.frame_bytes

    def _fits(self, level: int, now_s: float) -> bool:
        fewest = self._fewest(now_s, self._emptied_s)
        return level % self._chip.frame_bytes == 0 and fewest <= level <= self._most(now_s)

    def _burst(self, level: int, began_s: float) -> Frames:
        """Read what was there at `began_s`, unless more has come since than there was room for."""
        chip = self._chip
        try:
            asked_s = self._clock()
            data = chip.read_fifo(level)
            took_s = self._clock() - asked_s
            overflowed = chip.judge()
        except OSError as error:
            raise FifoFault("bad_transfer", f"FIFO burst failed: {error.strerror or error}") from error
        # A burst that runs empties the FIFO faster than it fills; one that has to wait does not.
        waited_s = asked_s - began_s + max(0.0, took_s - 2.0 * level * self._byte_s)
        self._byte_s = min(self._byte_s * FORGET, took_s / level)
        if overflowed or level + self._made(waited_s) > chip.fifo_bytes:
            raise FifoFault("fifo_overflow", "FIFO overflow before or during the burst")
        frames = chip.decode(data)
        acceleration = frames.imu[:, :3]
        if not acceleration.any(axis=1).all():
            raise FifoFault("bad_transfer", "a frame without any acceleration, as a dead chip answers")
        # All ones is what an empty FIFO and an idle bus read as: -1 LSB on every axis.
        alike = (acceleration == acceleration[:, :1]).all(axis=1)
        if (alike & (np.abs(acceleration[:, 0]) <= MOST_OF_ONES_M_S2)).any():
            raise FifoFault("bad_transfer", "a frame of ones, as nobody on the bus answers")
        return frames

    def _on_silence(self, level: int, now_s: float) -> None:
        if level == 0:
            self._counters["fifo_empty"] += 1
            self._chip.verify(everything=True)
        if now_s - self._heard_s > SILENCE_BEFORE_LOST_S + MIN_FRAMES / self._chip.odr_hz:
            raise RegisterFault("the sensor produces no samples")

    def _living(self, frames: Frames) -> Frames:
        """Return the frames without those that a frozen sensor repeats; RegisterFault if there are no others.

        It is one when the same sample has come for FROZEN_S. Those that were delivered until then are counted.
        """
        imu = frames.imu
        if self._same is not None:
            fresh = np.flatnonzero(_differ(imu, self._same))
            if not fresh.size:
                self._on_repeats(len(imu))
                return frames
            if self.frozen:
                imu = imu[fresh[0] :]
        self.frozen = False
        self._same = imu[-1].copy()
        others = np.flatnonzero(_differ(imu, self._same))
        self._repeats = len(imu) - 1 - (int(others[-1]) + 1 if others.size else 0)
        return replace(frames, imu=imu)

    def _on_repeats(self, count: int) -> None:
        if not self.frozen:
            if self._repeats + count <= FROZEN_S * self._chip.odr_hz:
                self._repeats += count
                return
            self.frozen = True
            self._counters["frozen_samples"] += self._repeats
        raise RegisterFault(f"the sensor repeats one sample for {FROZEN_S:.0f} s")


def _differ(imu: FloatArray, one: FloatArray) -> npt.NDArray[np.bool_]:
    """Say which samples [n, 6] differ from one [6] in what was measured: NaN is a gyroscope that was left out."""
    differs: npt.NDArray[np.bool_] = ((imu != one) & ~np.isnan(one)).any(axis=1)
    return differs
