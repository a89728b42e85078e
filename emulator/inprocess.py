"""The emulated bus without a device file: an I2cBus object for unit tests and for machines without /dev/fuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import ImuError
from edge.imu.bus import SMBUS_BLOCK_BYTES, RetryingBus, explain_open
from emulator.bus import SMBUS_BYTE_DATA, SMBUS_I2C_BLOCK_DATA, Message, smbus_transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from emulator.bus import EmulatedBus


class VirtualTime:
    """A clock that only moves when somebody sleeps on it, so that minutes pass in milliseconds."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Virtual monotonic seconds."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += max(0.0, seconds)


class InProcessBus(RetryingBus):
    """Behaves as SmbusBus does over a real adapter: same retry, same errno, same errors after close()."""

    def __init__(self, bus: EmulatedBus, name: str = "/dev/i2c-1") -> None:
        super().__init__(name, clock=bus.clock, sleep=bus.sleep)
        self._bus: EmulatedBus | None = bus

    def close(self) -> None:
        """Release the bus; may be called twice."""
        self._bus = None

    def _open_bus(self) -> EmulatedBus:
        if self._bus is None:
            raise TypeError("the bus is closed")  # what smbus2 raises then: ioctl() of a file descriptor None
        return self._bus

    def _read(self, address: int, register: int, count: int) -> bytes:
        if count > SMBUS_BLOCK_BYTES:
            return self._burst(address, register, count, 1)
        data = bytearray(34)
        if count == 1:
            smbus_transfer(self._open_bus(), address, is_read=True, command=register, size=SMBUS_BYTE_DATA, data=data)
            return bytes(data[:1])
        data[0] = count
        smbus_transfer(self._open_bus(), address, is_read=True, command=register, size=SMBUS_I2C_BLOCK_DATA, data=data)
        return bytes(data[1 : 1 + count])

    def _write(self, address: int, register: int, value: int) -> None:
        data = bytearray([value]).ljust(34, b"\0")
        smbus_transfer(self._open_bus(), address, is_read=False, command=register, size=SMBUS_BYTE_DATA, data=data)

    def _write_block(self, address: int, register: int, data: bytes) -> None:
        union = bytearray([len(data), *data]).ljust(34, b"\0")
        smbus_transfer(
            self._open_bus(), address, is_read=False, command=register, size=SMBUS_I2C_BLOCK_DATA, data=union
        )

    def _burst(self, address: int, register: int, count: int, unit: int) -> bytes:  # noqa: ARG002
        answer = Message(address, is_read=True, data=bytearray(count))
        self._open_bus().transfer([Message(address, is_read=False, data=bytearray([register])), answer])
        return bytes(answer.data)


def opener(buses: Mapping[str, EmulatedBus]) -> Callable[[str], InProcessBus]:
    """Return an `open_bus` for edge.imu.open_imu over emulated buses by path; others do not exist."""

    def open_bus(path: str) -> InProcessBus:
        if path not in buses:
            raise ImuError(explain_open(FileNotFoundError(2, "No such file or directory"), path))
        return InProcessBus(buses[path], path)

    return open_bus
