"""Each driver meets the emulated chip that somebody else wrote from the same data sheet, over a minute of real walking.

The steps must be those of the recording as that chip would sample and round it, with figures from its data sheet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge.classifier import StepClassifier
from edge.config import Sensor
from edge.imu import open_imu
from edge.imu.fifo import FifoImu
from edge.imu.replay import ReplayImu
from edge.pipeline import Pipeline, detect
from edge.recording import Recording, load
from emulator.bus import EmulatedBus
from emulator.chips import CHIPS
from emulator.inprocess import VirtualTime, opener
from tests.conftest import ROOT

if TYPE_CHECKING:
    from edge.types import FloatArray, StepEvent
    from emulator.chips import EmulatedImu

BUS = "/dev/i2c-1"
STANDARD_GRAVITY = 9.80665
MODEL = ROOT / "models" / "step.tflite"
WALK = "awinda_hand/person_2__20230217132921.npz"


@dataclass(frozen=True)
class Sheet:
    """What the data sheet promises of a part as Footfall uses it."""

    name: str
    odr_hz: float
    odr_at_200_hz: float
    acc_lsb_per_g: float
    gyr_lsb_per_dps: float
    has_pedometer: bool = False


ST_8G = 1000 / 0.244
SHEETS = {
    "mpu6050": Sheet("MPU-6050", 100.0, 200.0, 4096, 32.8),
    "mpu6500": Sheet("MPU-6500", 100.0, 200.0, 4096, 32.8),
    "mpu9250": Sheet("MPU-9250", 100.0, 200.0, 4096, 32.8),
    "mpu9255": Sheet("MPU-9255", 100.0, 200.0, 4096, 32.8),
    "icm20948": Sheet("ICM-20948", 1125 / 11, 1125 / 6, 4096, 32.8),
    "icm42688": Sheet("ICM-42688-P", 100.0, 200.0, 4096, 32.8),
    "lsm6ds3": Sheet("LSM6DS3", 104.0, 208.0, ST_8G, 1000 / 35, has_pedometer=True),
    "lsm6ds3trc": Sheet("LSM6DS3TR-C", 104.0, 208.0, ST_8G, 1000 / 35, has_pedometer=True),
    "lsm6dsox": Sheet("LSM6DSOX", 104.0, 208.0, ST_8G, 1000 / 35, has_pedometer=True),
    "ism330dhcx": Sheet("ISM330DHCX", 104.0, 208.0, ST_8G, 1000 / 35, has_pedometer=True),
    "bmi160": Sheet("BMI160", 100.0, 200.0, 4096, 32.8, has_pedometer=True),
    "bmi270": Sheet("BMI270", 100.0, 200.0, 4096, 32.768, has_pedometer=True),
    "lsm9ds1": Sheet("LSM9DS1", 119.0, 238.0, ST_8G, 1000 / 70),
}
EVERY_PART = pytest.mark.parametrize("part", sorted(SHEETS))


def test_every_emulated_part_has_its_figures_here() -> None:
    assert set(SHEETS) == set(CHIPS)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what stands for Bosch's configuration; the emulated BMI270 takes any of its size."""
    path = tmp_path_factory.mktemp("firmware") / "bmi270-init-data.fw"
    path.write_bytes(bytes(range(256)) * 32)
    return path


@dataclass
class Rig:
    """One emulated part alone on a bus in virtual time."""

    time: VirtualTime
    chip: EmulatedImu
    bus: EmulatedBus
    firmware: Path

    def open(self, **sensor: Any) -> FifoImu:
        settings = Sensor(**{"firmware": self.firmware, **sensor})
        imu = open_imu(settings, open_bus=opener({BUS: self.bus}), clock=self.time.now, sleep=self.time.sleep)
        assert isinstance(imu, FifoImu)
        return imu


def rig(part: str, recording: Recording, firmware: Path, *, address: int | None = None, **chip: Any) -> Rig:
    time = VirtualTime()
    emulated = CHIPS[part].make(recording.imu, recording.sampling_rate_hz, clock=time.now, **chip)
    devices = CHIPS[part].devices(emulated, address)
    return Rig(time, emulated, EmulatedBus(devices, clock=time.now, sleep=time.sleep), firmware)


@cache
def classifier() -> StepClassifier:
    return StepClassifier(MODEL)


def counted(imu: Any, stop_at: Rig | None = None) -> list[StepEvent]:
    """Run the whole pipeline over a source, until the emulated recording has been played."""
    steps: list[StepEvent] = []
    for _, found in detect(imu, Pipeline(classifier(), source_rate_hz=imu.sampling_rate_hz)):
        steps += found
        if stop_at is not None and stop_at.chip.finished:
            imu.close()
    return steps


def as_rounded_by(sheet: Sheet, recording: Recording, odr_hz: float) -> Recording:
    """Sample the recording at the part's rate and round it to the part's words, saturated at 16 bits."""
    duration_s = (len(recording.imu) - 1) / recording.sampling_rate_hz
    time_s = np.arange(0.0, duration_s, 1.0 / odr_hz)
    columns = [np.interp(time_s, recording.time_s - recording.time_s[0], one) for one in recording.imu.T]
    scale = np.array([sheet.acc_lsb_per_g / STANDARD_GRAVITY] * 3 + [sheet.gyr_lsb_per_dps * 180 / np.pi] * 3)
    words = np.clip(np.rint(np.stack(columns, axis=1) * scale), -32768, 32767)
    imu: FloatArray = (words / scale).astype(np.float32)
    return Recording("rounded", time_s, imu, odr_hz)


def walk(seconds: float = 60.0, begin_s: float = 10.0) -> Recording:
    """A made-up walk for machines without the recordings: heel strikes at 1.9 Hz with pauses, on six axes."""
    time_s = np.arange(0.0, seconds, 0.01)
    gait = np.where((time_s > begin_s) & (time_s < seconds - 5.0), 1.0, 0.0)
    phase = 2 * np.pi * 1.9 * time_s
    vertical = 9.81 + gait * (2.5 * np.sin(phase) + 1.2 * np.sin(2 * phase + 0.6))
    forward = gait * 1.4 * np.sin(phase + 1.1)
    sideways = gait * 0.9 * np.sin(phase / 2)
    swing = gait * np.stack([0.9 * np.sin(phase / 2), 0.4 * np.sin(phase), 0.3 * np.cos(phase / 2)])
    imu = np.stack([forward, sideways, vertical, *swing], axis=1).astype(np.float32)
    noise = np.random.default_rng(5).normal(0.0, [0.03] * 3 + [0.004] * 3, imu.shape)
    return Recording("walk", time_s, (imu + noise).astype(np.float32), 100.0)


def meet(part: str, recording: Recording, firmware: Path, *, rate_error: float = 0.0, **sensor: Any) -> None:
    """The steps counted through the chip are those of the recording as the chip rounds it."""
    sheet = SHEETS[part]
    bench = rig(part, recording, firmware, rate_error=rate_error)
    imu = bench.open(**sensor)
    through_chip = counted(imu, bench)
    odr_hz = sheet.odr_hz if sensor.get("sampling_rate_hz", 100) == 100 else sheet.odr_at_200_hz
    assert (imu.name, imu.sampling_rate_hz) == (sheet.name, pytest.approx(odr_hz))
    assert set(imu.counters().values()) == {0}
    begin_s = bench.chip.started_s
    assert begin_s is not None
    rounded = as_rounded_by(sheet, recording, odr_hz * (1.0 + rate_error))
    expected = counted(ReplayImu(rounded, origin_s=begin_s))
    assert len(expected) > 30, "the recording is a walk"
    assert len(through_chip) == len(expected)
    # The model looks every 40 ms, at instants that hang on the sample clock's estimate of when the first sample was.
    late_s = np.array([step.time_s for step in through_chip]) - np.array([step.time_s for step in expected])
    assert np.abs(np.median(late_s)) < 0.005
    assert np.mean(np.abs(late_s) < 0.02) > 0.95
    assert np.max(np.abs(late_s)) < 0.2, "each has its partner"
    if sheet.has_pedometer:
        assert imu.hardware_total is not None
        assert imu.hardware_total > 0
    else:
        assert imu.hardware_total is None


@pytest.fixture(scope="module")
def real_minute() -> Recording:
    folders = (ROOT / "data" / "recordings", ROOT.parent / "shared" / "data" / "recordings")
    path = next((folder / WALK for folder in folders if (folder / WALK).exists()), None)
    if path is None:
        pytest.skip("no real recordings here: run `make data`")
    recording = load(path)
    chosen = slice(int(60 * recording.sampling_rate_hz), int(120 * recording.sampling_rate_hz))
    time_s = recording.time_s[chosen]
    return Recording("minute", time_s - time_s[0], recording.imu[chosen], recording.sampling_rate_hz)


@EVERY_PART
@pytest.mark.data
def test_a_real_minute_is_counted_as_the_chip_rounds_it(part: str, real_minute: Recording, firmware: Path) -> None:
    meet(part, real_minute, firmware)


@EVERY_PART
def test_a_made_up_walk_at_200_hz(part: str, firmware: Path) -> None:
    meet(part, walk(), firmware, sampling_rate_hz=200)
