"""Single samples that no motion explains, as a loose wire or a disturbed bus makes them, are left out.

A body that is walked, run or fallen with does not get out and back by 6 g from one sample to the next. The largest such
excursion of any axis in the public recordings (20 to 100 Hz; jogging, falls, clapping, the ankles of a runner) is
41 m/s²; the median of three samples has the same effect, but would also round off every real peak.

Limits: two or more wrong samples in a row are taken for motion, and so is a spike smaller than SPIKE_MPS2. The first
sample of a segment has nothing before it to be judged by; a jump in its last one is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from edge.types import SampleBatch

SPIKE_MPS2 = 60.0
"""A sample beyond both of its neighbours by more than this, in the same direction on the same axis, is a spike."""


class SpikeFilter:
    """Passes samples on at once, except one that has just jumped: that waits for the next, which shows what it was.

    What is left out depends on the samples alone, not on how they were cut into batches.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample starts a new segment."""
        self._tail: SampleBatch | None = None
        """The last sample dealt with, and the one behind it that waits, if any."""

    def push(self, batch: SampleBatch) -> SampleBatch:
        """Return the samples that are now known to be no spikes, possibly fewer or one more than came."""
        if len(batch.time_s) == 0:
            return batch
        dealt_with = 0 if self._tail is None else 1
        if self._tail is not None:
            time_s = np.concatenate((self._tail.time_s, batch.time_s))
            batch = replace(batch, time_s=time_s, imu=np.concatenate((self._tail.imu, batch.imu)))
        jump = np.diff(batch.imu[:, :3].astype(np.float64), axis=0)
        good = np.concatenate(([True], ~_out_and_back(jump), [True]))[: len(batch.time_s)]
        waits = int((np.abs(jump[-1:]) > SPIKE_MPS2).any())
        good[:dealt_with] = False
        good[len(good) - waits :] = False
        self._tail = replace(batch, time_s=batch.time_s[-1 - waits :], imu=batch.imu[-1 - waits :])
        return replace(batch, time_s=batch.time_s[good], imu=batch.imu[good])


def _out_and_back(jump: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of the samples between two jumps [n, 3] m/s² lie beyond both neighbours; [n - 1]."""
    before, after = jump[:-1], -jump[1:]
    same_way = np.sign(before) == np.sign(after)
    spike: npt.NDArray[np.bool_] = (same_way & (np.minimum(np.abs(before), np.abs(after)) > SPIKE_MPS2)).any(axis=1)
    return spike
