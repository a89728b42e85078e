"""The emulated bus: messages, SMBus on top of them, and faults on schedule."""

from __future__ import annotations

import errno

import pytest

from emulator.bus import (
    FAULT_KINDS,
    SMBUS_BYTE,
    SMBUS_BYTE_DATA,
    SMBUS_I2C_BLOCK_DATA,
    SMBUS_QUICK,
    SMBUS_WORD_DATA,
    EmulatedBus,
    Fault,
    Message,
    smbus_transfer,
)
from emulator.inprocess import VirtualTime


class Memory:
    """A device of 256 registers that counts its power cycles."""

    def __init__(self) -> None:
        self.registers = bytearray(range(256))
        self.pointer = 0
        self.power_cycles = 0

    def write(self, data: bytes) -> None:
        if data:
            self.pointer = data[0]
            self.registers[self.pointer : self.pointer + len(data) - 1] = data[1:]

    def read(self, count: int) -> bytes:
        return bytes(self.registers[self.pointer : self.pointer + count])

    def power_cycle(self) -> None:
        self.power_cycles += 1


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def bus(time: VirtualTime, memory: Memory) -> EmulatedBus:
    return EmulatedBus({0x50: memory}, clock=time.now, sleep=time.sleep)


def read(bus: EmulatedBus, register: int, count: int) -> bytes:
    answer = Message(0x50, is_read=True, data=bytearray(count))
    bus.transfer([Message(0x50, is_read=False, data=bytearray([register])), answer])
    return bytes(answer.data)


def failure(bus: EmulatedBus, register: int = 1) -> int | None:
    try:
        read(bus, register, 1)
    except OSError as error:
        return error.errno
    return None


def test_combined_transfer(bus: EmulatedBus) -> None:
    assert read(bus, 0x10, 3) == b"\x10\x11\x12"


def test_only_the_last_message_may_be_a_read(bus: EmulatedBus) -> None:
    """As with i2c-bcm2835: a driver that asks for more works on every board but a Raspberry Pi."""
    reads = [Message(0x50, is_read=True, data=bytearray(1)) for _ in range(2)]
    with pytest.raises(OSError, match="not supported"):
        bus.transfer([Message(0x50, is_read=False, data=bytearray(1)), *reads])


def test_an_address_without_device_does_not_acknowledge(bus: EmulatedBus) -> None:
    with pytest.raises(OSError, match="Remote I/O error"):
        bus.transfer([Message(0x51, is_read=False, data=bytearray(1))])
    assert bus.errors == 1


def test_transfers_take_their_time_on_the_wire(bus: EmulatedBus, time: VirtualTime) -> None:
    before_s = time.now()
    read(bus, 0x00, 200)
    bits = (2 * 9 + 2) + (201 * 9 + 2)  # address and register, then address and data, each with start and stop
    assert time.now() - before_s == pytest.approx(bits / 400_000)


@pytest.mark.parametrize(
    ("size", "before", "after"),
    [
        (SMBUS_BYTE, b"\0\0\0", b"\x20\0\0"),
        (SMBUS_BYTE_DATA, b"\0\0\0", b"\x20\0\0"),
        (SMBUS_WORD_DATA, b"\0\0\0", b"\x20\x21\0"),
        (SMBUS_I2C_BLOCK_DATA, b"\2\0\0", b"\2\x20\x21"),
    ],
)
def test_smbus_reads(bus: EmulatedBus, memory: Memory, size: int, before: bytes, after: bytes) -> None:
    memory.pointer = 0x20
    data = bytearray(before.ljust(34, b"\0"))
    smbus_transfer(bus, 0x50, is_read=True, command=0x20, size=size, data=data)
    assert data[:3] == after


@pytest.mark.parametrize(
    ("size", "data", "stored"),
    [
        (SMBUS_BYTE_DATA, b"\xaa\xbb", b"\xaa\x31\x32"),
        (SMBUS_WORD_DATA, b"\xaa\xbb", b"\xaa\xbb\x32"),
        (SMBUS_I2C_BLOCK_DATA, b"\3\xaa\xbb\xcc", b"\xaa\xbb\xcc"),
    ],
)
def test_smbus_writes(bus: EmulatedBus, memory: Memory, size: int, data: bytes, stored: bytes) -> None:
    smbus_transfer(bus, 0x50, is_read=False, command=0x30, size=size, data=bytearray(data.ljust(34, b"\0")))
    assert memory.registers[0x30:0x33] == stored


def test_smbus_quick_only_asks_who_is_there(bus: EmulatedBus) -> None:
    smbus_transfer(bus, 0x50, is_read=False, command=0, size=SMBUS_QUICK, data=bytearray(34))
    with pytest.raises(OSError, match="Remote I/O"):
        smbus_transfer(bus, 0x51, is_read=False, command=0, size=SMBUS_QUICK, data=bytearray(34))


@pytest.mark.parametrize(("size", "count", "number"), [(5, 1, errno.EOPNOTSUPP), (8, 0, errno.EINVAL), (8, 33, 22)])
def test_smbus_refusals(bus: EmulatedBus, size: int, count: int, number: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011  the errno is the point
        smbus_transfer(bus, 0x50, is_read=True, command=0, size=size, data=bytearray([count]).ljust(34))
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("kind", "argument", "number", "s"),
    [
        ("nack", None, 121, 0.0),
        ("nack", 6, 6, 0.0),
        ("nack_after", None, 121, 0.0),
        ("again", None, 11, 0.0),
        ("busy", None, 16, 0.0),
        ("unsupported", None, 95, 0.0),
        ("gone", None, 19, 0.0),
        ("timeout", None, 110, 1.0),
        ("stuck", None, 110, 0.02),
        ("stall", 0.7, None, 0.7),
        ("stall_after", 0.7, None, 0.7),
        ("glitch", None, None, 0.0),
        ("garbage", None, None, 0.0),
        ("fill", 255, None, 0.0),
    ],
)
def test_faults_look_like_those_of_an_adapter(kind: str, argument: float | None, number: int | None, s: float) -> None:
    time, memory = VirtualTime(), Memory()
    bus = EmulatedBus({0x50: memory}, clock=time.now, sleep=time.sleep)
    bus.inject_now(kind, argument=argument, times=1)
    before_s = time.now()
    assert failure(bus) == number
    assert time.now() - before_s == pytest.approx(s, abs=0.001)
    assert memory.power_cycles == (kind == "glitch")
    assert failure(bus) is None


def test_every_fault_kind_is_tested() -> None:
    marks = test_faults_look_like_those_of_an_adapter.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(FAULT_KINDS)


def test_faults_change_what_is_read(bus: EmulatedBus) -> None:
    bus.inject_now("fill", argument=0xFF, times=1)
    assert read(bus, 0, 4) == b"\xff" * 4
    bus.inject_now("garbage", times=1)
    assert read(bus, 0, 16) != bytes(range(16))


def test_faults_have_a_time_and_a_register(bus: EmulatedBus, time: VirtualTime) -> None:
    bus.inject(Fault("nack", start_s=1.0, end_s=2.0, register=0x74))
    assert failure(bus, 0x74) is None
    time.sleep(1.5)
    assert failure(bus, 0x72) is None
    assert failure(bus, 0x74) == errno.EREMOTEIO
    time.sleep(1.0)
    assert failure(bus, 0x74) is None


def test_faults_can_be_cleared(bus: EmulatedBus) -> None:
    bus.inject_now("gone")
    assert failure(bus) == errno.ENODEV
    bus.clear_faults()
    assert failure(bus) is None


def test_faults_from_a_command_line() -> None:
    assert Fault.parse("nack:2:2.5") == Fault("nack", 2.0, 2.5)
    assert Fault.parse("stall:5:6:0.8") == Fault("stall", 5.0, 6.0, 0.8)
    with pytest.raises(ValueError, match="'smoke' is unknown; allowed are nack"):
        Fault.parse("smoke:0:1")
