"""A walk that goes round and round on an emulated bus, the real daemon on it, and what a fault in it has cost."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from emulator import EmulatorError, children
from emulator.bus import EmulatedBus
from emulator.fuse import FuseI2c
from emulator.gait import simulate_walk
from emulator.mpu6050 import MPU_6500, Mpu6050
from emulator.ports import free_port
from emulator.rig import DaemonProcess, Ear, epoch_s, start_broker, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

LOOP_S = 120.0
RATE_HZ = 100.0
WARM_UP_S = 8.0
SETTLE_S = 9.0
"""After a gap: until the model is sure that somebody walks, and has released the steps that waited for it."""
PATIENCE_S = 90.0
TOLERANCE_SAMPLES = 3
_SAMPLES = re.compile(r"samples=(\d+) segment=(\d+) newest_s=([0-9.]+) lost=(\d+)")
_STATES = re.compile(r"sensor (\w+) \(was \w+\): (.*)")


@dataclass(frozen=True, slots=True)
class Heard:
    """One batch that the daemon delivered to its pipeline. samples, lost: all so far; newest_s: monotonic."""

    samples: int
    segment: int
    newest_s: float
    lost: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault has cost.

    samples_lost: by the time stamps on both sides; samples_reported: in the health topic; steps_lost: of those that
    the walk has in that time, negative if too many; recover_s: from the fault's end to the first good sample;
    states: those the sensor went through; reasons: why; counters: those that moved.
    """

    samples_lost: int
    samples_reported: int
    steps_walked: int
    steps_lost: int
    recover_s: float
    states: list[str]
    reasons: list[str]
    counters: dict[str, int] = field(default_factory=dict)
    quality: list[str] = field(default_factory=list)
    rate_hz: float = 0.0


class Scene:
    """The stage: a broker, a subscriber, a bus with a walking MPU-6050 at 0x68, and the daemon. A context manager.

    present: whether the sensor is plugged in at the start; module: the program, see DaemonProcess.
    """

    def __init__(self, directory: Path, *, present: bool = True, mounted: bool = True, module: str = "edge") -> None:
        self.walk = simulate_walk(LOOP_S, seed=21)
        self.chip = self._walker()
        self.other = self._walker(silicon=MPU_6500)
        self.devices: dict[int, Any] = {0x68: self.chip} if present else {}
        self.bus = EmulatedBus(self.devices)
        self.mount = FuseI2c(directory / "i2c-1", self.bus)
        self._rates = [(time.monotonic(), RATE_HZ)]
        self._frozen_s = (0.0, 0.0)
        self._directory, self._mounted, self._module = directory, mounted, module
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        port = free_port()
        self._stack.callback(children.stop, start_broker(self._directory, port))
        self.ear = Ear(port)
        self._stack.callback(self.ear.end)
        wait_for(self.ear.ready.is_set, "the subscriber is ready", timeout_s=PATIENCE_S)
        self._stack.callback(self._unmount)
        if self._mounted:
            self.mount.mount()
        sensor = {"type": "auto", "bus": str(self.mount.path)}
        self.daemon = DaemonProcess(self._directory, sensor, port, health_s=5.0, level="debug", module=self._module)
        self._stack.callback(self.daemon.end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _unmount(self) -> None:
        self.mount.close()  # whichever it is by then

    def remount(self) -> None:
        """Bring the device node back after `mount.close()`."""
        self.mount = FuseI2c(self.mount.path, self.bus)
        self.mount.mount()

    def heard(self) -> list[Heard]:
        """Every batch that was delivered so far, from the daemon's log."""
        found = _SAMPLES.findall(self.daemon.said)
        return [
            Heard(int(samples), int(segment), float(newest_s), int(lost)) for samples, segment, newest_s, lost in found
        ]

    def _heard_with(self, lost: int) -> Heard:
        """Return the last batch at which so many samples were known to be lost."""
        return next(one for one in reversed(self.heard()) if one.lost == lost)

    def warm_up(self) -> None:
        """Wait until the daemon has counted a while; EmulatorError if it does not."""
        self.wait(lambda: len(self.heard()) > 0, "the first samples")
        first_s = self.heard()[0].newest_s
        self.wait(lambda: self.heard()[-1].newest_s > first_s + WARM_UP_S, "samples for some seconds")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something while the daemon lives."""
        wait_for(lambda: condition() or not self.daemon.alive, what, timeout_s=PATIENCE_S)
        if not self.daemon.alive:
            raise EmulatorError(f"the daemon has ended: {self.daemon.said[-2000:]}")

    def play(self, inject: Callable[[Scene], float]) -> Outcome:
        """Let a fault happen; inject returns how many seconds it lasts, and has undone it by then or does it itself."""
        counted = self._counters()
        before = self._heard_with(counted["gap_samples"])
        said, qualities = len(self.daemon.said), len(self.ear.qualities)
        began_s = time.monotonic()
        ended_s = began_s + inject(self)
        self.wait(lambda: self.heard()[-1].newest_s > ended_s, "samples after the fault")
        self.wait(lambda: self.heard()[-1].newest_s > ended_s + SETTLE_S, "samples for a while after the fault")
        report = self._report_after(ended_s + SETTLE_S)
        after = self._heard_with(report["gap_samples"])
        states = _STATES.findall(self.daemon.said[said:])
        taken, delivered = self._taken_between(before.newest_s, after.newest_s), after.samples - before.samples
        passed_on = self._passed_on_frozen(before.newest_s)
        walked, counted_steps = self._steps(before.newest_s, after.newest_s - SETTLE_S / 2)
        return Outcome(
            samples_lost=round(taken) - delivered + passed_on,
            samples_reported=report["gap_samples"] + report["frozen_samples"] - _gaps(counted),
            steps_walked=walked,
            steps_lost=walked - counted_steps,
            recover_s=max(0.0, self._first_after(began_s, ended_s) - ended_s),
            states=[state for state, _ in states],
            reasons=[reason for _, reason in states],
            counters={name: report[name] - counted[name] for name in counted if report[name] != counted[name]},
            quality=sorted(set(self.ear.qualities[qualities:])),
            rate_hz=report["rate_hz"],
        )

    def unplug(self) -> None:
        """Pull the sensor out."""
        with self.bus.lock:
            self.devices.pop(0x68, None)
            self.chip.power_cycle()

    def plug_in(self) -> None:
        """Put the sensor back, without power until now."""
        with self.bus.lock:
            self.chip.power_cycle()
            self.devices[0x68] = self.chip

    def become(self, who_am_i: int) -> None:
        """Put a chip with another identity in the sensor's place."""
        with self.bus.lock:
            self.chip.who_am_i = who_am_i
            self.chip.power_cycle()

    def set_rate_error(self, percent: float) -> None:
        """Make the sensor's oscillator run off."""
        with self.bus.lock:
            self.chip.take_due()
            self.chip.rate_error = percent / 100.0
            self._rates.append((time.monotonic(), RATE_HZ * (1.0 + percent / 100.0)))

    def freeze(self) -> None:
        """Make the sensor repeat its sample."""
        with self.bus.lock:
            self.chip.take_due()
            self.chip.frozen = True
            self._frozen_s = (time.monotonic(), float("inf"))

    def thaw(self) -> None:
        """Make the sensor measure again."""
        with self.bus.lock:
            self.chip.take_due()
            self.chip.frozen = False
            self._frozen_s = (self._frozen_s[0], time.monotonic())

    def _passed_on_frozen(self, from_s: float) -> int:
        """Count the frozen frames that were delivered since an instant: they were no samples."""
        began_s, ended_s = self._frozen_s
        count = 0
        for earlier, later in pairwise(self.heard()):
            number = later.samples - earlier.samples
            times_s = later.newest_s - np.arange(number) / RATE_HZ
            count += int(((times_s > max(began_s, from_s)) & (times_s < ended_s)).sum())
        return count

    def _taken_between(self, from_s: float, to_s: float) -> float:
        """Return how many samples a sensor that is never reset nor taken away makes between two instants."""
        ends_s = [began_s for began_s, _ in self._rates[1:]] + [float("inf")]
        return sum(
            max(0.0, min(end_s, to_s) - max(began_s, from_s)) * rate_hz
            for (began_s, rate_hz), end_s in zip(self._rates, ends_s, strict=True)
        )

    def _walker(self, **chip: Any) -> Mpu6050:
        return Mpu6050(self.walk.imu, RATE_HZ, start_s=time.monotonic(), repeats=True, **chip)

    def _counters(self) -> dict[str, int]:
        report = self._report_after(time.monotonic())
        return {name: value for name, value in report.items() if type(value) is int}

    def _report_after(self, monotonic_s: float) -> dict[str, Any]:
        """Return the sensor's part of the first health report made after an instant."""
        wall_s = time.time() - (time.monotonic() - monotonic_s)

        def reported() -> bool:
            return "health" in self.ear.last and self._epoch_s(self.ear.last["health"]["ts"]) > wall_s

        self.wait(reported, "a health report")
        sensor: dict[str, Any] = self.ear.last["health"]["sensor"]
        return sensor

    def _epoch_s(self, stamp: str) -> float:
        """Take the whole hours off again by which the daemon's wall clock may have been set forward."""
        ahead_s = epoch_s(stamp) - time.time()
        return epoch_s(stamp) - 3600.0 * round(ahead_s / 3600.0)

    def _first_after(self, began_s: float, ended_s: float) -> float:
        """Instant of the first sample of the first segment that began after the fault, or of the first batch at all."""
        heard = self.heard()
        for earlier, later in pairwise(heard):
            if later.newest_s > max(began_s, ended_s) or (later.segment > earlier.segment and later.newest_s > began_s):
                return later.newest_s - (later.samples - earlier.samples) / self.chip.sample_rate_hz
        return heard[-1].newest_s

    def _steps(self, from_s: float, to_s: float) -> tuple[int, int]:
        """Return (steps that the walk has, steps that the subscriber has) between two instants."""
        assert self.walk.steps is not None
        started_s = self.chip.started_s or 0.0
        first = np.floor((from_s - started_s) / LOOP_S)
        loop_s = LOOP_S - 1.0 / RATE_HZ
        true_s = np.concatenate([started_s + (first + i) * loop_s + self.walk.steps for i in range(3)])
        walked = int(((true_s >= from_s) & (true_s < to_s)).sum())
        offset_s = time.time() - time.monotonic()
        heard = [step for step in self.ear.steps if from_s <= self._monotonic(step.happened_s, offset_s) < to_s]
        return walked, len({step.seq for step in heard})

    def _monotonic(self, happened_s: float, offset_s: float) -> float:
        ahead_s = happened_s - time.time()
        return happened_s - 3600.0 * max(0, round(ahead_s / 3600.0)) - offset_s


def _gaps(counters: Mapping[str, int]) -> int:
    return counters["gap_samples"] + counters["frozen_samples"]
