"""The source every FIFO chip shares: drain, check, stamp; survive whatever the bus or the chip does.

A chip module provides primitives (see Chip); this module provides behaviour:
- a batch is delivered only if the FIFO had not overflowed before *and after* the burst, the frames decode in step, and
  the chip still holds its configuration afterwards;
- a FIFO burst is never repeated: a failed one may have popped bytes, so the FIFO is restarted instead;
- every loss starts a new segment and is counted;
- a chip that was reset, or is gone, is connected anew with back-off; meanwhile empty batches keep the pipeline alive.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edge.clock import SampleClock
from edge.errors import ImuError
from edge.imu.bus import TRANSIENT_ERRNOS
from edge.types import BatchFlag, SampleBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.types import FloatArray

log = logging.getLogger(__name__)

HEADROOM_FRAMES = 3
"""A FIFO this close to full is restarted: it may overflow between the count and the burst (as the kernel does)."""

FAILURES_BEFORE_LOST = 5
FAULTS_BEFORE_LOST = 5
SILENCE_BEFORE_LOST_S = 1.0
BACKOFF_S = (0.1, 2.0)
HEARTBEAT_S = 0.5
COUNTERS = (
    "bad_register",
    "bad_transfer",
    "fifo_empty",
    "fifo_overflow",
    "fifo_reset",
    "reinit",
    "gap_samples",
)


class FifoFault(Exception):  # noqa: N818
    """What is in the FIFO cannot be trusted; restarting the FIFO cures it. counter: which count it belongs to."""

    def __init__(self, counter: str, reason: str) -> None:
        super().__init__(reason)
        self.counter = counter


class RegisterFault(Exception):  # noqa: N818
    """The chip no longer holds its configuration (brown-out, glitch): it has to be set up again."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Decoded FIFO frames. imu: [n, 6] float32 m/s² and rad/s in the chip's own axes."""

    imu: FloatArray
    temperature_c: float | None = None


class Chip(Protocol):
    """A connected, identified sensor. Methods raise OSError from the bus, RegisterFault or FifoFault.

    frame_bytes: one sample in the FIFO; fifo_bytes: size of the FIFO; odr_hz: nominal rate it is configured for;
    rate_tolerance: how far off the true rate may be.
    """

    name: str
    odr_hz: float
    rate_tolerance: float
    frame_bytes: int
    fifo_bytes: int

    def start(self) -> None:
        """Reset, configure, read back, start the FIFO."""

    def restart_fifo(self) -> None:
        """Empty the FIFO so that the next byte in it is the first of a frame; clear the overflow flag."""

    def overflowed(self) -> bool:
        """Whether the FIFO has overflowed since the flag was last read."""

    def fifo_level(self) -> int:
        """Bytes waiting in the FIFO."""

    def read_fifo(self, count: int) -> bytes:
        """Pop bytes, in one transaction, without retry."""

    def decode(self, data: bytes) -> Frames:
        """Frames to SI units; FifoFault if they are out of step."""

    def verify(self, *, everything: bool) -> None:
        """RegisterFault if the chip was reset; also checks a rolling part (or all) of the other registers."""

    def shutdown(self) -> None:
        """Put the chip to sleep and release the bus; never raises; may be called twice."""


@dataclass(frozen=True, slots=True, eq=False)
class _Drain:
    frames: Frames
    counted_s: float
    read_s: float


def drain_interval_s(odr_hz: float) -> float:
    """About 0.1 s, and never a whole number of sample periods.

    With whole numbers every read would meet the same phase of the sample clock, and the mean wait between sample and
    read could not be averaged out; the golden fraction spreads the phases evenly. At most 12 reads a second.
    """
    periods = math.ceil(0.0875 * odr_hz + 0.382)
    return (periods - 0.382) / odr_hz


class FifoImu:
    """An Imu over any FIFO chip.

    connect: opens the bus, finds the chip, identifies it (not started yet); called again whenever the chip was lost.
    rotation: [3, 3] mount matrix, device axes = rotation @ chip axes. Raises ImuError if the sensor is not there now.
    """

    def __init__(
        self,
        connect: Callable[[], Chip],
        *,
        rotation: FloatArray | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect = connect
        self._rotation = rotation
        self._clock = clock
        self._sleep = sleep
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._chip: Chip | None = self._start()
        self.name = self._chip.name
        self.sampling_rate_hz = self._chip.odr_hz
        self._times = SampleClock(self._chip.odr_hz, tolerance=self._chip.rate_tolerance)
        self._interval_s = drain_interval_s(self._chip.odr_hz)
        self._due_s = self._clock()
        self._heard_s = self._due_s
        self._last_s: float | None = None
        self._segment = 0
        self._sequence = 0
        self._gap = False
        self._failures = self._faults = 0
        self._backoff_s = BACKOFF_S[0]
        self._stopped = False
        self._busy = False

    @property
    def rate_hz(self) -> float:
        """The measured rate of the sensor against the host's clock."""
        return self._times.rate_hz

    def counters(self) -> dict[str, int]:
        """Everything that went wrong since the source was opened, by name."""
        return dict(self._counters)

    def close(self) -> None:
        """End batches(); safe in a signal handler, in the middle of a burst too: the chip is released afterwards."""
        self._stopped = True
        if not self._busy:
            self._release()

    def batches(self) -> Iterator[SampleBatch]:
        """Yield a batch about every 0.1 s until close(); an empty one at least every 0.5 s while there is no data."""
        try:
            while not self._stopped:
                self._busy = True
                batch = self._next()
                self._busy = False
                yield batch
        finally:
            self._busy = False
            self._release()

    def _next(self) -> SampleBatch:
        chip = self._chip
        if chip is None:
            return self._reconnect()
        self._wait()
        try:
            drain = self._drain(chip)
        except FifoFault as fault:
            self._restart(chip, fault)
        except RegisterFault as fault:
            self._counters["bad_register"] += 1
            self._lose(str(fault))
        except OSError as error:
            self._counters["bad_transfer"] += 1
            self._failures += 1
            if self._failures >= FAILURES_BEFORE_LOST or error.errno not in TRANSIENT_ERRNOS:
                self._lose(f"bus error: {error.strerror or error}")
        else:
            self._failures = 0
            if drain is not None:
                return self._deliver(drain)
        return self._empty()

    def _wait(self) -> None:
        now_s = self._clock()
        self._due_s = max(self._due_s + self._interval_s, now_s)
        if self._due_s > now_s:
            self._sleep(self._due_s - now_s)

    def _drain(self, chip: Chip) -> _Drain | None:
        """Read what is in the FIFO and make sure that it can be trusted; None if it is empty."""
        if chip.overflowed():
            raise FifoFault("fifo_overflow", "FIFO overflow")
        level, counted_s, read_s = self._level(chip)
        if level % chip.frame_bytes:
            # The chip may have been in the middle of a frame; a second look, a transaction later, must fit.
            level, counted_s, read_s = self._level(chip)
        if level >= chip.fifo_bytes - HEADROOM_FRAMES * chip.frame_bytes:
            raise FifoFault("fifo_overflow", f"FIFO nearly full ({level} of {chip.fifo_bytes} bytes)")
        if level % chip.frame_bytes:
            raise FifoFault("bad_transfer", f"FIFO level {level} is not a multiple of {chip.frame_bytes}")
        if level == 0:
            self._on_silence(chip, counted_s)
            return None
        frames = self._burst(chip, level)
        self._faults = 0
        self._heard_s = counted_s
        return _Drain(frames, counted_s, read_s)

    def _level(self, chip: Chip) -> tuple[int, float, float]:
        """FIFO level, the host time at which it was known, and how long it took to read."""
        before_s = self._clock()
        level = chip.fifo_level()
        after_s = self._clock()
        return level, after_s, after_s - before_s

    def _burst(self, chip: Chip, count: int) -> Frames:
        try:
            data = chip.read_fifo(count)
            overflowed = chip.overflowed()
            chip.verify(everything=False)
        except OSError as error:
            raise FifoFault("bad_transfer", f"FIFO burst failed: {error.strerror or error}") from error
        if overflowed:
            raise FifoFault("fifo_overflow", "FIFO overflow during the burst")
        return chip.decode(data)

    def _on_silence(self, chip: Chip, now_s: float) -> None:
        self._counters["fifo_empty"] += 1
        chip.verify(everything=True)
        if now_s - self._heard_s > SILENCE_BEFORE_LOST_S + 3.0 / chip.odr_hz:
            raise RegisterFault("the sensor produces no samples")

    def _restart(self, chip: Chip, fault: FifoFault) -> None:
        self._counters[fault.counter] += 1
        self._counters["fifo_reset"] += 1
        self._faults += 1
        if self._faults >= FAULTS_BEFORE_LOST:
            # Whatever it is, restarting the FIFO does not cure it; setting the chip up anew may.
            self._lose(f"{fault}, {self._faults} times in a row")
            return
        log.warning("%s: %s; FIFO restarted", self.name, fault)
        self._break()
        try:
            chip.restart_fifo()
        except (OSError, RegisterFault) as error:
            self._lose(f"FIFO restart failed: {error}")
        self._heard_s = self._clock()

    def _break(self) -> None:
        """Whatever comes next is not continuous with what was delivered."""
        self._gap = self._last_s is not None
        self._times.reset()

    def _lose(self, reason: str) -> None:
        log.warning("%s: %s; connecting again", self.name, reason)
        self._break()
        self._failures = self._faults = 0
        self._backoff_s = BACKOFF_S[0]
        self._due_s = self._clock() + self._backoff_s
        if self._chip is not None:
            self._chip.shutdown()
            self._chip = None

    def _reconnect(self) -> SampleBatch:
        """Wait a while, or try to connect if the back-off is over; always returns within about a heartbeat."""
        wait_s = self._due_s - self._clock()
        if wait_s > 0:
            self._sleep(min(wait_s, HEARTBEAT_S))
        elif not self._stopped:
            self._try_connect()
        return self._empty()

    def _try_connect(self) -> None:
        try:
            self._chip = self._start()
        except ImuError as error:
            log.info("%s: still lost: %s", self.name, error)
            self._due_s = self._clock() + self._backoff_s
            self._backoff_s = min(2.0 * self._backoff_s, BACKOFF_S[1])
            return
        self._counters["reinit"] += 1
        self._due_s = self._heard_s = self._clock()
        log.info("%s: connected again", self._chip.name)

    def _start(self) -> Chip:
        chip = self._connect()
        try:
            chip.start()
        except (OSError, RegisterFault) as error:
            chip.shutdown()
            raise ImuError(
                f"{chip.name} does not start: {error}; check its supply, then power it off and on"
            ) from error
        return chip

    def _deliver(self, drain: _Drain) -> SampleBatch:
        imu = self._mount(drain.frames.imu)
        time_s = self._times.stamp(len(imu), drain.counted_s, drain.read_s)
        flags = BatchFlag.NONE
        if self._gap and self._last_s is not None:
            missing = round((float(time_s[0]) - self._last_s) * self._times.rate_hz) - 1
            self._counters["gap_samples"] += max(0, missing)
            self._segment += 1
            flags, self._gap = BatchFlag.GAP_BEFORE, False
        batch = SampleBatch(time_s, imu, self._segment, self._sequence, drain.frames.temperature_c, flags)
        self._sequence += len(imu)
        self._last_s = float(time_s[-1])
        return batch

    def _mount(self, imu: FloatArray) -> FloatArray:
        if self._rotation is None:
            return imu
        return np.hstack([imu[:, :3] @ self._rotation.T, imu[:, 3:] @ self._rotation.T]).astype(np.float32)

    def _empty(self) -> SampleBatch:
        return SampleBatch(
            np.empty(0, dtype=np.float64), np.empty((0, 6), dtype=np.float32), self._segment, self._sequence
        )

    def _release(self) -> None:
        chip, self._chip = self._chip, None
        if chip is not None:
            chip.shutdown()
