"""Where samples come from: a sensor on the I2C bus, or a recording, behind one protocol."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edge.errors import ConfigError
from edge.imu.bus import SmbusBus, bus_path
from edge.imu.fifo import FifoImu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.imu.bus import I2cBus
    from edge.imu.chip import Chip
    from edge.imu.status import SensorStatus
    from edge.settings import Sensor
    from edge.types import SampleBatch


class Imu(Protocol):
    """A source of samples. name: what it is; sampling_rate_hz: its nominal rate; both change if the sensor does."""

    name: str
    sampling_rate_hz: float

    @property
    def hardware_total(self) -> int | None:
        """Steps that a pedometer inside the sensor counted since it was opened; None where there is none."""

    def batches(self) -> Iterator[SampleBatch]:
        """Blocks of samples as they come, an empty one at least every 0.7 s; ends at close() or the recording's end."""

    def counters(self) -> dict[str, int]:
        """Everything that went wrong since it was opened, by name."""

    def status(self) -> SensorStatus:
        """Return what is known of the sensor now: state, reason, true rate."""

    def close(self) -> None:
        """End batches() and release the device; safe in a signal handler; may be called twice."""


class OpenImu(Protocol):
    """Opens the configured sensor; gyroscope: whether its samples are wanted too."""

    def __call__(self, sensor: Sensor, /, *, gyroscope: bool) -> Imu:
        """Return the source; ImuError if that is not possible."""


def open_imu(
    sensor: Sensor,
    *,
    gyroscope: bool = True,
    open_bus: Callable[[str], I2cBus] = SmbusBus,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    wait: bool = False,
) -> Imu:
    """Open the configured sensor and start it.

    gyroscope: without it a chip's FIFO lasts longer and the bus is less busy; its columns are NaN then, or may be.
    open_bus: how a bus is opened by its path, the emulator's where there is none; clock, sleep: virtual in tests.
    Raises ImuError if bus or sensor is not there or answers as something else; with `wait`, as the daemon does, the
    source looks for it again and again instead, and says in status() what is missing.
    """
    if sensor.type == "replay":
        return _open_replay(sensor)
    if sensor.backend == "iio":
        from edge.imu.iio import IioImu, IioSensor  # noqa: PLC0415  most devices have no use for it

        wait_for_hz = sensor.sampling_rate_hz if wait else None
        return IioImu(lambda: IioSensor(sensor), wait_for_hz=wait_for_hz, clock=clock, sleep=sleep)
    rotation = np.array(sensor.mount_matrix, np.float32)
    straight = np.array_equal(rotation, np.eye(3))
    return FifoImu(
        lambda: connect(sensor, open_bus, sleep, gyroscope=gyroscope),
        rotation=None if straight else rotation,
        wait_for_hz=sensor.sampling_rate_hz if wait else None,
        clock=clock,
        sleep=sleep,
    )


def connect(
    sensor: Sensor,
    open_bus: Callable[[str], I2cBus] = SmbusBus,
    sleep: Callable[[float], None] = time.sleep,
    *,
    gyroscope: bool = True,
) -> Chip:
    """Open the bus, find the sensor and identify it, without starting it; ImuError says what is missing."""
    from edge.imu import chips  # noqa: PLC0415  replay needs no chip
    from edge.imu.chips.core import Options  # noqa: PLC0415

    bus = open_bus(bus_path(sensor.bus))
    try:
        return chips.find(
            bus,
            sensor.type,
            sensor.address,
            accept_unknown_id=sensor.accept_unknown_id,
            options=Options(sensor.sampling_rate_hz, sensor.firmware, gyroscope),
            sleep=sleep,
        )
    except BaseException:
        bus.close()
        raise


def _open_replay(sensor: Sensor) -> Imu:
    from edge.imu.replay import ReplayImu  # noqa: PLC0415  a live sensor needs no recording formats
    from edge.recording import load  # noqa: PLC0415

    if sensor.recording is None:
        raise ConfigError("sensor.type is 'replay' but sensor.recording is empty; set it to the path of a recording")
    recording = load(sensor.recording)
    # Played faster than real time it ends early: start it that much in the past, or its steps would lie in the future.
    real_time_share = 0.0 if sensor.replay_speed is None else min(1.0, 1.0 / sensor.replay_speed)
    origin_s = time.monotonic() - recording.duration_s * (1.0 - real_time_share)
    return ReplayImu(recording, speed=sensor.replay_speed, origin_s=origin_s)
