"""`make stress`: what the daemon costs and loses at 100 and 200 Hz while both cores are busy.

It plays a simulated walk on the emulated bus to the real daemon, with a real broker, beside stress-ng on every core,
and prints one table row per rate: samples lost, CPU, wake-ups (voluntary context switches of all threads, without and
with those in which it waits for the I2C bus, one per transaction), latency.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import FootfallError, UsageError
from emulator import EmulatorError, children
from emulator.namespace import prepare
from emulator.ports import free_port
from emulator.rig import DaemonProcess, Ear, Usage, start_broker, usage, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM_UP_S = 15.0
LISTEN_S = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. cpu_percent of one core; latency_s: from a live step's time stamp to its arrival, median."""

    part: str
    rate_hz: float
    walking: bool
    seconds: float
    samples: int
    samples_lost: int
    steps: int
    cpu_percent: float
    wakes_per_s: float
    transfers_per_s: float
    latency_p50_s: float | None

    def row(self) -> str:
        """Return the table row."""
        latency = "-" if self.latency_p50_s is None else f"{self.latency_p50_s:.2f}"
        what = "walking" if self.walking else "at rest"
        return (
            f"| {self.part} | {self.rate_hz:g} | {what} | {self.seconds:.0f} | {self.samples} | {self.samples_lost} "
            f"| {self.steps} | {self.cpu_percent:.2f} | {self.wakes_per_s - self.transfers_per_s:.1f} "
            f"| {self.wakes_per_s:.1f} | {self.transfers_per_s:.1f} | {latency} |"
        )


HEADER = (
    "| sensor | Hz | activity | seconds | samples | lost | steps | CPU % | wakes/s | with I2C waits | I2C/s "
    "| latency p50 s |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def measure(part: str, rate_hz: float, seconds: float, *, walking: bool, directory: Path) -> Measured:
    """Run the daemon for warm-up and `seconds`; EmulatorError if it does not live through it."""
    import numpy as np  # noqa: PLC0415  after prepare(): it starts threads

    from emulator.bus import EmulatedBus  # noqa: PLC0415
    from emulator.chips import CHIPS, unknown, write_firmware  # noqa: PLC0415
    from emulator.fuse import FuseI2c  # noqa: PLC0415
    from emulator.gait import simulate_walk  # noqa: PLC0415

    if part not in CHIPS:
        raise UsageError(f"SENSORS has {unknown(part)}")
    still = np.tile(np.array([[0.0, 0.0, 9.80665, 0.0, 0.0, 0.0]]), (100, 1))
    imu = simulate_walk(seconds + 2 * WARM_UP_S, seed=5).imu if walking else still
    chip = CHIPS[part].make(imu, 100.0)
    bus = EmulatedBus(CHIPS[part].devices(chip))
    with ExitStack() as stack:
        port = free_port()
        stack.callback(children.stop, start_broker(directory, port))
        ear = Ear(port)
        stack.callback(ear.end)
        wait_for(ear.ready.is_set, "the subscriber is ready")
        stack.enter_context(FuseI2c(directory / "i2c-1", bus))
        sensor = {
            "bus": str(directory / "i2c-1"),
            "sampling_rate_hz": rate_hz,
            "firmware": str(write_firmware(directory)),
        }
        daemon = DaemonProcess(directory, sensor, port, health_s=5.0)
        stack.callback(daemon.end)
        wait_for(lambda: chip.started_s is not None or not daemon.alive, "the daemon has started the sensor")
        time.sleep(WARM_UP_S)
        if not daemon.alive:
            raise EmulatorError(f"the daemon has ended: {daemon.said}")
        before, taken, transfers, wall_s = usage(daemon.process.pid), chip.samples_queued, bus.transfers, time.time()
        time.sleep(seconds)
        after: Usage = usage(daemon.process.pid)
        samples, transfers = chip.samples_queued - taken, bus.transfers - transfers
        wait_for(lambda: "health" in ear.last, "the daemon has reported its health")
        time.sleep(LISTEN_S)
        live = sorted(
            step.received_s - step.happened_s for step in ear.steps if step.received_s > wall_s and not step.late
        )
        lost = int(ear.last["health"]["samples_dropped"]) + chip.samples_dropped
    cpu_percent, wakes = after.since(before)
    latency_s = live[len(live) // 2] if live else None
    return Measured(
        part, rate_hz, walking, seconds, samples, lost, len(live), cpu_percent, wakes, transfers / seconds, latency_s
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns 0, or 1 if a sample was lost."""
    parser = argparse.ArgumentParser(prog="python -m emulator.stress", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 200.0])
    parser.add_argument("--sensors", nargs="+", default=["mpu6050"], help="emulated parts, as make run's SENSOR")
    parser.add_argument("--quiet", action="store_true", help="leave the cores alone")
    parser.add_argument("--rest", action="store_true", help="also measure a device at rest")
    options = parser.parse_args(argv)
    try:
        if reason := prepare():
            raise EmulatorError(f"no emulated bus here: {reason}")
        with ExitStack() as stack:
            if not options.quiet:
                _load(stack)
            activities = [True, False] if options.rest else [True]
            return _table(options.sensors, options.rates, options.seconds, activities)
    except FootfallError as error:
        print(f"make stress: {error}", file=sys.stderr)
        return 2


def _load(stack: ExitStack) -> None:
    """Keep every core busy until the stack unwinds."""
    program = children.find_program("stress-ng", "stress-ng")
    cores = str(os.cpu_count())
    load = children.start([program, "--cpu", cores, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(children.stop, load)


def _table(parts: Sequence[str], rates_hz: Sequence[float], seconds: float, activities: Sequence[bool]) -> int:
    print(HEADER, flush=True)
    lost = 0
    for part, rate_hz, walking in itertools.product(parts, rates_hz, activities):
        with tempfile.TemporaryDirectory(prefix="footfall-") as directory:
            measured = measure(part, rate_hz, seconds, walking=walking, directory=Path(directory))
        print(measured.row(), flush=True)
        lost += measured.samples_lost
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
