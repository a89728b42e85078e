"""The real daemon over an emulated bus inside its own process: for machines where no bus can be mounted."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from edge import config as configuration
from edge import daemon
from edge.imu import open_imu
from edge.imu.bus import bus_path
from edge.recording import load
from emulator.bus import EmulatedBus
from emulator.chips import CHIPS
from emulator.inprocess import opener

if TYPE_CHECKING:
    from edge.imu import Imu
    from edge.settings import Sensor
    from emulator.chips import EmulatedImu

SETTLE_S = 3.0
POLL_S = 0.1


def main() -> int:
    """Run the daemon until the recording on the emulated chip has been played."""
    parser = argparse.ArgumentParser(prog="python -m emulator.daemon", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--recording", required=True)
    parser.add_argument("--sensor", default="mpu6050", choices=CHIPS)
    options = parser.parse_args()
    config = configuration.load(options.config, os.environ)
    recording = load(options.recording)
    part = CHIPS[options.sensor]
    chip = part.make(recording.imu, recording.sampling_rate_hz)
    open_bus = opener({bus_path(str(config.sensor.bus)): EmulatedBus(part.devices(chip))})

    def open_source(sensor: Sensor, *, gyroscope: bool) -> Imu:
        imu = open_imu(sensor, gyroscope=gyroscope, open_bus=open_bus, wait=True)
        threading.Thread(target=_close_when_finished, args=(chip, imu), daemon=True).start()
        return imu

    daemon.set_up_logging(config)
    return daemon.run(config, open_source=open_source)


def _close_when_finished(chip: EmulatedImu, imu: Imu) -> None:
    done = threading.Event()
    while not chip.finished:
        done.wait(POLL_S)
    done.wait(SETTLE_S)
    imu.close()


if __name__ == "__main__":
    sys.exit(main())
