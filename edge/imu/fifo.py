"""The source every FIFO chip shares: a state machine that survives whatever the bus or the chip does.

A chip module provides primitives (edge.imu.chip), edge.imu.drain trustworthy frames; this module provides behaviour:
- a FIFO burst is never repeated: a failed one may have popped bytes, so the FIFO is restarted instead;
- every loss starts a new segment and is counted;
- a chip that was reset, or is gone, is connected anew with back-off, bus and all; meanwhile empty batches keep the
  pipeline alive. A sensor that is not there at the start is waited for in the same way.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from edge.clock import SampleClock
from edge.errors import ImuError
from edge.imu.bus import TRANSIENT_ERRNOS
from edge.imu.chip import Chip, FifoFault, Frames, RegisterFault
from edge.imu.drain import LEARNING_S, FifoReader, drain_interval_s
from edge.imu.pedometer import HardwareTotal
from edge.imu.source import ReconnectingImu
from edge.types import BatchFlag, SampleBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.imu.drain import Drain
    from edge.types import FloatArray

__all__ = ["COUNTERS", "Chip", "FifoFault", "FifoImu", "Frames", "RegisterFault", "drain_interval_s"]

log = logging.getLogger(__name__)

FAILURES_BEFORE_LOST = 5
FAILING_BEFORE_LOST_S = 1.0
"""A bus that fails so often and for so long is opened anew; most FIFOs wait that long for one that only stumbles."""
FAULTS_BEFORE_LOST = 5
COUNTERS = (
    "bad_register",
    "bad_transfer",
    "fifo_empty",
    "fifo_overflow",
    "fifo_reset",
    "frozen_samples",
    "reinit",
    "gap_samples",
)


class FifoImu(ReconnectingImu):
    """An Imu over any FIFO chip; wait_for_hz as there.

    connect: opens the bus, finds the chip, identifies it (not started yet); called again whenever the chip was lost.
    rotation: [3, 3] mount matrix, device axes = rotation @ chip axes.
    """

    def __init__(
        self,
        connect: Callable[[], Chip],
        *,
        rotation: FloatArray | None = None,
        wait_for_hz: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(COUNTERS, wait_for_hz, clock, sleep)
        self._connect = connect
        self._rotation = rotation
        self._pedometer = HardwareTotal()
        self._chip: Chip | None = None
        self._reader: FifoReader
        self._times: SampleClock | None = None
        self._segment_s = self._due_s
        self._gap = False
        self._learnt_hz: float | None = None
        self._failures = self._faults = 0
        self._failing_s = self._due_s
        if wait_for_hz is None:
            self._open()

    @property
    def hardware_total(self) -> int | None:
        """Steps that the sensor's own pedometer counted since the source was opened; None where there is none."""
        return self._pedometer.total

    @property
    def rate_hz(self) -> float:
        """The measured rate of the sensor against the host's clock."""
        return self.sampling_rate_hz if self._times is None else self._times.rate_hz

    def _is_open(self) -> bool:
        return self._chip is not None

    def _open(self) -> None:
        self._attach(self._start())

    def _read(self) -> Sequence[SampleBatch]:
        self._wait()
        try:
            drain = self._reader.drain()
        except FifoFault as fault:
            self._restart(fault)
        except RegisterFault as fault:
            self._counters["bad_register"] += 1
            self._lose(str(fault))
        except OSError as error:
            self._on_bus_error(error)
        else:
            self._failures = 0
            if drain is not None:
                return [self._deliver(drain)]
        return []

    def _wait(self) -> None:
        now_s = self._clock()
        self._due_s = max(self._due_s + self._interval_s(now_s), now_s)
        if self._due_s > now_s:
            self._sleep(self._due_s - now_s)

    def _interval_s(self, now_s: float) -> float:
        """As the FIFO allows; soon after a failure, while the FIFO has room for what has not been read."""
        soon = self._failures > 0 or now_s - self._segment_s < LEARNING_S
        return drain_interval_s(self.rate_hz, self._fifo_frames, learning=soon)

    def _on_bus_error(self, error: OSError) -> None:
        """Bounded retry: nothing was popped, so the next turn simply tries again, a few times."""
        reason = f"bus error: {error.strerror or error}"
        self._counters["bad_transfer"] += 1
        now_s = self._clock()
        self._failing_s = self._failing_s if self._failures else now_s
        self._failures += 1
        lasting = self._failures >= FAILURES_BEFORE_LOST and now_s - self._failing_s >= FAILING_BEFORE_LOST_S
        if lasting or error.errno not in TRANSIENT_ERRNOS:
            self._lose(reason)
        else:
            self._machine.trouble(reason)

    def _restart(self, fault: FifoFault) -> None:
        self._counters[fault.counter] += 1
        self._counters["fifo_reset"] += 1
        self._faults += 1
        if self._faults >= FAULTS_BEFORE_LOST:
            # Whatever it is, restarting the FIFO does not cure it; setting the chip up anew may.
            self._lose(f"{fault}, {self._faults} times in a row")
            return
        self._machine.trouble(f"{fault}; FIFO restarted")
        self._break()
        try:
            self._reader.restart()
        except (OSError, RegisterFault) as error:
            self._lose(f"FIFO restart failed: {error}")

    def _break(self) -> None:
        """Whatever comes next is not continuous with what was delivered."""
        now_s = self._clock()
        self._gap = self._last_s is not None
        if self._times is not None:
            if now_s - self._segment_s >= LEARNING_S:  # otherwise what was known before is the better guess
                self._learnt_hz = self._times.rate_hz
            self._times.reset()
        self._segment_s = now_s

    def _lose(self, reason: str) -> None:
        self._break()
        self._failures = self._faults = 0
        self._give_up(reason)

    def _start(self) -> Chip:
        chip = self._connect()
        self._starting_s = self._clock()
        try:
            chip.start()
        except ImuError:  # it has said itself what it lacks
            chip.shutdown()
            raise
        except (OSError, RegisterFault) as error:
            chip.shutdown()
            raise ImuError(
                f"{chip.name} does not start: {error}; check its supply, then power it off and on"
            ) from error
        return chip

    def _attach(self, chip: Chip) -> None:
        """Read from this chip from now on; another part than before brings its own name, rate and FIFO."""
        again = self._times is not None
        self._chip, self.name, self.sampling_rate_hz = chip, chip.name, chip.odr_hz
        reader = FifoReader(chip, self._clock, self._counters, self._starting_s)
        if again:
            reader.remember(self._reader)
        self._reader = reader
        self._fifo_frames = chip.fifo_bytes / chip.frame_bytes
        if self._times is None:
            self._times = SampleClock(chip.odr_hz, tolerance=chip.rate_tolerance)
        else:
            self._times.retune(chip.odr_hz, tolerance=chip.rate_tolerance)
        self._due_s = self._segment_s = self._clock()
        self._pedometer.attach(self._due_s)
        self._found(f"{chip.name} at {chip.odr_hz:g} Hz", again=again)

    def _deliver(self, drain: Drain) -> SampleBatch:
        assert self._times is not None
        self._faults = 0
        self._good()
        self._ask_pedometer(drain.counted_s)
        self._look_for_a_hole(drain)
        imu = self._mount(drain.frames.imu)
        time_s = self._times.stamp(len(imu), drain.counted_s, drain.read_s)
        flags = BatchFlag.NONE
        if self._gap and self._last_s is not None:
            missing = round((float(time_s[0]) - self._last_s) * (self._learnt_hz or self.sampling_rate_hz)) - 1
            self._counters["gap_samples"] += max(0, missing)
            self._segment += 1
            flags, self._gap = BatchFlag.GAP_BEFORE, False
        batch = SampleBatch(time_s, imu, self._segment, self._sequence, drain.frames.temperature_c, flags)
        self._sequence += len(imu)
        self._last_s = float(time_s[-1])
        lost = self._counters["gap_samples"]
        log.debug("samples=%d segment=%d newest_s=%.6f lost=%d", self._sequence, self._segment, self._last_s, lost)
        return batch

    def _look_for_a_hole(self, drain: Drain) -> None:
        """Start a new segment if samples are missing that the chip did not report, e.g. somebody else read its FIFO."""
        assert self._times is not None
        lacks = self._times.lacks(len(drain.frames.imu), drain.counted_s, drain.read_s)
        if self._gap or (drain.complete and not lacks):
            return
        self._counters["bad_transfer"] += 1
        self._machine.trouble("samples are missing from the FIFO")
        self._break()

    def _ask_pedometer(self, now_s: float) -> None:
        """Read the chip's own step count now and then; if that fails, the samples are still good ones."""
        if self._chip is None or not self._pedometer.due(now_s):
            return
        with contextlib.suppress(OSError):
            count = self._chip.pedometer_steps()
            if count is not None:
                self._pedometer.feed(count, now_s)

    def _mount(self, imu: FloatArray) -> FloatArray:
        if self._rotation is None:
            return imu
        return np.hstack([imu[:, :3] @ self._rotation.T, imu[:, 3:] @ self._rotation.T]).astype(np.float32)

    def _release(self) -> None:
        chip, self._chip = self._chip, None
        if chip is not None:
            chip.shutdown()
