"""A driver whose every sample is compared with what the chip has measured, for tests.edge.soak_faults."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

import numpy as np

from edge.clock import RECENT_S
from edge.health import rss_mb
from edge.types import BatchFlag
from emulator.chips.motion import COUNTS
from emulator.mpu6050 import Mpu6050
from tests.edge.imu.bench import sample_counts, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.imu.fifo import FifoImu
    from edge.imu.status import SensorStatus
    from edge.types import SampleBatch
    from emulator.inprocess import VirtualTime
    from tests.edge.soak_chaos import Chaos

RATE_HZ = 100.0
HISTORY = COUNTS
NOTED = 20
"""So many bad batches are told of."""
HOLE_KNOWN_S = RECENT_S + 0.65
"""How long after samples vanished from the FIFO their loss must be reported, see SampleClock.lacks; one more read."""


class RememberingChip(Mpu6050):
    """A chip that keeps the last accelerations it has put into its FIFO, by its sample count."""

    def __init__(self, imu: np.ndarray[tuple[int, int], np.dtype[np.float64]], clock: Callable[[], float]) -> None:
        self._bytes = bytearray(6 * HISTORY)
        self.history = np.frombuffer(self._bytes, ">i2").reshape(HISTORY, 3)
        super().__init__(imu, RATE_HZ, start_s=clock(), repeats=True, counted=True, clock=clock)

    def _queue(self) -> None:
        place = 6 * (self.samples_taken % HISTORY)
        self._bytes[place : place + 6] = self._registers[0x3B:0x41]
        super()._queue()


class Watched:
    """The driver, with every batch checked on its way to the pipeline; ends after `hours`.

    gaps: (began, ended) of every reported loss, one after the other, s on the driver's clock, from the last good sample
    before it to the first one after it. garbage: frames that are not what the chip measured, or not in its order;
    repeated: those that a frozen sensor repeated; unreported: samples that are missing where no gap is reported;
    last_s: instant of the last sample.
    """

    def __init__(
        self, imu: FifoImu, chip: RememberingChip, time_: VirtualTime, hours: float, chaos: Chaos | None
    ) -> None:
        self._imu, self._chip, self._time, self._chaos = imu, chip, time_, chaos
        self.name, self.sampling_rate_hz = imu.name, imu.sampling_rate_hz
        self.hardware_total = imu.hardware_total
        self._started_s = time_.now()
        self._end_s = self._started_s + hours * 3600.0
        self._last = self._frozen = 0
        self.last_s = self._started_s
        self._holes: list[tuple[float, int]] = []
        self.gaps = array("d")
        self.garbage = self.repeated = self.unreported = self.samples = 0
        self.notes: list[str] = []
        self.rss_mb: list[float] = []

    def batches(self) -> Iterator[SampleBatch]:
        """Yield what the driver yields."""
        for batch in self._imu.batches():
            self.name, self.sampling_rate_hz = self._imu.name, self._imu.sampling_rate_hz
            if len(batch.imu):
                self._check(batch)
            yield batch
            if self._chaos is not None:
                self._chaos.turn()
            now_s = self._time.now()
            if now_s >= self._started_s + 3600.0 * (len(self.rss_mb) + 1):
                self.rss_mb.append(rss_mb() or 0.0)
                print(f"{len(self.rss_mb)} h", file=sys.stderr, flush=True)
            if now_s >= self._end_s:
                self._imu.close()

    def counters(self) -> dict[str, int]:
        return self._imu.counters()

    def status(self) -> SensorStatus:
        return self._imu.status()

    def close(self) -> None:
        self._imu.close()

    def _check(self, batch: SampleBatch) -> None:
        """Compare with what the chip measured; inside a segment no sample may be missing, double or out of order."""
        counts = np.array(sample_counts(batch))
        newest = self._chip.samples_taken
        index = newest - (newest - counts) % HISTORY
        wrong = (words(batch) != self._chip.history[index % HISTORY]).any(axis=1)
        steps = np.diff(index, prepend=self._last)
        if BatchFlag.GAP_BEFORE in batch.flags:
            self._close_gap(float(batch.time_s[0]))
            wrong[0] |= steps[0] < 1
        elif self.samples:
            if steps[0] > 1:
                self._holes.append((self.last_s, int(steps[0]) - 1))
            wrong[0] |= steps[0] < 0
        repeats = (steps == 0) & self._chip.frozen
        wrong[1:] |= (steps[1:] != 1) & ~repeats[1:]
        wrong[0] |= bool(self.samples and steps[0] == 0 and not repeats[0])
        self._note(batch, wrong, steps)
        self.repeated += int(repeats.sum())
        self.samples += len(index)
        self._last, self.last_s = int(index[-1]), float(batch.time_s[-1])
        self._forget_holes(self.last_s - HOLE_KNOWN_S)

    def _close_gap(self, ended_s: float) -> None:
        """Note a gap; frozen samples are reported when the sensor is found out, a silent loss some reads later."""
        frozen = self._imu.counters()["frozen_samples"]
        began_s = self.last_s - (frozen - self._frozen) / RATE_HZ
        self._frozen = frozen
        began_s = min([began_s, *(hole_s for hole_s, _ in self._holes)])
        self._holes.clear()
        self.gaps.extend((began_s, ended_s))

    def _forget_holes(self, before_s: float) -> None:
        while self._holes and self._holes[0][0] < before_s:
            hole_s, count = self._holes.pop(0)
            self.unreported += count
            if len(self.notes) < NOTED:
                self.notes.append(f"{hole_s:.3f} s: {count} samples missing, no gap reported; {self._faults()}")

    def _note(self, batch: SampleBatch, wrong: np.ndarray, steps: np.ndarray) -> None:
        self.garbage += int(wrong.sum())
        if wrong.any() and len(self.notes) < NOTED:
            where = np.flatnonzero(wrong)[:5].tolist()
            self.notes.append(
                f"{batch.time_s[0]:.3f} s: frames {where} of {len(wrong)} are wrong, flags {batch.flags}, "
                f"sample counts go on by {steps[:5].tolist()}; {self._faults()}"
            )

    def _faults(self) -> str:
        return f"last faults {[] if self._chaos is None else self._chaos.struck[-2:]}"
