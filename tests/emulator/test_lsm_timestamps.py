"""Time stamps in the FIFO of ST's parts, as the kernel's st_lsm6dsx_buffer.c takes them apart."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.chips import CHIPS
from emulator.inprocess import VirtualTime

TICK_S = 25e-6
STILL = np.array([[1.0, -2.0, 9.5, 0.25, -0.5, 0.5]])


@pytest.mark.parametrize("name", ["lsm6dsox", "ism330dhcx"])
def test_a_tagged_time_stamp_stands_before_the_data_of_its_slot(name: str) -> None:
    time = VirtualTime()
    chip = CHIPS[name].make(STILL, 100.0, clock=time.now, rate_error=0.015)
    # CTRL1_XL, CTRL2_G: 104 Hz; CTRL10_C: TIMESTAMP_EN; FIFO_CTRL3, 4: both sensors, each stamp, continuous.
    for register, value in ((0x19, 0x20), (0x10, 0x40), (0x11, 0x40), (0x09, 0x44), (0x0A, 0x46)):
        chip.write(bytes((register, value)))
    time.sleep(0.1)
    chip.write(b"\x3a")
    count = int.from_bytes(chip.read(2), "little") & 0x3FF
    chip.write(b"\x78")
    words = [chip.read(7) for _ in range(count)]
    assert count == 30
    assert [word[0] >> 3 for word in words] == [4, 1, 2] * 10
    stamps = [int.from_bytes(word[1:5], "little") for word in words[::3]]
    # The timer runs on the oscillator that the sensors run on: in its own ticks the rate is the nominal one.
    np.testing.assert_allclose(np.diff(stamps) * TICK_S, 64 / 6667, atol=2 * TICK_S)


def test_fewer_time_stamps_and_none() -> None:
    for dec, expected in ((0x80, 2), (0x00, 0)):
        time = VirtualTime()
        chip = CHIPS["lsm6dsox"].make(STILL, 100.0, clock=time.now)
        for register, value in ((0x19, 0x20), (0x10, 0x40), (0x09, 0x04), (0x0A, dec | 0x06)):
            chip.write(bytes((register, value)))
        time.sleep(0.1)
        chip.write(b"\x78")
        tags = [chip.read(7)[0] >> 3 for _ in range(10 + expected)]
        assert (tags.count(4), tags.count(2)) == (expected, 10)


@pytest.mark.parametrize(("name", "timer"), [("lsm6ds3", (0x58, 0x80)), ("lsm6ds3trc", (0x19, 0x20))])
def test_an_untagged_time_stamp_is_the_fourth_set(name: str, timer: tuple[int, int]) -> None:
    time = VirtualTime()
    chip = CHIPS[name].make(STILL, 100.0, clock=time.now)
    # WAKE_UP_DUR.TIMER_HR; 104 Hz; FIFO_CTRL2: timer; FIFO_CTRL3, 4: no decimation; FIFO_CTRL5: 104 Hz, continuous.
    for register, value in (
        timer, (0x5C, 0x10), (0x10, 0x40), (0x11, 0x40), (0x07, 0x80), (0x08, 0x09), (0x09, 0x08), (0x0A, 0x26)
    ):  # fmt: skip
        chip.write(bytes((register, value)))
    time.sleep(0.05)
    chip.write(b"\x3a")
    words = int.from_bytes(chip.read(2), "little") & 0x7FF
    assert words == 9 * 5
    chip.write(b"\x3e")
    sets = [chip.read(18) for _ in range(5)]
    stamps = [row[13] << 16 | row[12] << 8 | row[15] for row in sets]
    np.testing.assert_allclose(np.diff(stamps) * TICK_S, 1 / 104, atol=2 * TICK_S)
    assert len({row[7:12] for row in sets}) == 1  # the other sets are where they were, with noise in their lowest bit
    time.sleep(1.0)
    chip.write(b"\x42\xaa")  # TIMESTAMP2: the timer starts anew
    chip.write(b"\x0a\x20")
    chip.write(b"\x0a\x26")
    time.sleep(0.02)
    chip.write(b"\x3e")
    row = chip.read(18)
    assert (row[13] << 16 | row[12] << 8 | row[15]) * TICK_S < 0.03
