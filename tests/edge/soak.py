"""Many simulated hours of walking through the real daemon loop at full speed; prints memory by the hour as JSON.

It imports nothing that the daemon does not import, or the memory would not be the daemon's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge import config as configuration
from edge import daemon
from edge.health import rss_mb
from edge.imu.status import SensorState, SensorStatus
from edge.outbox import Outbox
from edge.types import SampleBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.settings import Sensor

BATCH_SAMPLES = 10


class EndlessWalk:
    """An Imu that repeats one minute of samples [6000, 6], as fast as it is read, and notes the memory every hour."""

    name = "endless walk"
    sampling_rate_hz = 100.0
    hardware_total = None

    def __init__(self, minute: Path, hours: float) -> None:
        self._imu = np.load(minute)
        self._minutes = round(hours * 60)
        self.rss_mb: list[float] = []

    def batches(self) -> Iterator[SampleBatch]:
        """Yield tenths of a second."""
        length = len(self._imu)
        for minute in range(self._minutes):
            for first in range(0, length, BATCH_SAMPLES):
                index = np.arange(first, first + BATCH_SAMPLES)
                yield SampleBatch((minute * length + index) / self.sampling_rate_hz, self._imu[index])
            if minute % 60 == 59:
                self.rss_mb.append(rss_mb() or 0.0)

    def counters(self) -> dict[str, int]:
        """Nothing ever goes wrong here."""
        return {}

    def status(self) -> SensorStatus:
        """Return that it runs: it always does."""
        return SensorStatus(SensorState.RUNNING, self.name)

    def close(self) -> None:
        """Nothing to close."""


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="holds minute.npy; the outbox goes here too")
    options = parser.parse_args()
    environ = {
        "FOOTFALL__MQTT__HOST": "127.0.0.1",
        "FOOTFALL__MQTT__PORT": str(options.port),
        "FOOTFALL__OUTBOX__PATH": str(options.directory / "outbox.db"),
        "FOOTFALL__LOGGING__LEVEL": "warning",
    }
    config = configuration.load(None, environ)
    daemon.set_up_logging(config)
    source = EndlessWalk(options.directory / "minute.npy", options.hours)

    def open_source(_: Sensor, *, gyroscope: bool) -> EndlessWalk:  # noqa: ARG001
        return source

    daemon.run(config, open_source=open_source)
    outbox = Outbox(config.outbox.path, max_age_h=1.0, max_bytes=2**30)
    print(json.dumps({"steps": outbox.total, "waiting": outbox.depth, "rss_mb": source.rss_mb}))
    outbox.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
