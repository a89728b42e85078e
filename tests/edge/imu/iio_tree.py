"""A kernel IIO device as files: attributes in a directory, the character device as a named pipe."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.imu.iio import IioImu, IioSensor
from edge.settings import Sensor

if TYPE_CHECKING:
    from pathlib import Path

MPU6050 = {
    "name": "mpu6050",
    "current_timestamp_clock": "realtime",
    "sampling_frequency": "50",
    "sampling_frequency_available": "10 20 50 100 200 500",
    "in_accel_scale": "0.000598",
    "in_accel_scale_available": "0.000598 0.001196 0.002392 0.004785",
    "in_anglvel_scale": "0.001064724",
    "in_anglvel_scale_available": "0.000133090 0.000266181 0.000532362 0.001064724",
    "in_accel_mount_matrix": "1, 0, 0; 0, 1, 0; 0, 0, 1",
    "trigger/current_trigger": "mpu6050-dev0",
}
"""As Linux 6.1's inv_mpu6050 shows itself: `make test-uml` compares."""
ELEMENTS = {
    **{f"accel_{axis}": (index, "be:s16/16>>0") for index, axis in enumerate("xyz")},
    "temp": (3, "be:s16/16>>0"),
    **{f"anglvel_{axis}": (4 + index, "be:s16/16>>0") for index, axis in enumerate("xyz")},
    "timestamp": (7, "le:s64/64>>0"),
}
HALF = {
    kind: {f"{kind}_{axis}": (index, "le:s16/16>>0") for index, axis in enumerate("xyz")}
    for kind in ("accel", "anglvel")
}


@dataclass
class Tree:
    """A faked /sys/bus/iio/devices and /dev below a directory."""

    root: Path
    writers: dict[int, int] = field(default_factory=dict)

    @property
    def sysfs(self) -> Path:
        return self.root / "devices"

    def device(self, number: int) -> Path:
        return self.sysfs / f"iio:device{number}"

    def add(
        self,
        attributes: dict[str, str],
        elements: dict[str, tuple[int, str]],
        *,
        number: int = 0,
        client: str = "1-0068",
        buffer: str = "buffer0",
    ) -> Path:
        """One device with a buffer, if it has elements; buffer "buffer": as kernels before 5.13."""
        directory = self.root / client / f"iio:device{number}"
        self.sysfs.mkdir(parents=True, exist_ok=True)
        (self.root / "dev").mkdir(exist_ok=True)
        for name, value in attributes.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Linux 6.1 ends the clock's name with a NUL.
            path.write_text(value + ("\n\0" if name == "current_timestamp_clock" else "\n"))
        if elements:
            place = directory / (buffer if buffer == "buffer0" else "scan_elements")
            for path in (place, directory / buffer):
                path.mkdir(exist_ok=True)
            for name in ("enable", "length", "watermark"):
                (directory / buffer / name).write_text("0\n")
            for name, (index, kind) in elements.items():
                (place / f"in_{name}_en").write_text("1\n" if name == "temp" else "0\n")
                (place / f"in_{name}_index").write_text(f"{index}\n")
                (place / f"in_{name}_type").write_text(f"{kind}\n")
        self.device(number).symlink_to(directory)
        os.mkfifo(self.root / "dev" / f"iio:device{number}")
        self.plug(number)
        return directory

    def plug(self, number: int = 0) -> None:
        """Let the character device be open on the kernel's side: a read finds nothing instead of the end."""
        self.writers[number] = os.open(self.root / "dev" / f"iio:device{number}", os.O_RDWR | os.O_NONBLOCK)

    def unplug(self, number: int = 0) -> None:
        os.close(self.writers.pop(number))

    def feed(self, scans: list[bytes], number: int = 0) -> None:
        os.write(self.writers[number], b"".join(scans))

    def close(self) -> None:
        for number in list(self.writers):
            self.unplug(number)

    def text(self, name: str, number: int = 0) -> str:
        return (self.device(number) / name).read_text().strip()

    def sensor(self, **settings: object) -> IioSensor:
        return IioSensor(Sensor(backend="iio", **settings), self.sysfs, self.root / "dev")  # type: ignore[arg-type]

    def imu(self, offset_s: list[float] | None = None, **settings: object) -> IioImu:
        """Open the source; offset_s: a clock that a test can put forward."""
        offset = offset_s or [0.0]
        return IioImu(lambda: self.sensor(**settings), clock=lambda: time.monotonic() + offset[0])


def mpu_scan(time_s: float, acc: tuple[int, int, int], gyr: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """Six big-endian words without the disabled temperature, filled up to 8 bytes, and the stamp."""
    return struct.pack(">6h4x", *acc, *gyr) + struct.pack("<q", round(time_s * 1e9))


def half_scan(time_s: float, values: tuple[int, int, int]) -> bytes:
    """Three little-endian words, filled up to 8 bytes, and the stamp."""
    return struct.pack("<3h2xq", *values, round(time_s * 1e9))
