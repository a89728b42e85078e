"""The figures of docs/decisions/0006-user-space-i2c-or-iio.md: `make uml-figures`.

Everything but CPU time comes from a User-Mode-Linux in simulated time and is the same on every machine. CPU time is
that of the reading process here: user-space I2C over a FUSE file, IIO over a pipe fed as the watermark would. What the
kernel itself spends on IIO, an interrupt and its transactions for every sample, is not in it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.imu import Imu, open_imu
from edge.imu.iio import IioImu, IioSensor
from edge.settings import Sensor
from emulator.bus import EmulatedBus
from emulator.fuse import FuseI2c
from emulator.mpu6050 import Mpu6050
from emulator.namespace import prepare
from tests.edge.imu.iio_tree import ELEMENTS, MPU6050, Tree, mpu_scan
from tests.uml import host, jobs

CPU_SECONDS = 60.0
BLOCK_S = 0.09
SECONDS, STALL_S = 60.0, 3.0
BOOT_TIMEOUT_S = 1200.0
BACKENDS = ("i2c", "iio")


def main() -> int:
    """Print the tables; or, as a child, read one source for a while and print what that cost."""
    if len(sys.argv) > 1:
        return _read(*sys.argv[1:])
    no_fuse = prepare()
    print(f"reading process, {CPU_SECONDS:g} s at 100 Hz:\n\n| | i2c | iio |\n|---|---|---|")
    used = (None if no_fuse else _reader_i2c(), _reader_iio())
    for name in ("CPU seconds an hour", "wake-ups a second", "MB"):
        print(
            f"| {name} | {' | '.join('no FUSE here' if one is None else f'{one[name]:.3g}' for one in used)} |",
            flush=True,
        )
    if not host.built():
        print("\nno User-Mode-Linux here: run `make test-uml` for the rest")
        return 1
    quiet = [_in_uml(backend, 0.0) for backend in BACKENDS]
    stalled = [_in_uml(backend, STALL_S) for backend in BACKENDS]
    print(f"\nwhole path in simulated time, {SECONDS:g} s at 100 Hz:\n\n| | i2c | iio |\n|---|---|---|")
    for name in ("messages_per_s", "wire_percent", "latency_mean_ms", "latency_max_ms", "lost"):
        print(f"| {name} | {' | '.join(f'{one[name]:.4g}' for one in quiet)} |")
    print(f"| lost, bus wedged for {STALL_S:g} s | {' | '.join(str(one['lost']) for one in stalled)} |")
    print(f"| reported as lost then | {' | '.join(str(one['counters']['gap_samples']) for one in stalled)} |")
    return 0


def _in_uml(backend: str, stall_s: float) -> Any:
    with tempfile.TemporaryDirectory(prefix="footfall-uml-") as directory:
        return host.run(
            jobs.figures,
            Path(directory),
            timeout_s=BOOT_TIMEOUT_S,
            backend=backend,
            seconds=SECONDS,
            stall_s=stall_s,
        ).result


def _reader_i2c() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="footfall-uml-") as directory:
        chip = Mpu6050(np.array([jobs.STILL]), 100.0)
        with FuseI2c(Path(directory) / "i2c-1", EmulatedBus({0x68: chip})):
            return _Child("i2c", directory).use()


def _reader_iio() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="footfall-uml-") as directory:
        tree = Tree(Path(directory))
        tree.add(MPU6050, ELEMENTS)
        child = _Child("iio", directory)
        sent_s = time.monotonic()
        while child.process.poll() is None:
            time.sleep(BLOCK_S)
            due = int((time.monotonic() - sent_s) * 100)
            tree.feed([mpu_scan(sent_s + 0.01 * (index + 1), (0, 0, 4100)) for index in range(due)])
            sent_s += 0.01 * due
        tree.close()
        return child.use()


class _Child:
    """A process that reads one source."""

    def __init__(self, backend: str, directory: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.uml.figures", backend, directory], stdout=subprocess.PIPE, text=True
        )

    def use(self) -> dict[str, float]:
        """Return what it used for CPU_SECONDS of samples, as it reports at its end."""
        out, _ = self.process.communicate()
        found: dict[str, float] = json.loads(out)
        return found


def _read(backend: str, directory: str) -> int:
    imu: Imu
    if backend == "i2c":
        imu = open_imu(Sensor(bus=Path(directory) / "i2c-1"), gyroscope=False)
    else:
        tree = Path(directory)
        imu = IioImu(lambda: IioSensor(Sensor(backend="iio"), tree / "devices", tree / "dev"))
    batches = imu.batches()
    for _ in range(20):
        next(batches)
    started_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    while time.monotonic() < started_s + CPU_SECONDS:
        next(batches)
    after = resource.getrusage(resource.RUSAGE_SELF)
    imu.close()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wakeups = after.ru_nvcsw - before.ru_nvcsw
    used = {
        "CPU seconds an hour": 3600.0 * cpu_s / CPU_SECONDS,
        "wake-ups a second": wakeups / CPU_SECONDS,
        "MB": after.ru_maxrss / 1024,
    }
    print(json.dumps(used))
    return 0


if __name__ == "__main__":
    sys.exit(main())
