"""The driver of each family through unmodified smbus2 on a device file, in real time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.imu import open_imu
from edge.settings import Sensor
from emulator.bus import FUNCTIONALITY, I2C_FUNC_SMBUS_EMUL, EmulatedBus
from emulator.chips import CHIPS
from emulator.fuse import FuseI2c
from emulator.namespace import unavailable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.bus

STILL = (1.0, -2.0, 9.5, 0.25, -0.5, 0.75)
ENOUGH_SAMPLES = 150
PATIENCE_S = 60.0


@pytest.mark.parametrize(
    "part", ["mpu6500", "icm20948", "icm42688", "lsm6ds3", "lsm6ds3trc", "lsm6dsox", "bmi160", "bmi270", "lsm9ds1"]
)
@pytest.mark.parametrize(
    ("gyroscope", "functionality"),
    [(True, FUNCTIONALITY), (False, FUNCTIONALITY), (False, I2C_FUNC_SMBUS_EMUL)],
    ids=["six axes", "acceleration", "an adapter that only does SMBus"],
)
def test_every_family_is_read_through_smbus2(part: str, gyroscope: bool, functionality: int, tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    firmware = tmp_path / "bmi270-init-data.fw"
    firmware.write_bytes(bytes(8192))
    chip = CHIPS[part].make(np.array([STILL]), 100.0)
    bus = EmulatedBus(CHIPS[part].devices(chip), functionality=functionality)
    with FuseI2c(tmp_path / "i2c-1", bus) as mounted:
        imu = open_imu(Sensor(bus=mounted.path, firmware=firmware), gyroscope=gyroscope)
        measured = slice(0, 6 if gyroscope or part == "lsm9ds1" else 3)
        samples = 0
        deadline_s = time.monotonic() + PATIENCE_S
        for batch in imu.batches():
            still = np.tile(STILL, (len(batch.imu), 1))
            np.testing.assert_allclose(batch.imu[:, measured], still[:, measured], atol=4e-3)
            assert np.isnan(batch.imu[:, measured.stop :]).all()
            samples += len(batch.imu)
            if samples >= ENOUGH_SAMPLES or time.monotonic() > deadline_s:
                imu.close()
    assert samples >= ENOUGH_SAMPLES
    counters = imu.counters()
    # A machine that is busy elsewhere may overflow a small FIFO; nothing may ever arrive corrupt.
    assert (counters["bad_transfer"], counters["bad_register"]) == (0, 0)
