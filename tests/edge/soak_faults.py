"""Simulated hours of the whole daemon loop on an in-process bus where faults strike at random; the verdict as JSON.

Two runs over the same walk, one without faults. In the other, every frame that the driver delivers is compared with
what the chip measured, memory is noted every hour, and the steps outside the reported gaps are compared with those of
the run without faults. Time is virtual, the seed is an option, everything else is the real code.

    python -m tests.edge.soak_faults --hours 24 --seed 1 --directory /tmp/soak
"""

from __future__ import annotations

import argparse
import errno
import json
import random
import sqlite3
import struct
import sys
import time
from array import array
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge import config as configuration
from edge import daemon
from edge.health import rss_mb
from edge.imu import open_imu
from edge.imu.fifo import FifoImu
from edge.types import BatchFlag
from emulator.bus import EmulatedBus
from emulator.gait import simulate_walk
from emulator.inprocess import VirtualTime, opener
from emulator.mpu6050 import Mpu6050
from tests.edge.imu.bench import sample_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.imu.status import SensorStatus
    from edge.types import SampleBatch

BUS = "/dev/i2c-1"
RATE_HZ = 100.0
EPOCH_S = 1_800_000_000.0
WALK_S, REST_S, BOUTS = 75.0, 45.0, 5
LEAST_PAUSE_S = 15.0
HISTORY = 4096
STANDARD_GRAVITY = 9.80665
MATCH_S = 0.12
"""Three frames of the model: a flat-topped probability may peak in any of them, see test_daemon."""
BEFORE_S, AFTER_S, SHORT_S = 2.0, 2.0, 12.0
"""What a gap takes with it: steps whose surroundings it hides, segments too short to be sure that somebody walks."""


class RememberingChip(Mpu6050):
    """A chip that keeps the last words it has put into its FIFO, by its sample count."""

    def __init__(self, imu: np.ndarray[tuple[int, int], np.dtype[np.float64]], clock: Callable[[], float]) -> None:
        self.history = np.zeros((HISTORY, 7), np.int16)
        super().__init__(imu, RATE_HZ, start_s=clock(), repeats=True, gyro_counter=True, clock=clock)

    def _queue(self) -> None:
        self.history[self.samples_taken % HISTORY] = struct.unpack(">7h", self._registers[0x3B:0x49])
        super()._queue()


class Chaos:
    """Lets a fault strike every few minutes, until told otherwise."""

    def __init__(
        self, chip: RememberingChip, bus: EmulatedBus, devices: dict[int, RememberingChip], seed: int, pause_s: float
    ) -> None:
        self._mean_pause_s = pause_s
        self.struck: Counter[str] = Counter()
        self._chip, self._bus, self._devices = chip, bus, devices
        self._random = random.Random(seed)  # noqa: S311  faults, not keys
        self._due_s = bus.clock() + self._pause_s()
        self._undo: list[tuple[float, Callable[[], object]]] = []

    def turn(self) -> None:
        """Strike if it is time, and undo what is over."""
        now_s = self._bus.clock()
        for at_s, undo in self._undo:
            if now_s >= at_s:
                undo()
        self._undo = [(at_s, undo) for at_s, undo in self._undo if now_s < at_s]
        if now_s >= self._due_s and not self._undo:
            self._bus.clear_faults()
            name = self._random.choice(sorted(self._kinds()))
            self.struck[name] += 1
            self._kinds()[name]()
            self._due_s = now_s + self._pause_s()

    def _pause_s(self) -> float:
        return LEAST_PAUSE_S + self._random.expovariate(1.0 / (self._mean_pause_s - LEAST_PAUSE_S))

    def _kinds(self) -> dict[str, Callable[[], object]]:
        chip, some = self._chip, self._random
        seconds = some.uniform(0.05, 3.0)
        return {
            "nack": lambda: self._bus_fault("nack", seconds, some.choice((errno.EREMOTEIO, errno.ENXIO, errno.EIO))),
            "nack burst": lambda: self._bus_fault("nack_after", 60.0, errno.EIO, times=1, register=0x74),
            "time-out": lambda: self._bus_fault("timeout", seconds),
            "again": lambda: self._bus_fault("again", seconds),
            "busy": lambda: self._bus_fault("busy", seconds),
            "unsupported": lambda: self._bus_fault("unsupported", seconds),
            "gone": lambda: self._bus_fault("gone", seconds),
            "stuck": lambda: self._bus_fault("stuck", seconds),
            "stall before": lambda: self._bus_fault("stall", 60.0, seconds, times=1, register=0x72),
            "stall in between": lambda: self._bus_fault("stall", 60.0, seconds, times=1, register=0x74),
            "glitch": chip.power_cycle,
            "glitch in burst": lambda: self._bus_fault("glitch", 60.0, times=1, register=0x74),
            "garbage once": lambda: self._bus_fault("garbage", 60.0, times=1),
            "garbage burst": lambda: self._bus_fault("garbage", 60.0, times=1, register=0x74),
            "garbage level": lambda: self._bus_fault("garbage", 60.0, times=some.randint(1, 3), register=0x72),
            "garbage": lambda: self._bus_fault("garbage", seconds),
            "fill": lambda: self._bus_fault("fill", seconds, some.randrange(256)),
            "misaligned": lambda: chip.drop_fifo_bytes(some.randint(1, 13)),
            "emptied": lambda: chip.drop_fifo_bytes(2000),
            "drift": lambda: chip.poke(some.choice((0x19, 0x1A, 0x1B, 0x1C, 0x23, 0x6A, 0x6B)), some.randrange(128)),
            "frozen": self._freeze,
            "unplugged": self._unplug,
            "odr": lambda: setattr(chip, "rate_error", some.uniform(-0.05, 0.05)),
        }

    def _bus_fault(
        self,
        kind: str,
        seconds: float,
        argument: float | None = None,
        times: int | None = None,
        register: int | None = None,
    ) -> None:
        self._bus.inject_now(kind, for_s=seconds, argument=argument, times=times, register=register)

    def _freeze(self) -> None:
        self._chip.frozen = True
        self._undo.append((self._bus.clock() + 8.0, lambda: setattr(self._chip, "frozen", False)))

    def _unplug(self) -> None:
        self._devices.pop(0x68, None)
        self._chip.power_cycle()
        away_s = self._random.uniform(0.5, 30.0)
        self._undo.append((self._bus.clock() + away_s, lambda: self._devices.update({0x68: self._chip})))


class Watched:
    """The driver, with every batch checked on its way to the pipeline; ends after `hours`."""

    def __init__(
        self, imu: FifoImu, chip: RememberingChip, time_: VirtualTime, hours: float, chaos: Chaos | None
    ) -> None:
        self._imu, self._chip, self._time, self._chaos = imu, chip, time_, chaos
        self.name, self.sampling_rate_hz = imu.name, imu.sampling_rate_hz
        self.hardware_total = imu.hardware_total
        self._started_s = time_.now()
        self._end_s = self._started_s + hours * 3600.0
        self._last = self._frozen = 0
        self._last_s = self._started_s
        self.gaps = array("d")
        self.garbage = self.samples = 0
        self.rss_mb: list[float] = []

    def batches(self) -> Iterator[SampleBatch]:
        """Yield what the driver yields."""
        for batch in self._imu.batches():
            self.name, self.sampling_rate_hz = self._imu.name, self._imu.sampling_rate_hz
            if len(batch.imu):
                self._check(batch)
            yield batch
            if self._chaos is not None:
                self._chaos.turn()
            now_s = self._time.now()
            if now_s >= self._started_s + 3600.0 * (len(self.rss_mb) + 1):
                self.rss_mb.append(rss_mb() or 0.0)
                print(f"{len(self.rss_mb)} h", file=sys.stderr, flush=True)
            if now_s >= self._end_s:
                self._imu.close()

    def counters(self) -> dict[str, int]:
        return self._imu.counters()

    def status(self) -> SensorStatus:
        return self._imu.status()

    def close(self) -> None:
        self._imu.close()

    def _check(self, batch: SampleBatch) -> None:
        """Compare with what the chip measured; inside a segment no sample may be missing, double or out of order."""
        lsb = np.array([STANDARD_GRAVITY / 4096] * 3 + [np.pi / 180 / 32.8] * 3)
        words = np.round(batch.imu / lsb).astype(np.int64)
        counts = np.array(sample_counts(batch))
        newest = self._chip.samples_taken
        index = newest - (newest - counts) % 65536
        wrong = (words != self._chip.history[index % HISTORY][:, [0, 1, 2, 4, 5, 6]]).any(axis=1)
        wrong |= newest - index >= HISTORY
        if BatchFlag.GAP_BEFORE in batch.flags:
            # What a frozen sensor repeated until it was found out was passed on, and is reported as lost afterwards.
            frozen = self._imu.counters()["frozen_samples"]
            began_s = self._last_s - (frozen - self._frozen) / RATE_HZ
            self._frozen = frozen
            self.gaps.extend((began_s, float(batch.time_s[0])))
        elif self.samples:
            wrong[0] |= index[0] != self._last + 1
        wrong[1:] |= np.diff(index) != 1
        if not self._chip.frozen:
            self.garbage += int(wrong.sum())
        self.samples += len(index)
        self._last, self._last_s = int(index[-1]), float(batch.time_s[-1])


def walk() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return minutes of walking and standing in turn, [N, 6]."""
    parts = []
    noise = np.random.default_rng(3)
    for bout in range(BOUTS):
        parts.append(simulate_walk(WALK_S, seed=100 + bout).imu.astype(np.float64))
        still = np.repeat(parts[-1][-1:], int(REST_S * RATE_HZ), axis=0)
        parts.append(still + noise.normal(0.0, 0.02, still.shape))
    return np.vstack(parts)


def run(
    directory: Path, hours: float, seed: int | None, port: int, pause_s: float
) -> tuple[Watched, np.ndarray, Chaos | None]:
    """Run the daemon for so long; return what was seen and the times of the steps, virtual seconds."""
    virtual = VirtualTime()
    chip = RememberingChip(walk(), virtual.now)
    devices = {0x68: chip}
    bus = EmulatedBus(devices, clock=virtual.now, sleep=virtual.sleep, seed=seed or 0)
    chaos = None if seed is None else Chaos(chip, bus, devices, seed, pause_s)
    path = directory / f"outbox-{seed}.db"
    for old in directory.glob(f"{path.name}*"):
        old.unlink()
    environ = {
        "FOOTFALL__MQTT__HOST": "127.0.0.1",
        "FOOTFALL__MQTT__PORT": str(port),
        "FOOTFALL__OUTBOX__PATH": str(path),
        "FOOTFALL__LOGGING__LEVEL": "error",
    }
    config = configuration.load(None, environ)
    daemon.set_up_logging(config)
    imu = open_imu(config.sensor, open_bus=opener({BUS: bus}), clock=virtual.now, sleep=virtual.sleep, wait=True)
    assert isinstance(imu, FifoImu)
    watched = Watched(imu, chip, virtual, hours, chaos)
    daemon.run(
        config,
        open_source=lambda _: watched,
        clock=virtual.now,
        wall_clock=lambda: EPOCH_S + virtual.now(),
    )
    with sqlite3.connect(path) as db:
        stamps = [row[0] for row in db.execute("SELECT ts_ms FROM step ORDER BY total")]
    return watched, np.array(stamps) / 1000.0 - EPOCH_S, chaos


def hidden(gaps: array[float]) -> list[tuple[float, float]]:
    """Return the times around the reported gaps in which steps are not compared."""
    zones: list[tuple[float, float]] = []
    for began_s, ended_s in zip(gaps[::2], gaps[1::2], strict=True):
        if zones and began_s - zones[-1][1] < SHORT_S:
            zones[-1] = (zones[-1][0], ended_s + AFTER_S)
        else:
            zones.append((began_s - BEFORE_S, ended_s + AFTER_S))
    return zones


def outside(steps_s: np.ndarray, zones: list[tuple[float, float]]) -> np.ndarray:
    """Return the steps that lie in none of the zones."""
    edges = np.array([edge for zone in zones for edge in zone])
    kept = steps_s[np.searchsorted(edges, steps_s) % 2 == 0]
    return np.asarray(kept)


def differences(expected_s: np.ndarray, found_s: np.ndarray) -> tuple[int, int]:
    """Return (missing, surplus) steps; one step matches one other within MATCH_S, in order of time."""
    expected, found = deque(expected_s.tolist()), deque(found_s.tolist())
    missing = surplus = 0
    while expected and found:
        ahead_s = found[0] - expected[0]
        if abs(ahead_s) <= MATCH_S:
            expected.popleft()
            found.popleft()
        elif ahead_s > 0:
            expected.popleft()
            missing += 1
        else:
            found.popleft()
            surplus += 1
    return missing + len(expected), surplus + len(found)


def main() -> int:
    """Run twice and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=150.0, help="mean seconds between two faults")
    parser.add_argument("--port", type=int, default=9, help="of a broker; by default none is there")
    parser.add_argument("--directory", type=Path, required=True, help="where the outboxes go")
    options = parser.parse_args()
    began_s = time.monotonic()
    calm, expected_s, _ = run(options.directory, options.hours, None, options.port, options.pause)
    stormy, found_s, chaos = run(options.directory, options.hours, options.seed, options.port, options.pause)
    assert chaos is not None
    zones = hidden(stormy.gaps)
    expected_out_s, found_out_s = outside(expected_s, zones), outside(found_s, zones)
    missing, surplus = differences(expected_out_s, found_out_s)
    report = {
        "hours": options.hours,
        "seed": options.seed,
        "faults": sum(chaos.struck.values()),
        "kinds": dict(sorted(chaos.struck.items())),
        "samples": stormy.samples,
        "garbage_frames": stormy.garbage + calm.garbage,
        "gaps": len(stormy.gaps) // 2,
        "gap_s": round(sum(stormy.gaps[1::2]) - sum(stormy.gaps[::2]), 1),
        "hidden_s": round(sum(end_s - start_s for start_s, end_s in zones), 1),
        "counters": stormy.counters(),
        "steps_without_faults": len(expected_s),
        "steps_with_faults": len(found_s),
        "steps_outside_gaps_without_faults": len(expected_out_s),
        "steps_outside_gaps_with_faults": len(found_out_s),
        "missing": missing,
        "surplus": surplus,
        "rss_mb": stormy.rss_mb,
        "wall_s": round(time.monotonic() - began_s, 1),
    }
    print(json.dumps(report))
    return 0 if missing == surplus == report["garbage_frames"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
