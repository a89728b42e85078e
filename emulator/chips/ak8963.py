"""The magnetometer inside an MPU-9250, which only the chip's own I2C master reaches: enough that a driver finds it.

Sources: RM-MPU-9250A 4.16 to 4.22 (I2C_SLV0_*, I2C_MST_STATUS, EXT_SENS_DATA), AK8963 data sheet 8.3, kernel
inv_mpu_aux.c and inv_mpu_magn.c. Only slave 0 is emulated, and a magnetometer that feels nothing.
"""

from __future__ import annotations

R_SLV0_ADDR, R_SLV0_REG, R_SLV0_CTRL, R_MST_STATUS, R_EXT_SENS_DATA, R_SLV0_DO = 0x25, 0x26, 0x27, 0x36, 0x49, 0x63
READ_BIT, ENABLE_BIT, LENGTH_MASK, NACK_BIT = 0x80, 0x80, 0x0F, 0x01
ADDRESS = 0x0C
WIA, ASAX = 0x00, 0x10


class Ak8963:
    """The magnetometer's registers, behind slave 0 of the chip's master."""

    def __init__(self) -> None:
        self._registers = bytearray(0x20)
        self._registers[WIA] = 0x48
        self._registers[ASAX : ASAX + 3] = bytes((128, 128, 128))  # no correction (AK8963 8.3.11)

    def turn(self, chip: bytearray) -> None:
        """One transfer of slave 0, as happens with every sample while the chip's master is on."""
        control, address, register = chip[R_SLV0_CTRL], chip[R_SLV0_ADDR], chip[R_SLV0_REG]
        if not control & ENABLE_BIT:
            return
        if address & ~READ_BIT != ADDRESS:
            chip[R_MST_STATUS] |= NACK_BIT
            return
        count = control & LENGTH_MASK
        if address & READ_BIT:
            data = self._registers[register : register + count].ljust(count, b"\0")
            chip[R_EXT_SENS_DATA : R_EXT_SENS_DATA + count] = data
        elif register < len(self._registers) and register != WIA:
            self._registers[register] = chip[R_SLV0_DO]
