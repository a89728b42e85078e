"""The INT pins of emulated chips on the lines of a gpio-sim: the edges that a kernel driver waits for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """INT_SOURCE0.FIFO_THS_INT1_EN, while FIFO_THS stands in INT_STATUS (DS-000347 14.54 and 14.23)."""
    return bool(chip.peek(0x65) & 0x04 and chip.peek(0x2D) & 0x04)


@dataclass(frozen=True, slots=True)
class Pin:
    """One row: what the pin of a chip does. level: whether it is high now; or a pulse with every new sample."""

    level: Callable[[EmulatedImu], bool] = lambda _: False
    pulse: Callable[[EmulatedImu], bool] = lambda _: False


PIN_OF: dict[str, Pin] = {
    # INT_ENABLE.DATA_RDY_EN (RM-MPU-6000A 4.15); the kernel's driver asks for pulses, not a latch.
    **dict.fromkeys(("mpu6050", "mpu6500", "mpu9250", "mpu9255"), Pin(pulse=lambda chip: pulses(chip, 0x38, 0x01))),
    "icm42688": Pin(level=icm_threshold),
    **dict.fromkeys(("lsm6ds3", "lsm6ds3trc"), Pin(level=lsm_untagged)),
    **dict.fromkeys(("lsm6dsox", "ism330dhcx"), Pin(level=lsm_tagged)),
    "bmi160": Pin(pulse=lambda chip: pulses(chip, 0x51, 0x10)),  # INT_EN_1.int_drdy_en (data sheet 2.11.24)
    "lsm9ds1": Pin(),
}


@dataclass
class Wired:
    """An emulated chip as a bus device, whose registers its INT pin may look at meanwhile.

    line: number of the GPIO that the pin drives. edges: rising ones so far.
    """

    chip: EmulatedImu
    pin: Pin
    line: int
    edges: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def write(self, data: bytes) -> None:
        """Take a write message."""
        with self._lock:
            self.chip.write(data)

    def read(self, count: int) -> bytes:
        """Answer a read message."""
        with self._lock:
            return self.chip.read(count)

    def power_cycle(self) -> None:
        """Lose everything that was written."""
        with self._lock:
            self.chip.power_cycle()

    def start(self) -> None:
        """Let the pin follow the chip, in a thread of its own."""
        threading.Thread(target=self._follow, daemon=True).start()

    def stop(self) -> None:
        """Leave the pin as it is."""
        self._stop.set()

    def _follow(self) -> None:
        (pull,) = PINS.glob(f"gpiochip*/sim_gpio{self.line}/pull")
        was_high, taken = False, 0
        with pull.open("w", encoding="ascii", buffering=1) as file:

            def drive(high: bool) -> None:
                file.write("pull-up\n" if high else "pull-down\n")
                file.seek(0)
                self.edges += high

            while not self._stop.is_set():
                with self._lock:
                    next_s = self.chip.next_sample_s
                    high = self.pin.level(self.chip)
                    pulse = self.pin.pulse(self.chip) and self.chip.samples_taken != taken
                    taken = self.chip.samples_taken
                if pulse:
                    drive(high=True)
                    drive(high=False)
                elif high != was_high:
                    drive(high)
                was_high = high
                now_s = time.monotonic()
                time.sleep(IDLE_S if next_s is None else min(max(next_s - now_s, 0.0), 4 * IDLE_S))
