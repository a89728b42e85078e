"""Simulated hours of the whole daemon loop on an in-process bus where faults strike at random; the verdict as JSON.

Two runs over the same walk, one without faults. In the other, every frame that the driver delivers is compared with
what the chip measured, memory is noted every hour, and the steps outside the reported gaps are compared with those of
the run without faults. Time is virtual, the seed is an option, everything else is the real code.

    python -m tests.edge.soak_faults --hours 24 --seed 1 --directory /tmp/soak
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sqlite3
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge import config as configuration
from edge import daemon
from edge.imu import open_imu
from edge.imu.fifo import FifoImu
from emulator.bus import EmulatedBus
from emulator.gait import simulate_walk
from emulator.inprocess import VirtualTime, opener
from tests.edge.soak_chaos import Chaos
from tests.edge.soak_watch import NOTED, RATE_HZ, RememberingChip, Watched
from tests.edge.soak_zones import Margins, differences, hidden, is_marginal, outside

if TYPE_CHECKING:
    from array import array

    from edge.settings import Sensor
    from emulator.mpu6050 import Mpu6050

BUS = "/dev/i2c-1"
EPOCH_S = 1_800_000_000.0
GROWTH_MB = 2.0
"""Less than a byte for every sample of an hour would already be more than this in a day."""
MARGINAL_SHARE = 1e-3
WALK_S, REST_S, BOUTS = 75.0, 45.0, 5


def walk() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return minutes of walking and standing in turn, [N, 6]."""
    parts = []
    noise = np.random.default_rng(3)
    for bout in range(BOUTS):
        parts.append(simulate_walk(WALK_S, seed=100 + bout).imu.astype(np.float64))
        still = np.repeat(parts[-1][-1:], int(REST_S * RATE_HZ), axis=0)
        parts.append(still + noise.normal(0.0, 0.02, still.shape))
    return np.vstack(parts)


@dataclass
class Seen:
    """What one run has shown; steps_s: when feet touched, s on the virtual clock. The rest as in Watched and Chaos.

    confidences: of the steps, 0 to 1.
    """

    steps_s: np.ndarray[tuple[int], np.dtype[np.float64]]
    confidences: np.ndarray[tuple[int], np.dtype[np.float64]]
    gaps: array[float]
    end_s: float
    garbage: int
    repeated: int
    unreported: int
    samples: int
    notes: list[str]
    rss_mb: list[float]
    counters: dict[str, int]
    struck: list[tuple[float, str]]


def run(directory: Path, hours: float, seed: int | None, port: int, pause_s: float) -> Seen:
    """Run the daemon for so long, without faults if there is no seed."""
    virtual = VirtualTime()
    chip = RememberingChip(walk(), virtual.now)
    devices: dict[int, Mpu6050] = {0x68: chip}
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
    watched: list[Watched] = []

    def open_source(sensor: Sensor, *, gyroscope: bool) -> Watched:
        imu = open_imu(
            sensor,
            gyroscope=gyroscope,
            open_bus=opener({BUS: bus}),
            clock=virtual.now,
            sleep=virtual.sleep,
            wait=True,
        )
        assert isinstance(imu, FifoImu)
        watched.append(Watched(imu, chip, virtual, hours, chaos))
        return watched[0]

    daemon.run(
        config,
        open_source=open_source,
        clock=virtual.now,
        wall_clock=lambda: EPOCH_S + virtual.now(),
    )
    (seen,) = watched
    with sqlite3.connect(path) as db:
        stamps_ms, confidences = np.array(db.execute("SELECT ts_ms, confidence FROM step ORDER BY total").fetchall()).T
    return Seen(
        stamps_ms / 1000.0 - EPOCH_S,
        confidences,
        seen.gaps,
        seen.last_s,
        seen.garbage,
        seen.repeated,
        seen.unreported,
        seen.samples,
        seen.notes,
        seen.rss_mb,
        seen.counters(),
        [] if chaos is None else chaos.struck,
    )


def verdict(calm: Seen, stormy: Seen, model: Path) -> dict[str, Any]:
    """Compare the two runs."""
    margins = Margins.of(model)
    end_s = min(calm.end_s, stormy.end_s)  # the two do not end with the same sample: what follows is like a gap
    zones = hidden([*stormy.gaps, end_s, end_s + 3600.0], margins)
    expected_out_s, found_out_s = outside(calm.steps_s, zones), outside(stormy.steps_s, zones)
    # All are matched, then those without a partner are looked at: an edge of a zone may lie between two partners.
    alone = zip((calm, stormy), differences(calm.steps_s, stormy.steps_s), strict=True)
    (missing, weak_missing), (surplus, weak_surplus) = (
        clear_and_marginal(seen, outside(np.array(times_s), zones), model) for seen, times_s in alone
    )
    return {
        "faults": len(stormy.struck),
        "kinds": dict(sorted(Counter(name for _, name in stormy.struck).items())),
        "samples": stormy.samples,
        "garbage_frames": stormy.garbage + calm.garbage,
        "unreported_samples": stormy.unreported + calm.unreported,
        "frozen_frames": stormy.repeated,
        "gaps": len(stormy.gaps) // 2,
        "gaps_without_faults": len(calm.gaps) // 2,
        "gap_s": round(sum(stormy.gaps[1::2]) - sum(stormy.gaps[::2]), 1),
        "margins_s": [round(margins.before_s, 2), round(margins.after_s, 2)],
        "hidden_s": round(sum(min(over_s, end_s) - from_s for from_s, over_s in zones), 1),
        "counters": stormy.counters,
        "steps_without_faults": len(calm.steps_s),
        "steps_with_faults": len(stormy.steps_s),
        "steps_outside_gaps_without_faults": len(expected_out_s),
        "steps_outside_gaps_with_faults": len(found_out_s),
        "missing": len(missing),
        "surplus": len(surplus),
        "marginal_missing": len(weak_missing),
        "marginal_surplus": len(weak_surplus),
        "differing_s": [round(float(at_s), 2) for at_s in sorted([*missing, *surplus])[:NOTED]],
        "notes": [*calm.notes, *stormy.notes],
        "rss_mb": stormy.rss_mb,
    }


def clear_and_marginal(seen: Seen, alone_s: np.ndarray, model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Split the steps of one run that the other one lacks into those that are clear ones and those that are not."""
    confidences = seen.confidences[np.searchsorted(seen.steps_s, alone_s)]
    marginal = is_marginal(confidences, model)
    return alone_s[~marginal], alone_s[marginal]


def passed(report: dict[str, Any]) -> bool:
    """Whether nothing was believed that was not measured, nothing lost in silence, and no step differs."""
    zero = ("garbage_frames", "unreported_samples", "gaps_without_faults", "missing", "surplus")
    rss_mb = report["rss_mb"] or [0.0]
    marginal = report["marginal_missing"] + report["marginal_surplus"]
    return (
        all(report[name] == 0 for name in zero)
        and marginal <= MARGINAL_SHARE * report["steps_outside_gaps_without_faults"]
        and report["frozen_frames"] == report["counters"]["frozen_samples"]
        and max(rss_mb) - rss_mb[0] < GROWTH_MB
    )


def main() -> int:
    """Run twice, side by side, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=150.0, help="mean seconds between two faults")
    parser.add_argument("--port", type=int, default=9, help="of a broker; by default none is there")
    parser.add_argument("--directory", type=Path, required=True, help="where the outboxes go")
    options = parser.parse_args()
    began_s = time.monotonic()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        calm, stormy = (
            pool.submit(run, options.directory, options.hours, seed, options.port, options.pause)
            for seed in (None, options.seed)
        )
        report = verdict(calm.result(), stormy.result(), Path(configuration.load(None, {}).model.path))
    wall_s = round(time.monotonic() - began_s, 1)
    print(json.dumps({"hours": options.hours, "seed": options.seed, **report, "wall_s": wall_s}))
    return 0 if passed(report) else 1


if __name__ == "__main__":
    sys.exit(main())
