"""An LSM6DSO32 gives an LSM6DSOX's identity: it is read right where it is named, and betrays itself where it is not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from edge.imu import open_imu
from edge.settings import Sensor
from emulator.bus import EmulatedBus
from emulator.chips.lsm6dsox import Ism330dhcx, Lsm6dso32, Lsm6dsox
from emulator.inprocess import VirtualTime, opener

if TYPE_CHECKING:
    import pytest

    from edge.types import FloatArray
    from emulator.chips.chip import Chip

TURNED = np.array([[3.0, -2.0, 9.1, 0.25, -0.5, 0.125]])
NAMED = "lsm6dso32"


def samples(part: type[Chip], seconds: float = 8.0, name: str = "auto") -> tuple[str, FloatArray]:
    """Return the name under which a chip was found, and what it is said to have measured, [n, 6]."""
    time = VirtualTime()
    chip = part(TURNED, 100.0, clock=time.now)
    bus = EmulatedBus({0x6A: chip}, clock=time.now, sleep=time.sleep)
    imu = open_imu(Sensor(type=name), open_bus=opener({"/dev/i2c-1": bus}), clock=time.now, sleep=time.sleep)
    parts: list[FloatArray] = []
    end_s = time.now() + seconds
    for batch in imu.batches():
        parts.append(batch.imu)
        if time.now() > end_s:
            imu.close()
    return imu.name, np.concatenate(parts)


def test_named_it_is_read_at_its_own_scale(caplog: pytest.LogCaptureFixture) -> None:
    name, imu = samples(Lsm6dso32, name=NAMED)
    assert name == "LSM6DSO32"
    np.testing.assert_allclose(imu, np.tile(TURNED, (len(imu), 1)), atol=4e-3)
    assert "half" not in caplog.text


def test_found_by_itself_it_shows_half_of_gravity_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        name, imu = samples(Lsm6dso32, seconds=20.0)
    assert name == "LSM6DSOX"
    np.testing.assert_allclose(imu[:, :3], np.tile(TURNED[:, :3] / 2.0, (len(imu), 1)), atol=4e-3)
    assert caplog.text.count("set sensor.type: lsm6dso32") == 1


def test_the_others_are_not_suspected(caplog: pytest.LogCaptureFixture) -> None:
    for part in (Lsm6dsox, Ism330dhcx):
        _, imu = samples(part)
        np.testing.assert_allclose(imu, np.tile(TURNED, (len(imu), 1)), atol=4e-3)
    assert "half" not in caplog.text


def test_another_part_of_the_family_is_known_though_this_one_was_named() -> None:
    name, imu = samples(Ism330dhcx, name=NAMED)
    assert name == "ISM330DHCX"
    np.testing.assert_allclose(imu, np.tile(TURNED, (len(imu), 1)), atol=4e-3)
