"""What a chip module provides to the source that drives it: primitives, and two ways to say that data are no good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge.types import FloatArray


class FifoFault(Exception):  # noqa: N818
    """What is in the FIFO cannot be trusted; restarting the FIFO cures it. counter: which count it belongs to."""

    def __init__(self, counter: str, reason: str) -> None:
        super().__init__(reason)
        self.counter = counter


class RegisterFault(Exception):  # noqa: N818
    """The chip no longer holds its configuration (brown-out, glitch): it has to be set up again."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Decoded FIFO frames. imu: [n, 6] float32 m/s² and rad/s in the chip's own axes."""

    imu: FloatArray
    temperature_c: float | None = None


class Chip(Protocol):
    """A connected, identified sensor. Methods raise OSError from the bus, RegisterFault or FifoFault.

    frame_bytes: one sample in the FIFO; fifo_bytes: size of the FIFO; odr_hz: nominal rate it is configured for;
    rate_tolerance: how far off the true rate may be.
    """

    name: str
    odr_hz: float
    rate_tolerance: float
    frame_bytes: int
    fifo_bytes: int

    def start(self) -> None:
        """Reset, configure, read back, start the FIFO."""

    def restart_fifo(self) -> None:
        """Empty the FIFO so that the next byte in it is the first of a frame; clear the overflow flag."""

    def fifo_level(self) -> int:
        """Bytes waiting in the FIFO."""

    def read_fifo(self, count: int) -> bytes:
        """Pop whole frames, so many bytes, in one transaction where the adapter can, without retry."""

    def decode(self, data: bytes) -> Frames:
        """Frames to SI units; FifoFault if they are out of step."""

    def verify(self, *, everything: bool) -> None:
        """RegisterFault if the chip was reset; also checks a rolling part (or all) of the other registers."""

    def judge(self) -> bool:
        """Do verify(everything=False); return whether the chip has told of an overflow since this was last asked.

        An overflow flag is only looked at where that costs no transaction of its own: time tells, too.
        """

    def pedometer_steps(self) -> int | None:
        """Return the 16-bit count of the chip's own pedometer, None where it has none."""

    def shutdown(self) -> None:
        """Put the chip to sleep and release the bus; never raises; may be called twice."""
