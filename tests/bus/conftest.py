"""The emulated I2C bus as a device file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from emulator.bus import EmulatedBus
from emulator.fuse import FuseI2c
from emulator.mpu6050 import Mpu6050
from emulator.namespace import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE_HZ = 100.0


@pytest.fixture
def chip() -> Mpu6050:
    """Give a sensor at rest that counts its samples."""
    return Mpu6050(np.array([[0.0, 0.0, 9.80665, 0.0, 0.0, 0.0]]), RATE_HZ, counted=True)


@pytest.fixture
def bus(chip: Mpu6050) -> EmulatedBus:
    """Give a bus with that sensor."""
    return EmulatedBus({0x68: chip})


@pytest.fixture
def path(bus: EmulatedBus, tmp_path: Path) -> Iterator[str]:
    """Give the path at which programs see the bus."""
    if reason := unavailable():
        pytest.skip(reason)
    with FuseI2c(tmp_path / "i2c-1", bus) as mounted:
        yield str(mounted.path)
