"""Samples through the kernel's own driver: an IIO buffer instead of user-space I2C (sensor.backend: iio).

The kernel is woken by the sensor's data-ready line, reads the sample and stamps it; this module finds the device, sets
it up and reads the buffer. Chips that the kernel shows as two devices (accelerometer and gyroscope of its own) are put
together here. Rules of this module:
- time stamps are the kernel's, on CLOCK_MONOTONIC; they only have to be made strictly increasing;
- a hole in them is a loss (the chip's FIFO or the kernel's buffer has overflowed): a new segment, counted;
- a device that is silent, gone or broken is opened anew with back-off; empty batches keep the pipeline alive.
docs/decisions/0006-user-space-i2c-or-iio.md says when this is the better choice.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import select
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.errors import ImuError
from edge.imu.drain import SILENCE_BEFORE_LOST_S
from edge.imu.iio_sysfs import AXES, TIMESTAMP, IioDevice, Kind, Layout, explain, no_data_ready
from edge.imu.source import HEARTBEAT_S, ReconnectingImu
from edge.types import BatchFlag, SampleBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edge.settings import Sensor
    from edge.types import FloatArray, TimeArray

log = logging.getLogger(__name__)

SYSFS = Path("/sys/bus/iio/devices")
DEV = Path("/dev")
BUFFER_S = 10.0
"""How long this process may sleep before the kernel's buffer overflows: a few hundred bytes a second."""

WATERMARK_S = 0.21
"""How much the kernel collects before it wakes us. More makes its own stamps worse: those of an ICM-42688-P's
accelerometer were 50 ms early at 0.6 s, 38 at 0.21 (Linux 6.1, make test-uml)."""

GAP_PERIODS = 1.5
"""A longer step between two stamps means that a sample is missing."""

RATE_TOLERANCE = 0.2
RATE_MEMORY_S = 10.0
MIN_STEP_PERIODS = 0.05
"""Stamps that stand still or step back (the kernel corrects its estimate) go on at least by this."""
CLOCK_SLACK_S = 60.0
COUNTERS = ("bad_transfer", "reinit", "gaps", "gap_samples")


@dataclass(slots=True)
class Stream:
    """A buffer. fd: its character device; scales: SI units per LSB of each kind of channel in it."""

    device: IioDevice
    fd: int
    layout: Layout = field(default_factory=lambda: Layout(()))
    scales: dict[Kind, float] = field(default_factory=dict)

    def read(self) -> tuple[TimeArray, dict[Kind, FloatArray]] | None:
        """All scans that wait, as times [n] in s and values [n, 3] in SI units; None if there are none."""
        try:
            data = os.read(self.fd, self.layout.scan_bytes * 4096)
        except BlockingIOError:
            return None
        if not data:
            raise ImuError(f"{self.device.node} has ended: the kernel's driver let go of the sensor")
        raw = self.layout.decode(data)
        values = {
            kind: (np.stack([raw[f"{kind}_{axis}"] for axis in AXES], axis=1) * scale).astype(np.float32)
            for kind, scale in self.scales.items()
        }
        return (raw[TIMESTAMP] * 1e-9).astype(np.float64), values


class IioSensor:
    """An opened accelerometer with its gyroscope, in one IIO device or in two.

    odr_hz: the rate that the driver was set to. Raises ImuError if there is no such device, if it has no buffer
    because no data-ready line is wired, or if it may not be used.
    """

    def __init__(self, sensor: Sensor, sysfs: Path = SYSFS, dev: Path = DEV) -> None:
        accelerometer, gyroscope = find(sensor, sysfs, dev)
        self.name = accelerometer.name
        self._streams: list[Stream] = []
        self._gyroscope: Stream | None = None
        self._waiting: list[tuple[TimeArray, FloatArray]] = []
        self._turns: list[tuple[TimeArray, FloatArray]] = []
        self._rotations: dict[Kind, FloatArray] = {}
        self.odr_hz = sensor.sampling_rate_hz
        together: list[Kind] = ["accel", "anglvel"] if accelerometer.buffers("anglvel") else ["accel"]
        try:
            self._open(accelerometer, together, sensor)
            if gyroscope is not None and "anglvel" not in together:
                self._gyroscope = self._open(gyroscope, ["anglvel"], sensor)
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float) -> None:
        """Sleep until the buffer has reached its watermark, or until the time is over."""
        poll = select.poll()
        poll.register(self._streams[-1].fd, select.POLLIN)
        poll.poll(timeout_s * 1000)

    def read(self) -> tuple[TimeArray, FloatArray]:
        """Return the complete samples: times [n] in s, imu [n, 6] in device axes, NaN where there is no gyroscope.

        Raises ImuError if the device is gone or its buffer makes no sense.
        """
        for stream in self._streams:
            try:
                read = stream.read()
            except OSError as error:
                raise (
                    error if isinstance(error, ImuError) else ImuError(explain(error, str(stream.device.node)))
                ) from error
            if read is None:
                continue
            times, values = read
            turned = {kind: rows @ self._rotations[kind].T for kind, rows in values.items()}
            if stream is self._gyroscope:
                self._turns.append((times, turned["anglvel"]))
            else:
                gyr = turned.get("anglvel", np.full((len(times), 3), np.nan, np.float32))
                self._waiting.append((times, np.hstack([turned["accel"], gyr])))
        return self._complete()

    def answers(self) -> bool:
        """Whether the chips can be reached, as far as their drivers tell."""
        return all(stream.device.answers() for stream in self._streams)

    def close(self) -> None:
        """Disable the buffers and let go of the devices; never raises; may be called twice."""
        streams, self._streams = self._streams, []
        for stream in streams:
            try:
                stream.device.stop_buffer()
            except ImuError as error:
                log.debug("%s", error)
            os.close(stream.fd)

    def _open(self, device: IioDevice, kinds: list[Kind], sensor: Sensor) -> Stream:
        """Set up one device and start its buffer."""
        # The character device first: if another program holds it, its buffer is not to be touched.
        try:
            fd = os.open(device.node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ImuError(explain(error, str(device.node))) from error
        stream = Stream(device, fd)
        self._streams.append(stream)
        device.stop_buffer()
        device.use_monotonic_clock()
        rates = [device.set_rate(kind, sensor.sampling_rate_hz) for kind in kinds]
        stream.scales = {kind: device.set_scale(kind) for kind in kinds}
        mount = np.array(sensor.mount_matrix, np.float32)
        for kind in kinds:
            matrix = device.mount_matrix(kind)
            # Some drivers (st_lsm6dsx) show it at the accelerometer only: it is the same die.
            shared = self._rotations.get("accel", mount)
            self._rotations[kind] = shared if matrix is None else mount @ matrix
        if "accel" in kinds:
            self.odr_hz = rates[0]
        stream.layout = device.enable(kinds)
        scans = max(2, math.ceil(BUFFER_S * self.odr_hz))
        device.start_buffer(length=scans, watermark=max(1, math.floor(WATERMARK_S * self.odr_hz)))
        return stream

    def _complete(self) -> tuple[TimeArray, FloatArray]:
        """Return what both sensors have seen: a gyroscope of its own is interpolated to the accelerometer's times."""
        if not self._waiting:
            return np.empty(0), np.empty((0, 6), np.float32)
        times, imu = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        if self._gyroscope is None:
            return times, imu
        if self._turns:
            turn_s, turn = (np.concatenate(parts) for parts in zip(*self._turns, strict=True))
        else:
            turn_s, turn = np.empty(0), np.empty((0, 3), np.float32)
        # A gyroscope that fell behind by more than a heartbeat is not waited for: steps need the accelerometer alone.
        known_s = max(turn_s[-1] if len(turn_s) else -math.inf, times[-1] - HEARTBEAT_S)
        ready = int(np.searchsorted(times, known_s, side="right"))
        self._waiting = [(times[ready:], imu[ready:])] if ready < len(times) else []
        if len(turn_s):
            for axis in range(3):
                imu[:ready, 3 + axis] = np.interp(times[:ready], turn_s, turn[:, axis], left=np.nan, right=np.nan)
            # From the last sample that is done: the stamps of the two run apart, either may be ahead.
            done_s = times[ready - 1] if ready else times[0]
            keep = max(0, int(np.searchsorted(turn_s, done_s, side="right")) - 1)
            self._turns = [(turn_s[keep:], turn[keep:])]
        return times[:ready], imu[:ready]


def find(sensor: Sensor, sysfs: Path = SYSFS, dev: Path = DEV) -> tuple[IioDevice, IioDevice | None]:
    """Return the accelerometer that is meant, and the gyroscope of the same chip if it is a device of its own.

    Raises ImuError if there is none, or none with a buffer.
    """
    devices = [IioDevice(path, dev) for path in sorted(sysfs.glob("iio:device*"))]
    wanted = [
        device
        for device in devices
        if device.has("accel")
        and (sensor.type == "auto" or same_part(device.name, sensor.type))
        and (sensor.address is None or device.address in (None, sensor.address))
    ]
    if not wanted:
        there = ", ".join(device.name for device in devices) or "none"
        what = "any" if sensor.type == "auto" else sensor.type
        raise ImuError(
            f"no IIO accelerometer in {sysfs} (wanted: {what}; there: {there}): load the sensor's overlay "
            "(as dtoverlay=mpu6050,interrupt=4), look at `dmesg | grep -i iio`, or set sensor.backend: i2c"
        )
    # Of several, the one on the configured bus; an adapter's number may differ, so that it is no condition.
    chosen = min(wanted, key=lambda device: device.bus != sensor.bus)
    if not chosen.buffers("accel"):
        raise ImuError(no_data_ready(chosen))
    beside = (one for one in devices if one.parent == chosen.parent and one.directory != chosen.directory)
    return chosen, next((one for one in beside if one.buffers("anglvel")), None)


def same_part(device_name: str, sensor_type: str) -> bool:
    """Whether a driver's name for a device (lsm6ds3tr-c_accel, icm42688-accel) means the configured part."""
    part = re.sub(r"[-_](accel|gyro)$", "", device_name)
    part, wanted = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (part, sensor_type))
    return part.startswith(wanted) or wanted.startswith(part)


class IioImu(ReconnectingImu):
    """An Imu over the kernel's IIO buffer; wait_for_hz as there.

    connect: opens and starts the device; called again whenever it was lost.
    """

    hardware_total = None
    """The kernel's buffer has no pedometer."""

    def __init__(
        self,
        connect: Callable[[], IioSensor],
        *,
        wait_for_hz: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(COUNTERS, wait_for_hz, clock, sleep)
        self._connect = connect
        self._device: IioSensor | None = None
        self._period_s = 1.0 / (wait_for_hz or 1.0)
        self._heard_s = self._due_s
        self._opened = False
        if wait_for_hz is None:
            self._open()

    @property
    def rate_hz(self) -> float:
        """The measured rate of the sensor against the host's clock."""
        return 1.0 / self._period_s

    def _is_open(self) -> bool:
        return self._device is not None

    def _read(self) -> Sequence[SampleBatch]:
        device = self._device
        assert device is not None
        try:
            device.wait(HEARTBEAT_S)
            times, imu = device.read()
            self._check(times)
        except ImuError as error:
            self._counters["bad_transfer"] += 1
            self._give_up(str(error))
            return []
        if len(times):
            return list(self._deliver(times, imu))
        silent_s = self._clock() - self._heard_s
        if silent_s > SILENCE_BEFORE_LOST_S + 3.0 * self._period_s:
            if device.answers():
                self._give_up(f"no data-ready edge for {silent_s:.1f} s")
            else:
                # The kernel goes on by itself once the bus works. Its buffer must not be disabled before: Linux 6.1
                # loses a trigger whose chip cannot be reached then, until the next boot.
                self._counters["bad_transfer"] += 1
        return []

    def _check(self, times: TimeArray) -> None:
        if len(times) and abs(float(times[-1]) - self._clock()) > CLOCK_SLACK_S:
            raise ImuError(
                "the kernel's time stamps are not on the monotonic clock; is another program using the device?"
            )

    def _deliver(self, times: TimeArray, imu: FloatArray) -> Iterator[SampleBatch]:
        """One batch for each stretch without a hole."""
        self._heard_s = self._clock()
        self._good()
        times = self._increasing(times)
        steps_s = np.diff(times, prepend=times[0] if self._last_s is None else self._last_s)
        holes = np.flatnonzero(steps_s > GAP_PERIODS * self._period_s)
        for first, end in _stretches(holes, len(times)):
            flags = BatchFlag.NONE
            if first in holes:
                self._segment += 1
                self._counters["gaps"] += 1
                self._counters["gap_samples"] += max(1, round(float(steps_s[first]) / self._period_s) - 1)
                self._machine.trouble("samples are missing from the kernel's buffer")
                flags = BatchFlag.GAP_BEFORE
            yield SampleBatch(times[first:end], imu[first:end], self._segment, self._sequence, flags=flags)
            self._sequence += end - first
            self._learn(times[first:end])
        self._last_s = float(times[-1])

    def _increasing(self, times: TimeArray) -> TimeArray:
        """Strictly increasing times, from the last delivered one on; the kernel's own wherever they are."""
        least_s = MIN_STEP_PERIODS * self._period_s
        last_s = -math.inf if self._last_s is None else self._last_s
        if times[0] >= last_s + least_s and np.diff(times).min(initial=math.inf) >= least_s:
            return times
        ramp = np.arange(len(times)) * least_s
        increasing: TimeArray = np.maximum.accumulate(np.maximum(times - ramp, last_s + least_s)) + ramp
        return increasing

    def _learn(self, times: TimeArray) -> None:
        """Exponentially decayed mean of the period, within ±20 % of the nominal one."""
        count = len(times) - 1
        if count < 1:
            return
        nominal_s = 1.0 / self.sampling_rate_hz
        weight = 1.0 - math.exp(-count * nominal_s / RATE_MEMORY_S)
        self._period_s += weight * ((float(times[-1]) - float(times[0])) / count - self._period_s)
        low_s, high_s = nominal_s / (1.0 + RATE_TOLERANCE), nominal_s / (1.0 - RATE_TOLERANCE)
        self._period_s = min(max(self._period_s, low_s), high_s)

    def _open(self) -> None:
        self._device = self._connect()
        self.name = f"{self._device.name} (IIO)"
        self.sampling_rate_hz = self._device.odr_hz
        self._period_s = 1.0 / self._device.odr_hz
        self._heard_s = self._clock()
        self._found(self.name, again=self._opened)
        self._opened = True

    def _release(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()


def _stretches(holes: np.ndarray[tuple[int, ...], np.dtype[np.intp]], count: int) -> list[tuple[int, int]]:
    """Half-open index ranges [0, count) cut before every hole."""
    edges = [0, *(int(hole) for hole in holes if hole > 0), count]
    return list(itertools.pairwise(edges))
