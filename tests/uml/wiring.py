"""The INT pins of emulated chips on the lines of a gpio-sim: the edges that a kernel driver waits for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from emulator.chips import EmulatedImu

CHIP_LABEL = "int-pins"
PINS = Path("/sys/devices/platform/lines")
IDLE_S = 0.005
"""How often a chip that takes no samples is looked at."""


def pulses(chip: EmulatedImu, register: int, bit: int) -> bool:
    """Whether the pin says that a sample is there, for a moment: data-ready, not latched."""
    return bool(chip.peek(register) & bit)


def lsm_tagged(chip: EmulatedImu) -> bool:
    """INT1_CTRL.INT1_FIFO_TH, while the FIFO is at its watermark (DS12814 9.12 and FIFO_CTRL1/2: words of 7 bytes)."""
    watermark = (chip.peek(0x08) & 0x01) << 8 | chip.peek(0x07)
    return bool(chip.peek(0x0D) & 0x08) and chip.fifo_level >= 7 * watermark > 0


def lsm_untagged(chip: EmulatedImu) -> bool:
    """INT1_CTRL.INT1_FTH, while the FIFO is at its watermark (DocID026899 9.9, FIFO_CTRL1/2: words of 2 bytes)."""
    watermark = (chip.peek(0x07) & 0x0F) << 8 | chip.peek(0x06)
    return bool(chip.peek(0x0D) & 0x08) and chip.fifo_level >= 2 * watermark > 0


def icm_threshold(chip: EmulatedImu) -> bool:
    """INT_SOURCE0.FIFO_THS_INT1_EN, while FIFO_THS stands in INT_STATUS (DS-000347 14.54 and 14.23); not latched."""
    return bool(chip.peek(0x65) & 0x04 and chip.peek(0x2D) & 0x04)


@dataclass(frozen=True, slots=True)
class Pin:
    """One row: what the pin of a chip does. level: whether it is high now; or a pulse with every new sample."""

    level: Callable[[EmulatedImu], bool] = lambda _: False
    pulse: Callable[[EmulatedImu], bool] = lambda _: False


PIN_OF: dict[str, Pin] = {
    # INT_ENABLE.DATA_RDY_EN (RM-MPU-6000A 4.15); the kernel's driver asks for pulses, not a latch.
    **dict.fromkeys(("mpu6050", "mpu6500", "mpu9250", "mpu9255"), Pin(pulse=lambda chip: pulses(chip, 0x38, 0x01))),
    "icm42688": Pin(pulse=icm_threshold),
    **dict.fromkeys(("lsm6ds3", "lsm6ds3trc"), Pin(level=lsm_untagged)),
    **dict.fromkeys(("lsm6dsox", "ism330dhcx"), Pin(level=lsm_tagged)),
    "bmi160": Pin(pulse=lambda chip: pulses(chip, 0x51, 0x10)),  # INT_EN_1.int_drdy_en (data sheet 2.11.24)
    "lsm9ds1": Pin(),
}


class Wired:
    """An emulated chip as a bus device, whose INT pin drives a line of the gpio-sim.

    line: number of the GPIO. edges: rising ones so far. Nothing is driven before start().
    """

    def __init__(self, chip: EmulatedImu, pin: Pin, line: int) -> None:
        self.chip = chip
        self.line = line
        self.edges = 0
        self._pin = pin
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._file: TextIO | None = None
        self._is_high = False
        self._taken = 0

    def write(self, data: bytes) -> None:
        """Take a write message."""
        with self._lock:
            self.chip.write(data)
            self._settle()

    def read(self, count: int) -> bytes:
        """Answer a read message."""
        with self._lock:
            answer = self.chip.read(count)
            self._settle()
            return answer

    def power_cycle(self) -> None:
        """Lose everything that was written."""
        with self._lock:
            self.chip.power_cycle()

    def start(self) -> None:
        """Let the pin follow the chip, in a thread of its own."""
        (pull,) = PINS.glob(f"gpiochip*/sim_gpio{self.line}/pull")
        self._file = pull.open("w", encoding="ascii", buffering=1)
        threading.Thread(target=self._follow, daemon=True).start()

    def stop(self) -> None:
        """Leave the pin as it is."""
        self._stop.set()

    def _follow(self) -> None:
        """Look at the chip whenever it has taken a sample; accesses look by themselves."""
        while not self._stop.is_set():
            with self._lock:
                next_s = self.chip.next_sample_s
                self._settle()
            now_s = time.monotonic()
            time.sleep(IDLE_S if next_s is None else min(max(next_s - now_s, 0.0), 4 * IDLE_S))

    def _settle(self) -> None:
        """Bring the pin to where the chip would drive it now."""
        if self._file is None:
            return
        if self._pin.pulse(self.chip) and self.chip.samples_taken != self._taken:
            self._drive(high=True)
            self._drive(high=False)
        elif self._pin.level(self.chip) != self._is_high:
            self._drive(high=not self._is_high)
        self._taken = self.chip.samples_taken

    def _drive(self, *, high: bool) -> None:
        assert self._file is not None
        self._file.write("pull-up\n" if high else "pull-down\n")
        self._is_high = high
        self.edges += high
