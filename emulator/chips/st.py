"""What ST's LSM6 parts share: control registers, rates, full scales, reset, the auto-increment bit."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar

from emulator.chips.chip import Chip
from emulator.chips.motion import word

if TYPE_CHECKING:
    from collections.abc import Mapping

# Register numbers common to LSM6DS3 (data sheet DocID026899), LSM6DS3TR-C (DocID030071), LSM6DSOX and ISM330DHCX.
R_WHO_AM_I, R_CTRL1_XL, R_CTRL2_G, R_CTRL3_C = 0x0F, 0x10, 0x11, 0x12
R_STATUS, R_OUT_TEMP_L, R_OUTX_L_G, R_OUTX_L_XL, R_OUTZ_H_XL = 0x1E, 0x20, 0x22, 0x28, 0x2D

SW_RESET_BIT, IF_INC_BIT, BOOT_BIT = 0x01, 0x04, 0x80
"""CTRL3_C (kernel st_lsm6dsx_core.c: .reset, .boot; data sheet 9.14)."""
XLDA_BIT, GDA_BIT, TDA_BIT = 0x01, 0x02, 0x04
"""STATUS_REG."""
FS_125_BIT = 0x02
"""CTRL2_G, bit 1."""

ODR_HZ = (0.0, 12.5, 26.0, 52.0, 104.0, 208.0, 416.0, 833.0, 1660.0, 3330.0, 6660.0)
"""By the four ODR bits, 0 is off (kernel st_lsm6dsx_core.c .odr_table)."""
ACC_MG_PER_LSB = (0.061, 0.488, 0.122, 0.244)
"""By FS_XL: ±2, 16, 4, 8 g, in that order (data sheet, table 3 and CTRL1_XL)."""
GYR_MDPS_PER_LSB = (8.75, 17.5, 35.0, 70.0)
"""By FS_G: ±245 or 250, 500, 1000, 2000 °/s (data sheet, table 3 and CTRL2_G)."""
GYR_125_MDPS_PER_LSB = 4.375
TEMPERATURE_ZERO_C = 25.0

FIFO_BYPASS, FIFO_STOPS_WHEN_FULL = 0, 1
"""FIFO_MODE: empty and off; collects until it is full. All other modes go on for ever, the oldest data make room."""


class LsmChip(Chip):
    """Control and output registers of the LSM6 parts; the FIFO is the part's own."""

    READ_ONLY = frozenset({R_WHO_AM_I, *range(R_STATUS, R_OUTZ_H_XL + 1)})
    RESET_TAKES_S = 50e-6
    """Software reset (AN4650 and AN5272, section "Reboot and software reset")."""
    TEMPERATURE_LSB_PER_C: ClassVar[float] = 256.0
    ODR_HZ: ClassVar[tuple[float, ...]] = ODR_HZ
    ACC_MG_PER_LSB: ClassVar[tuple[float, ...]] = ACC_MG_PER_LSB
    DRDY_CLEARED_BY: ClassVar[Mapping[int, int]] = {0x23: GDA_BIT, 0x29: XLDA_BIT, 0x21: TDA_BIT}
    """Reading the high byte of a first word clears its flag."""

    def _following(self, register: int) -> int:
        return super()._following(register) if self._registers[R_CTRL3_C] & IF_INC_BIT else register

    def _write_register(self, register: int, value: int) -> None:
        if register == R_CTRL3_C and value & (SW_RESET_BIT | BOOT_BIT):
            self._start_reset()
        else:
            super()._write_register(register, value)

    def _read_register(self, register: int) -> int:
        if register == R_CTRL3_C and self._clock() < self._ready_s:
            return self._registers[register] | SW_RESET_BIT
        self._registers[R_STATUS] &= ~self.DRDY_CLEARED_BY.get(register, 0)
        return super()._read_register(register)

    # The sensor side.

    def _rate(self, code: int) -> float:
        return self.ODR_HZ[code] if code < len(self.ODR_HZ) else 0.0

    def _rates_hz(self) -> tuple[float, float]:
        return self._rate(self._registers[R_CTRL1_XL] >> 4), self._rate(self._registers[R_CTRL2_G] >> 4)

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        if self._about_to_queue(acc_due, gyr_due):
            self._start_recording(at_s)
        self._put(R_OUT_TEMP_L, self._temperature())
        self._registers[R_STATUS] |= TDA_BIT
        if gyr_due:
            self._put(R_OUTX_L_G, struct.pack("<3h", *self._gyr(at_s, self._gyr_lsb_per_dps())))
            self._registers[R_STATUS] |= GDA_BIT
        if acc_due:
            full_scale = self._registers[R_CTRL1_XL] >> 2 & 3
            self._put(R_OUTX_L_XL, struct.pack("<3h", *self._acc(at_s, 1000.0 / self.ACC_MG_PER_LSB[full_scale])))
            self._registers[R_STATUS] |= XLDA_BIT
            self._walk(at_s, self._motion.row(at_s)[:3])
        self._queue(at_s, acc_due, gyr_due)

    def _gyr_lsb_per_dps(self) -> float:
        control = self._registers[R_CTRL2_G]
        return 1000.0 / (GYR_125_MDPS_PER_LSB if control & FS_125_BIT else GYR_MDPS_PER_LSB[control >> 2 & 3])

    def _temperature(self) -> bytes:
        return struct.pack("<h", word((self.temperature_c - TEMPERATURE_ZERO_C) * self.TEMPERATURE_LSB_PER_C))

    # What a part says about itself.

    def _about_to_queue(self, acc_due: bool, gyr_due: bool) -> bool:
        """Whether this sample will enter the FIFO."""
        raise NotImplementedError

    def _queue(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        """Put what is in the output registers into the FIFO, as configured."""
        raise NotImplementedError

    def _walk(self, at_s: float, acceleration: list[float]) -> None:
        """Let the pedometer feel a sample."""
        raise NotImplementedError
