"""A workbench with an emulated sensor on an in-process bus in virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.imu import open_imu
from edge.imu.fifo import FifoImu
from edge.settings import Sensor
from edge.types import BatchFlag
from emulator.bus import EmulatedBus
from emulator.chips.motion import COUNT_MASK, COUNTS, STANDARD_GRAVITY, count_in
from emulator.inprocess import VirtualTime, opener
from emulator.mpu6050 import Mpu6050

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from edge.types import SampleBatch

BUS = "/dev/i2c-1"
STILL = (1.0, -2.0, 9.5, 0.25, -0.5, 0.0)
"""What the emulated sensor always measures, but for the lowest bits of the accelerations: they count the samples."""
ACC_M_S2 = STANDARD_GRAVITY / 4096
STILL_WORDS = np.round(np.array(STILL[:3]) / ACC_M_S2).astype(np.int64)


class Bench:
    """One emulated sensor, and the driver on it, which reads its gyroscope or, as the daemon, does not."""

    def __init__(self, address: int = 0x68, *, gyroscope: bool = False, **chip: Any) -> None:
        self.gyroscope = gyroscope
        self.time = VirtualTime()
        self.chip = Mpu6050(np.array([STILL]), 100.0, counted=True, clock=self.time.now, **chip)
        self.bus = EmulatedBus({address: self.chip}, clock=self.time.now, sleep=self.time.sleep)
        self.buses = {BUS: self.bus}
        self._streams: dict[FifoImu, Iterator[SampleBatch]] = {}

    def open(self, **sensor: Any) -> FifoImu:
        imu = open_imu(
            Sensor(**sensor),
            gyroscope=self.gyroscope,
            open_bus=opener(self.buses),
            clock=self.time.now,
            sleep=self.time.sleep,
        )
        assert isinstance(imu, FifoImu)
        return imu

    def run(self, imu: FifoImu, seconds: float) -> Run:
        """Take batches until virtual time has passed; then stop asking."""
        end_s = self.time.now() + seconds
        stream = self._streams.setdefault(imu, imu.batches())
        batches: list[SampleBatch] = []
        longest_wait_s = 0.0
        while (asked_s := self.time.now()) < end_s:
            batches.append(next(stream))
            longest_wait_s = max(longest_wait_s, self.time.now() - asked_s)
        return Run(batches, longest_wait_s)


@dataclass(frozen=True)
class Run:
    """What came out of the driver."""

    batches: list[SampleBatch]
    longest_wait_s: float

    @property
    def counts(self) -> list[int]:
        """Sample counter of every delivered sample."""
        return [count for batch in self.batches for count in sample_counts(batch)]

    @property
    def lost(self) -> int:
        """Samples that the sensor took between the first and the last delivered one and that were not delivered."""
        steps = np.diff(self.counts) % COUNTS
        return int((steps - 1).sum())

    @property
    def gaps(self) -> int:
        return sum(BatchFlag.GAP_BEFORE in batch.flags for batch in self.batches)

    def check(self) -> None:
        """Every delivered sample is a true one, times increase, and nothing is missing inside a segment."""
        times = np.concatenate([batch.time_s for batch in self.batches])
        assert (np.diff(times) > 0).all()
        sequence = self.batches[0].sequence
        counts: dict[int, list[int]] = {}
        for batch in self.batches:
            assert (words(batch) & ~COUNT_MASK == STILL_WORDS & ~COUNT_MASK).all()
            gyr = batch.imu[:, 3:]
            assert np.isnan(gyr).all() or np.allclose(gyr, STILL[3:], atol=2e-3)
            assert batch.sequence == sequence
            sequence += len(batch.imu)
            counts.setdefault(batch.segment, []).extend(sample_counts(batch))
        for segment in counts.values():
            assert set(np.diff(segment) % COUNTS) <= {1}


def words(batch: SampleBatch) -> npt.NDArray[np.int64]:
    """Return the accelerometer's words [n, 3] at ±8 g."""
    return np.round(batch.imu[:, :3] / ACC_M_S2).astype(np.int64)


def sample_counts(batch: SampleBatch) -> list[int]:
    """Return the counts of the emulated sensor's samples, modulo COUNTS."""
    return [count_in(row) for row in words(batch).tolist()]
