"""What runs inside the User-Mode-Linux: emulated chips on its I2C, its own drivers on the chips, Footfall on those.

Every function takes and returns what JSON can hold.
"""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.imu import open_imu
from edge.imu.iio import SYSFS
from edge.outbox import Outbox
from edge.recording import load
from edge.settings import Sensor
from emulator.bus import EmulatedBus
from emulator.chips import CHIPS
from emulator.usbip import UsbIpAdapter
from tests.uml.guest import OUTPUT
from tests.uml.wiring import CHIP_LABEL, PIN_OF, Wired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.types import SampleBatch
    from emulator.bus import Message

NEW_DEVICE = Path("/sys/devices/platform/footfall-dataready/new_device")
KERNEL_NAME = {"lsm6ds3trc": "lsm6ds3tr-c", "lsm9ds1": "lsm9ds1-imu", "icm42688": "icm42605"}
"""Where the kernel's name for a part is not ours. Linux 6.1 knows a sibling of the ICM-42688-P with the same map."""
IDENTITY = {"icm42688": {"who_am_i": 0x42}}
"""INV_ICM42600_WHOAMI_ICM42605."""
STILL = (1.5, -2.5, 9.0, 0.3, -0.6, 0.9)
"""m/s² and rad/s, different on each axis."""
SECONDS_BETWEEN_LOOKS = 0.1
BMI160_LINE, USB_PORTS = 10, 8
BUFFERED = sorted(set(PIN_OF) - {"lsm9ds1"})
"""The kernel's st_lsm6dsx has neither FIFO nor trigger for the LSM9DS1, only single reads."""
MOVEMENT_S = 6.0
FIRST_SAMPLE_S = 0.1
"""After a driver has started a chip, until there is a sample of every sensor."""
UNPLUGGED_S = 1.0
"""What the kernel takes to notice that an adapter is gone."""


@dataclass
class Bench:
    """One emulated chip behind an I2C adapter of this kernel."""

    chip: Wired
    bus: MeteredBus
    adapter: UsbIpAdapter
    address: int

    def bind(self, name: str, *, wired: bool = True) -> list[Path]:
        """Let the kernel's driver have the chip; returns its IIO devices, none if the driver refused it."""
        if wired:
            self.chip.start()
        line = self.chip.line if wired else -1
        kernel_name = KERNEL_NAME.get(name, name)
        NEW_DEVICE.write_text(f"{self.adapter.number} {kernel_name} {self.address:#x} {CHIP_LABEL} {line}\n")
        client = f"{self.adapter.number}-{self.address:04x}"
        return sorted(path for path in SYSFS.glob("iio:device*") if path.resolve().parent.name == client)

    def unplug(self) -> None:
        """Take the adapter away, and wait until its port is free again."""
        self.chip.stop()
        self.adapter.close()
        time.sleep(UNPLUGGED_S)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def bench(name: str, recording: np.ndarray[Any, Any], rate_hz: float, *, number: int = 0, **chip: Any) -> Bench:
    """Plug in an adapter with one emulated chip on a 400 kHz bus. number: of all plugged in since boot."""
    part = CHIPS[name]
    imu = part.make(recording, rate_hz, **IDENTITY.get(name, {}), **chip)
    # BMI160's node in the device tree names its line; the others are told theirs, and each line is taken once.
    line = BMI160_LINE if name == "bmi160" else number + (number >= BMI160_LINE)
    wired = Wired(imu, PIN_OF[name], line)
    bus = MeteredBus(part.devices(imu) | {part.address: wired})
    return Bench(wired, bus, UsbIpAdapter(bus, port=number % USB_PORTS), part.address)


def raw_reads(names: list[str]) -> dict[str, Any]:
    """Let the kernel's driver probe each chip, lying still, and read its channels one by one."""
    answers: dict[str, Any] = {}
    for number, name in enumerate(names):
        one = bench(name, np.array([STILL]), 100.0, number=number)
        devices = one.bind(name)
        time.sleep(FIRST_SAMPLE_S)
        answers[name] = {"devices": [_text(path / "name") for path in devices], "values": _raw_values(devices)}
        one.unplug()
    return answers


def _raw_values(devices: list[Path]) -> dict[str, float]:
    values: dict[str, float] = {}
    for path, kind, axis in itertools.product(devices, ("accel", "anglvel"), "xyz"):
        raw = path / f"in_{kind}_{axis}_raw"
        if raw.exists():
            scale = path / f"in_{kind}_scale"
            values[f"{kind}_{axis}"] = int(_text(raw)) * float(_text(scale))
    return values


def buffered_reads(names: list[str], seconds: float) -> dict[str, Any]:
    """Let each chip in turn feel a slow movement, and read it as buffered() does."""
    answers: dict[str, Any] = {}
    for number, name in enumerate(names):
        try:
            answers[name] = buffered(name, seconds, number=number)
        except Exception:  # noqa: BLE001  the other chips shall be heard as well
            answers[name] = {"error": traceback.format_exc()}
    return answers


def buffered(name: str, seconds: float, rate_error: float = 0.0, number: int = 0) -> dict[str, Any]:
    """Read a slow movement through the kernel's driver and its buffer, data-ready by data-ready."""
    # At 1 kHz, so that the emulator's interpolation does not show; from now on, because not every driver uses the FIFO.
    movement = slow_movement(np.arange(0.0, seconds + 10.0, 0.001))
    one = bench(name, movement, 1000.0, number=number, rate_error=rate_error, start_s=time.monotonic())
    names = [_text(path / "name") for path in one.bind(name)]
    try:
        imu = open_imu(Sensor(backend="iio", bus=one.adapter.number, address=one.address))
        taken = _take(imu.batches(), seconds)
        imu.close()
    finally:
        one.unplug()
    return _report(one, taken) | {
        "devices": names,
        "name": imu.name,
        "odr_hz": imu.sampling_rate_hz,
        "counters": imu.counters(),
    }


def attributes(name: str) -> dict[str, Any]:
    """Return what the kernel shows of a chip that is one IIO device, as tests/edge/imu/iio_tree.py fakes it."""
    one = bench(name, np.array([STILL]), 100.0)
    (directory,) = one.bind(name)
    files = [path for path in (*directory.iterdir(), *(directory / "trigger").iterdir()) if path.is_file()]
    buffer = directory / "buffer0"
    channels = [path.name[3:-3] for path in buffer.glob("in_*_en")]
    return {
        "attributes": {
            str(path.relative_to(directory)): _text(path) for path in files if not path.name.endswith("_raw")
        },
        "elements": {
            channel: [int(_text(buffer / f"in_{channel}_index")), _text(buffer / f"in_{channel}_type")]
            for channel in channels
        },
    }


def slow_movement(time_s: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[N, 6] in m/s² and rad/s: on each channel a slow wave of its own, so that no two can be confused."""
    periods_s = np.array([3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    sizes = np.array([3.0, 5.0, 7.0, 1.0, 2.0, 3.0])
    return np.asarray(sizes * np.sin(2 * math.pi * time_s[:, None] / periods_s + np.arange(6)))


def _take(batches: Iterator[SampleBatch], seconds: float) -> list[tuple[float, SampleBatch]]:
    """Batches with the instant at which each came."""
    end_s = time.monotonic() + seconds
    taken = []
    for batch in batches:
        now_s = time.monotonic()
        taken.append((now_s, batch))
        if now_s > end_s:
            break
    return taken


def _report(one: Bench, taken: list[tuple[float, SampleBatch]]) -> dict[str, Any]:
    some = [(now_s, batch) for now_s, batch in taken if len(batch.time_s)]
    return {
        "started_s": one.chip.chip.started_s,
        "time_s": np.concatenate([batch.time_s for _, batch in some]).tolist() if some else [],
        "imu": np.concatenate([batch.imu for _, batch in some]).tolist() if some else [],
        "segments": sorted({batch.segment for _, batch in some}),
        "batches": len(some),
        "edges": one.chip.edges,
    }


def without_int_line(name: str) -> str:
    """Bind the driver without an interrupt; returns what Footfall says then."""
    one = bench(name, np.array([STILL]), 100.0)
    one.bind(name, wired=False)
    try:
        open_imu(Sensor(backend="iio")).close()
    except OSError as error:
        return str(error)
    return ""


def both_at_once() -> dict[str, str]:
    """User-space I2C while a kernel driver holds the chip, then IIO while nobody reads: what Footfall says."""
    one = bench("mpu6050", np.array([STILL]), 100.0)
    one.bind("mpu6050")
    said = {}
    try:
        open_imu(Sensor(bus=one.adapter.number)).close()
    except OSError as error:
        said["i2c"] = str(error)
    first = open_imu(Sensor(backend="iio"))
    try:
        open_imu(Sensor(backend="iio")).close()
    except OSError as error:
        said["iio"] = str(error)
    first.close()
    return said


def daemon(recording: str, name: str) -> dict[str, Any]:
    """`footfall run` on the kernel's IIO buffer until the recording has been played; returns the steps it stored."""
    played = load(OUTPUT / recording)
    one = bench(name, played.imu, played.sampling_rate_hz)
    one.bind(name)
    outbox_path = Path("/mnt/outbox.db")
    config = {
        "device": {"id": "uml"},
        "sensor": {"backend": "iio", "bus": one.adapter.number},
        "outbox": {"path": str(outbox_path)},
    }
    Path("/mnt/config.yaml").write_text(json.dumps(config), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "edge", "run", "--config", "/mnt/config.yaml"])
    wall_minus_monotonic_s = time.time() - time.monotonic()
    while not one.chip.chip.finished and process.poll() is None:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    time.sleep(3.0)
    voluntary = _voluntary_switches(process.pid)
    process.send_signal(signal.SIGTERM)
    status = process.wait()
    outbox = Outbox(outbox_path, max_age_h=1e5, max_bytes=2**30)
    rows = outbox.pending(10_000)
    started_s = one.chip.chip.started_s or 0.0
    return {
        "exit_status": status,
        "total": outbox.total,
        "steps_s": [row.ts_ms / 1000.0 - wall_minus_monotonic_s - started_s for row in rows],
        "samples_queued": one.chip.chip.samples_queued,
        "edges": one.chip.edges,
        "wakeups_per_s": voluntary / played.duration_s,
    }


def _voluntary_switches(pid: int) -> int:
    """How often a process has gone to sleep, over all its threads."""
    count = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt"))
        count += int(line.split()[1])
    return count


def figures(backend: str, seconds: float, stall_s: float = 0.0) -> dict[str, Any]:
    """Measure what one backend costs and loses at 100 Hz with an MPU-6050: wake-ups, bus, latency, samples.

    stall_s: for so long, in the middle, every transfer fails as on a wedged bus.
    """
    one = bench("mpu6050", np.array([STILL]), 100.0)
    if backend == "iio":
        one.bind("mpu6050")
    imu = open_imu(Sensor(backend=backend, bus=one.adapter.number), gyroscope=False)
    batches = imu.batches()
    _take(batches, 2.0)  # until it has settled
    before = _Use.now(one.bus)
    taken = _take(batches, seconds / 2)
    if stall_s:
        one.bus.inject_now("stuck", for_s=stall_s)
    taken += _take(batches, seconds / 2)
    use = _Use.now(one.bus)
    imu.close()
    some = [(now_s, batch) for now_s, batch in taken if len(batch.time_s)]
    times = np.concatenate([batch.time_s for _, batch in some])
    ages_s = np.concatenate([now_s - batch.time_s for now_s, batch in some])
    return {
        "wakeups_per_s": (use.switches - before.switches) / seconds,
        "messages_per_s": (use.messages - before.messages) / seconds,
        "wire_percent": 100.0 * (use.wire_s - before.wire_s) / seconds,
        "latency_mean_ms": 1000.0 * float(ages_s.mean()),
        "latency_max_ms": 1000.0 * float(ages_s.max()),
        "samples": len(times),
        # By the clock, not by the chip's own count: while it is being set up anew it runs at other rates.
        "lost": round((float(times[-1]) - float(times[0])) * 100.0) + 1 - len(times),
        "counters": imu.counters(),
    }


@dataclass(frozen=True, slots=True)
class _Use:
    """What had been used until an instant: sleeps of the reading thread, messages, time on the wire."""

    switches: int
    messages: int
    wire_s: float

    @classmethod
    def now(cls, bus: MeteredBus) -> _Use:
        thread = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text(encoding="utf-8")
        (line,) = (line for line in thread.splitlines() if line.startswith("voluntary_ctxt"))
        return cls(int(line.split()[1]), bus.transfers, bus.wire_s)


class MeteredBus(EmulatedBus):
    """A bus that adds up how long it was busy. wire_s: seconds so far."""

    wire_s = 0.0

    def _wire(self, message: Message) -> None:
        started_s = self.clock()
        super()._wire(message)
        self.wire_s += self.clock() - started_s
