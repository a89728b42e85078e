"""What Bosch's BMI160 and BMI270 have in common: FIFO frames with a header, and commands in register 7Eh.

Sources: BST-BMI160-DS000-09 and BST-BMI270-DS000-07, section "FIFO"; Bosch's BMI160_SensorAPI (bmi160_defs.h) and
BMI270_SensorAPI (bmi2_defs.h).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edge.imu.chip import FifoFault
from edge.imu.chips.core import RegisterChip
from edge.imu.registers import Field, int16_le, unsigned_le

if TYPE_CHECKING:
    from edge.imu.chip import Frames
    from edge.imu.registers import Uint8Array

CMD = Field(0x7E, 0xFF)
SOFT_RESET, FIFO_FLUSH = 0xB6, 0xB0

FRAME_BYTES = (7, 13)
"""Header, gyroscope if it is wanted, accelerometer, little-endian."""

HEADER_KIND = Field(0x00, 0xFC)  # the two low bits are interrupt tags
HEADER = (0x84, 0x8C)
"""Of a frame with the accelerometer, and with both sensors."""
HEADER_SKIP = 0x40  # frames were lost before this one


class BoschChip(RegisterChip):
    """FIFO in header mode: each frame says what it holds, and the first one after an overflow that some were lost."""

    FIFO_LENGTH: ClassVar[Field]
    """High byte of the length, the low byte being in the register before."""
    FRAME_BYTES = FRAME_BYTES

    def restart_fifo(self) -> None:
        """Empty the FIFO: flush keeps its configuration, and the next frame is a whole one."""
        self._command(FIFO_FLUSH)

    def fifo_level(self) -> int:
        """Bytes waiting; the low byte is read first, which latches both."""
        low, high = self._read(self.FIFO_LENGTH.address - 1, 2)
        return unsigned_le(bytes([low, self.FIFO_LENGTH.get(high)]))

    def decode(self, data: bytes) -> Frames:
        """Frames to m/s² and rad/s; FifoFault if a header is not that of a frame with all that is wanted."""
        if data and data[0] & HEADER_KIND.mask == HEADER_SKIP:
            raise FifoFault("fifo_overflow", "FIFO overflow: the chip skipped frames")
        frames: Uint8Array = np.frombuffer(data, np.uint8).reshape(-1, self.frame_bytes)
        if np.any(frames[:, 0] & np.uint8(HEADER_KIND.mask) != HEADER[self.gyroscope]):
            raise FifoFault("bad_transfer", "FIFO frames are out of step")
        words = int16_le(frames[:, 1:].tobytes(), self.frame_bytes // 2)
        return self._frames(words[:, -3:], words[:, :3] if self.gyroscope else None, None)

    def _command(self, command: int) -> None:
        self._write(CMD.address, command)
