"""The I2C bus as the drivers see it: registers with bounded retry, and bursts that are never retried."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, TypeVar

from edge.errors import ImuError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

T = TypeVar("T")

TRANSIENT_ERRNOS = frozenset({errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN})
"""One lost acknowledge or lost arbitration looks like this; the next try usually works."""

RETRY_WAITS_S = (0.001, 0.004, 0.016)
RETRY_BUDGET_S = 0.1
"""A time-out blocks for a second (i2c-bcm2835): repeating it would starve the pipeline, so retries end after this."""

SMBUS_BLOCK_BYTES = 32


class I2cBus(Protocol):
    """What a driver needs of a bus. Every method raises OSError with the adapter's errno."""

    name: str

    def read_registers(self, address: int, register: int, count: int = 1) -> bytes:
        """Read neighbouring registers, 32 or fewer in one transaction on every adapter; retried a few times."""

    def write_register(self, address: int, register: int, value: int) -> None:
        """Write one register; safe to repeat, so retried a few times."""

    def read_burst(self, address: int, register: int, count: int, *, unit: int = 1) -> bytes:
        """Read a FIFO port in one transaction. Never retried: a failed burst may have popped bytes.

        unit: bytes that belong together, 32 or fewer; an adapter that cannot read so many at once cuts between units.
        """

    def write_burst(self, address: int, register: int, data: bytes) -> None:
        """Write 1..32 bytes to a port in one transaction. Never retried: a part may have been taken."""

    def close(self) -> None:
        """Release the bus; may be called twice."""


class RetryingBus(ABC):
    """Bounded retry of register access over three raw operations that a transport provides."""

    def __init__(
        self, name: str, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.name = name
        self.retries = 0
        self._clock = clock
        self._sleep = sleep

    def read_registers(self, address: int, register: int, count: int = 1) -> bytes:
        """Read neighbouring registers, retrying transient errors."""
        return self._retry(lambda: self._read(address, register, count))

    def write_register(self, address: int, register: int, value: int) -> None:
        """Write one register, retrying transient errors."""
        self._retry(lambda: self._write(address, register, value))

    def read_burst(self, address: int, register: int, count: int, *, unit: int = 1) -> bytes:
        """Read a FIFO port once."""
        return self._burst(address, register, count, unit)

    def write_burst(self, address: int, register: int, data: bytes) -> None:
        """Write to a port once."""
        self._write_block(address, register, data)

    def _retry(self, operation: Callable[[], T]) -> T:
        started_s = self._clock()
        for wait_s in RETRY_WAITS_S:
            try:
                return operation()
            except OSError as error:
                if error.errno not in TRANSIENT_ERRNOS or self._clock() - started_s > RETRY_BUDGET_S:
                    raise
            self.retries += 1
            self._sleep(wait_s)
        return operation()

    @abstractmethod
    def _read(self, address: int, register: int, count: int) -> bytes:
        """Read registers, once."""

    @abstractmethod
    def _write(self, address: int, register: int, value: int) -> None:
        """Write a register, once."""

    @abstractmethod
    def _write_block(self, address: int, register: int, data: bytes) -> None:
        """Write up to 32 bytes, once."""

    @abstractmethod
    def _burst(self, address: int, register: int, count: int, unit: int) -> bytes:
        """Read a port, once."""


class SmbusBus(RetryingBus):
    """A Linux I2C adapter through smbus2.

    bus: adapter number (1) or path ("/dev/i2c-1"). Raises ImuError, in the user's words, if it cannot be opened.
    """

    def __init__(self, bus: int | str | PathLike[str]) -> None:
        super().__init__(bus_path(bus))
        from smbus2 import I2cFunc, SMBus  # noqa: PLC0415  replay must not need it

        self._smbus = SMBus()
        try:
            self._smbus.open(self.name)
        except OSError as error:
            self.close()
            raise ImuError(explain_open(error, self.name)) from error
        self._has_transfers = bool(self._smbus.funcs & I2cFunc.I2C)

    def close(self) -> None:
        """Release the bus; may be called twice."""
        if self._smbus.fd is not None:
            with contextlib.suppress(OSError):  # a bus that has vanished cannot even be closed
                self._smbus.close()
            self._smbus.fd = None  # kept by smbus2 when close() fails; the number may be another file's by next time

    def _read(self, address: int, register: int, count: int) -> bytes:
        if count == 1:
            return bytes([self._smbus.read_byte_data(address, register)])
        if count > SMBUS_BLOCK_BYTES:
            if self._has_transfers:
                return self._burst(address, register, count, 1)
            head = self._read(address, register, SMBUS_BLOCK_BYTES)
            return head + self._read(address, register + len(head), count - len(head))
        return bytes(self._smbus.read_i2c_block_data(address, register, count))

    def _write(self, address: int, register: int, value: int) -> None:
        self._smbus.write_byte_data(address, register, value)

    def _write_block(self, address: int, register: int, data: bytes) -> None:
        self._smbus.write_i2c_block_data(address, register, list(data))

    def _burst(self, address: int, register: int, count: int, unit: int) -> bytes:
        if not self._has_transfers:
            return self._chunks(address, register, count, unit)
        from smbus2 import i2c_msg  # noqa: PLC0415

        select, answer = i2c_msg.write(address, [register]), i2c_msg.read(address, count)
        self._smbus.i2c_rdwr(select, answer)
        return bytes(answer)

    def _chunks(self, address: int, register: int, count: int, unit: int) -> bytes:
        """Read whole units, 32 bytes or fewer at a time, all that an SMBus-only adapter can."""
        data = bytearray()
        while len(data) < count:
            size = min(SMBUS_BLOCK_BYTES // unit * unit, count - len(data))
            data += bytes(self._smbus.read_i2c_block_data(address, register, size))
        return bytes(data)


def bus_path(bus: int | str | PathLike[str]) -> str:
    """Device path of a bus given as a number, a numeric string or a path."""
    text = os.fspath(bus) if not isinstance(bus, int) else str(bus)
    return f"/dev/i2c-{text}" if text.isdecimal() else text


def scan_command(path: str) -> str:
    """Return the command that shows the user what answers on a bus."""
    number = path.rpartition("/dev/i2c-")[2]
    return f"i2cdetect -y {number if number.isdecimal() else 'N'}"


def explain_open(error: OSError, path: str) -> str:
    """One line for a bus that cannot be opened."""
    match error.errno:
        case errno.ENOENT:
            return (
                f"no I2C bus at {path}: enable I2C (`sudo raspi-config nonint do_i2c 0`, or dtparam=i2c_arm=on), "
                "then run `i2cdetect -l` to list the buses"
            )
        case errno.EACCES | errno.EPERM:
            return f"no permission to open {path}: run `sudo usermod -aG i2c $USER`, then log in again"
        case errno.ENOTTY | errno.EINVAL | errno.EISDIR:
            return f"{path} is not an I2C bus: run `i2cdetect -l` to list the buses"
        case _:
            return f"cannot open the I2C bus {path}: {error.strerror or error}; run `i2cdetect -l` to list the buses"


def explain_access(error: OSError, address: int, path: str) -> str:
    """One line for a device that does not answer on an open bus."""
    scan = scan_command(path)
    match error.errno:
        case errno.EREMOTEIO | errno.ENXIO | errno.EIO:
            return f"no device at {address:#04x} on {path}: check the wiring, then run `{scan}`"
        case errno.EBUSY:
            return (
                f"a kernel driver holds {address:#04x} on {path}: remove its device-tree overlay, "
                "or unbind it under /sys/bus/i2c/drivers"
            )
        case errno.ETIMEDOUT | errno.EAGAIN:
            return (
                f"the I2C bus {path} is stuck ({errno.errorcode[error.errno]}): SDA or SCL is held low; "
                f"power the sensor off and on, check pull-ups and wiring, then run `{scan}`"
            )
        case _:
            return f"{address:#04x} on {path} cannot be read: {error.strerror or error}; run `{scan}`"
