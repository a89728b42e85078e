"""An I2C bus without wires: messages to emulated devices, SMBus on top as the kernel does it, and faults on schedule.

A transport (a FUSE file, an object in the same process) hands over messages; the bus answers, or raises OSError with
the errno that a Linux adapter would give.
"""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

I2C_FUNC_I2C, I2C_FUNC_SMBUS_EMUL = 0x00000001, 0x0EFF0008
FUNCTIONALITY = I2C_FUNC_I2C | I2C_FUNC_SMBUS_EMUL
"""What i2c-bcm2835 reports (uapi/linux/i2c.h)."""

FAULT_KINDS = {
    "nack": "the device does not acknowledge; argument: errno, 121 by default (some adapters give 6 or 5)",
    "nack_after": "the transfer happens, then fails; argument: errno. A FIFO burst has popped its bytes by then",
    "busy": "errno 16, a kernel driver holds the device",
    "again": "errno 11, lost arbitration",
    "unsupported": "errno 95, the adapter cannot do it",
    "timeout": "errno 110 after blocking; argument: seconds, 1 by default",
    "stuck": "errno 110 after 20 ms, SDA held low",
    "gone": "errno 19, the adapter itself has vanished",
    "stall": "the transfer waits first; argument: seconds (clock stretching, a host that is busy)",
    "stall_after": "the transfer waits before its answer is seen; argument: seconds",
    "glitch": "every device loses power for a moment, then the transfer happens",
    "garbage": "read bytes are random",
    "fill": "read bytes are all the same; argument: the byte",
}


class Device(Protocol):
    """An I2C slave."""

    def write(self, data: bytes) -> None:
        """Take a write message; the first byte is usually a register."""

    def read(self, count: int) -> bytes:
        """Answer a read message."""

    def power_cycle(self) -> None:
        """Lose everything that was written."""


@dataclass(slots=True)
class Message:
    """One I2C message; a read fills `data` in place."""

    address: int
    is_read: bool
    data: bytearray


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and when.

    kind: a key of FAULT_KINDS; start_s, end_s: on the bus's clock, from its start; times: how often at most;
    register: only transfers that select this register first; None: all.
    """

    kind: str
    start_s: float = 0.0
    end_s: float = float("inf")
    argument: float | None = None
    times: int | None = None
    register: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"fault {self.kind!r} is unknown; allowed are {', '.join(FAULT_KINDS)}")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `kind:start:end[:argument]`, e.g. `nack:2:2.5` or `stall:5:5.1:0.8`."""
        kind, *numbers = text.split(":")
        start_s, end_s, argument = (*(float(number) for number in numbers), None, None, None)[:3]
        return cls(kind, start_s or 0.0, float("inf") if end_s is None else end_s, argument)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    used: int = 0

    def fires(self, now_s: float, register: int | None) -> bool:
        fault = self.fault
        due = fault.start_s <= now_s < fault.end_s and (fault.times is None or self.used < fault.times)
        if not due or (fault.register is not None and fault.register != register):
            return False
        self.used += 1
        return True


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass(slots=True)
class EmulatedBus:
    """Devices by 7-bit address on one bus.

    bitrate_hz: how long transfers take on the wire (9 bits a byte), None for no time at all;
    clock, sleep: real by default, virtual in fast tests; seed: of the garbage; functionality: what the adapter says it
    can do, without I2C_FUNC_I2C for one that only does SMBus.
    """

    devices: Mapping[int, Device]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    bitrate_hz: float | None = 400_000.0
    seed: int = 0
    functionality: int = FUNCTIONALITY
    transfers: int = 0
    errors: int = 0
    _armed: list[_Armed] = field(default_factory=list, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _started_s: float = field(default=0.0, init=False)
    _random: random.Random = field(default_factory=random.Random, init=False)

    def __post_init__(self) -> None:
        self._started_s = self.clock()
        self._random.seed(self.seed)

    @property
    def lock(self) -> threading.Lock:
        """Held during a transfer: take it to change a device from another thread."""
        return self._lock

    def inject(self, fault: Fault) -> None:
        """Add a fault to the schedule."""
        self._armed.append(_Armed(fault))

    def inject_now(
        self,
        kind: str,
        *,
        for_s: float = float("inf"),
        argument: float | None = None,
        times: int | None = None,
        register: int | None = None,
    ) -> None:
        """Add a fault that starts now."""
        now_s = self.clock() - self._started_s
        self.inject(Fault(kind, now_s, now_s + for_s, argument, times, register))

    def clear_faults(self) -> None:
        """Everything works again."""
        self._armed.clear()

    def transfer(self, messages: Sequence[Message]) -> None:
        """One combined transaction, as ioctl I2C_RDWR; reads are filled in place. Raises OSError.

        As i2c-bcm2835 it takes one read at most, and that as the last message (bcm2835_i2c_xfer).
        """
        with self._lock:
            self.transfers += 1
            try:
                if any(message.is_read for message in messages[:-1]):
                    raise _error(errno.EOPNOTSUPP)
                self._transfer(messages)
            except OSError:
                self.errors += 1
                raise

    def _transfer(self, messages: Sequence[Message]) -> None:
        first = messages[0]
        register = first.data[0] if first.data and not first.is_read else None
        now_s = self.clock() - self._started_s
        faults = [armed.fault for armed in self._armed if armed.fires(now_s, register)]
        for fault in faults:
            self._before(fault)
        for message in messages:
            self._exchange(message)
        for fault in faults:
            self._after(fault, messages)

    def _exchange(self, message: Message) -> None:
        device = self.devices.get(message.address)
        if device is None:
            raise _error(errno.EREMOTEIO)
        if message.is_read:  # a FIFO is popped faster than it fills: as if at the beginning of the burst
            message.data[:] = device.read(len(message.data))
            self._wire(message)
        else:
            self._wire(message)
            device.write(bytes(message.data))

    def _wire(self, message: Message) -> None:
        """Let pass the time of address and data, 9 bits each, start and stop."""
        if self.bitrate_hz is not None:
            self.sleep((9 * (len(message.data) + 1) + 2) / self.bitrate_hz)

    def _before(self, fault: Fault) -> None:
        match fault.kind:
            case "nack":
                raise _error(int(fault.argument or errno.EREMOTEIO))
            case "busy":
                raise _error(errno.EBUSY)
            case "again":
                raise _error(errno.EAGAIN)
            case "unsupported":
                raise _error(errno.EOPNOTSUPP)
            case "gone":
                raise _error(errno.ENODEV)
            case "timeout" | "stuck":
                self.sleep(0.02 if fault.kind == "stuck" else 1.0 if fault.argument is None else fault.argument)
                raise _error(errno.ETIMEDOUT)
            case "stall":
                self.sleep(fault.argument or 0.0)
            case "glitch":
                for device in self.devices.values():
                    device.power_cycle()

    def _after(self, fault: Fault, messages: Sequence[Message]) -> None:
        reads = [message for message in messages if message.is_read]
        match fault.kind:
            case "nack_after":
                raise _error(int(fault.argument or errno.EREMOTEIO))
            case "stall_after":
                self.sleep(fault.argument or 0.0)
            case "garbage":
                for message in reads:
                    message.data[:] = self._random.randbytes(len(message.data))
            case "fill":
                for message in reads:
                    message.data[:] = bytes([int(fault.argument or 0)]) * len(message.data)


SMBUS_QUICK, SMBUS_BYTE, SMBUS_BYTE_DATA, SMBUS_WORD_DATA = 0, 1, 2, 3
SMBUS_I2C_BLOCK_BROKEN, SMBUS_I2C_BLOCK_DATA = 6, 8
SMBUS_BLOCK_MAX = 32


def smbus_transfer(bus: EmulatedBus, address: int, *, is_read: bool, command: int, size: int, data: bytearray) -> None:
    """SMBus over I2C messages, as the kernel's i2c_smbus_xfer_emulated. data: the 34-byte union, filled in place."""
    select = Message(address, is_read=False, data=bytearray([command]))
    if size == SMBUS_QUICK:
        bus.transfer([Message(address, is_read, bytearray())])
    elif size == SMBUS_BYTE and not is_read:
        bus.transfer([select])
    elif size == SMBUS_BYTE:
        answer = Message(address, is_read=True, data=bytearray(1))
        bus.transfer([answer])
        data[:1] = answer.data
    else:
        start, count = _span(size, data)
        if is_read:
            answer = Message(address, is_read=True, data=bytearray(count))
            bus.transfer([select, answer])
            data[start : start + count] = answer.data
        else:
            select.data += data[start : start + count]
            bus.transfer([select])


def _span(size: int, data: bytearray) -> tuple[int, int]:
    """Where in the union an SMBus transfer of this size keeps its bytes, and how many there are."""
    if size in (SMBUS_BYTE_DATA, SMBUS_WORD_DATA):
        return 0, 1 if size == SMBUS_BYTE_DATA else 2
    if size not in (SMBUS_I2C_BLOCK_DATA, SMBUS_I2C_BLOCK_BROKEN):
        raise _error(errno.EOPNOTSUPP)
    count = data[0]
    if not 0 < count <= SMBUS_BLOCK_MAX:
        raise _error(errno.EINVAL)
    return 1, count
