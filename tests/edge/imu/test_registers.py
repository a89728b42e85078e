"""Every register field against the literal address and mask of the data sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.imu.chips import mpu6050
from edge.imu.chips.core import banks, nearest_rate
from edge.imu.registers import Field, combine, int16_be, int16_le, runs, unsigned_be, unsigned_le

# RM-MPU-6000A-00 rev 4.2: section 3 (register map) and the section given; 0x1D: RM-MPU-6500A-00 rev 2.1 section 4.8.
DATA_SHEET = [
    ("SMPLRT_DIV", 0x19, 0xFF),  # 4.2
    ("DLPF_CFG", 0x1A, 0x07),  # 4.3
    ("FS_SEL", 0x1B, 0x18),  # 4.4
    ("AFS_SEL", 0x1C, 0x18),  # 4.5
    ("A_DLPF_CFG", 0x1D, 0x07),
    ("TEMP_FIFO_EN", 0x23, 0x80),  # 4.6
    ("GYRO_FIFO_EN", 0x23, 0x70),
    ("ACCEL_FIFO_EN", 0x23, 0x08),
    ("FIFO_OFLOW_EN", 0x38, 0x10),  # interrupt enable
    ("FIFO_OFLOW_INT", 0x3A, 0x10),  # interrupt status
    ("TEMP_OUT", 0x41, 0xFF),  # 4.18
    ("USER_FIFO_EN", 0x6A, 0x40),  # user control
    ("FIFO_RESET", 0x6A, 0x04),
    ("DEVICE_RESET", 0x6B, 0x80),  # power management 1
    ("SLEEP", 0x6B, 0x40),
    ("CLKSEL", 0x6B, 0x07),
    ("STANDBY", 0x6C, 0x3F),  # power management 2
    ("FIFO_COUNT", 0x72, 0xFF),  # 4.30
    ("FIFO_R_W", 0x74, 0xFF),  # 4.31
    ("WHO_AM_I", 0x75, 0xFF),
]


@pytest.mark.parametrize(("name", "address", "mask"), DATA_SHEET)
def test_field_is_where_the_data_sheet_puts_it(name: str, address: int, mask: int) -> None:
    assert getattr(mpu6050, name) == Field(address, mask)


def test_every_field_is_checked() -> None:
    named = {name for name, value in vars(mpu6050).items() if isinstance(value, Field)}
    assert named == {name for name, _, _ in DATA_SHEET}


@pytest.mark.parametrize(
    ("who_am_i", "name", "fifo_bytes", "zero_c", "hundred_lsb_c"),
    [  # identity, FIFO and temperature: inv_mpu_iio.h and hw_info of inv_mpu_core.c; °C = (raw + offset) * scale
        (0x68, "MPU-6050", 1024, 12420 * 2.941176e-3, 100 * 2.941176e-3),
        (0x70, "MPU-6500", 512, 7011 * 2.995178e-3, 100 * 2.995178e-3),
        (0x71, "MPU-9250", 512, 7011 * 2.995178e-3, 100 * 2.995178e-3),
        (0x73, "MPU-9255", 512, 7011 * 2.995178e-3, 100 * 2.995178e-3),
        (0x74, "MPU-6515", 512, 7011 * 2.995178e-3, 100 * 2.995178e-3),
        (0x98, "MPU-6050 clone", 512, 8170 * 3.059976e-3, 100 * 3.059976e-3),
        (0x72, "MPU-6050 clone", 512, 36.53, 100 / 340),
    ],
)
def test_part(who_am_i: int, name: str, fifo_bytes: int, zero_c: float, hundred_lsb_c: float) -> None:
    part = mpu6050.FAMILY.part_of(who_am_i)
    assert part is not None
    assert (part.name, part.fifo_bytes) == (name, fifo_bytes)
    assert part.offset_c == pytest.approx(zero_c, abs=0.01)
    assert 100 / part.lsb_per_c == pytest.approx(hundred_lsb_c, abs=0.001)


@pytest.mark.parametrize(
    ("who_am_i", "divider", "expected"),
    [
        # 100 Hz: divider 9, DLPF 3 (44 Hz), ±1000 °/s, ±8 g, FIFO of all but slaves, overflow flag, all axes on
        (0x68, 9, {0x19: 9, 0x1A: 3, 0x1B: 0x10, 0x1C: 0x10, 0x23: 0xF8, 0x38: 0x10, 0x6C: 0}),
        (0x71, 19, {0x19: 19, 0x1A: 4, 0x1B: 0x10, 0x1C: 0x10, 0x1D: 4, 0x23: 0xF8, 0x38: 0x10, 0x6C: 0}),
    ],
)
def test_configuration(who_am_i: int, divider: int, expected: dict[int, int]) -> None:
    part = mpu6050.FAMILY.part_of(who_am_i)
    assert part is not None
    rate = nearest_rate(part.rates, 1000 / (1 + divider))
    assert banks([*part.setup, *rate.settings]) == {0: expected}


@pytest.mark.parametrize(("odr_hz", "dlpf"), [(200, 2), (100, 3), (50, 4), (40, 4), (25, 5), (10, 6)])
def test_filter_is_below_half_the_rate(odr_hz: float, dlpf: int) -> None:
    rate = nearest_rate(mpu6050.ONE_FILTER, odr_hz)
    assert dict(rate.settings)[mpu6050.DLPF_CFG] == dlpf
    assert rate.low_pass_hz <= odr_hz / 2


MASKS = st.integers(0, 7).flatmap(lambda low: st.integers(low, 7).map(lambda high: (2 << high) - (1 << low)))


@given(mask=MASKS, register=st.integers(0, 255), data=st.data())
def test_put_then_get_and_no_other_bit_moves(mask: int, register: int, data: st.DataObject) -> None:
    field = Field(0x10, mask)
    value = data.draw(st.integers(0, mask >> field.shift))
    changed = field.put(value, register)
    assert field.get(changed) == value
    assert changed & ~mask == register & ~mask


def test_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="0x4 does not fit mask 0x18"):
        Field(0x1B, 0x18).put(4)


def test_combine_shares_registers_and_runs_joins_neighbours() -> None:
    registers = combine(
        [(Field(0x1B, 0x18), 2), (Field(0x1B, 0x01), 1), (Field(0x1A, 0x07), 3), (Field(0x23, 0xF0), 1)]
    )
    assert registers == {0x1B: 0x11, 0x1A: 3, 0x23: 0x10}
    assert runs(registers) == [(0x1A, b"\x03\x11"), (0x23, b"\x10")]


def test_byte_order() -> None:
    assert (unsigned_be(b"\x01\x02"), unsigned_le(b"\x01\x02")) == (0x0102, 0x0201)
    assert int16_be(b"\xff\xfe\x00\x01", 2).tolist() == [[-2, 1]]
    assert int16_le(b"\xfe\xff\x01\x00", 1).tolist() == [[-2], [1]]
