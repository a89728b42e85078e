"""The i2c-dev ioctl interface (uapi/linux/i2c-dev.h) over an emulated bus, for callers in other processes."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING

from emulator.bus import I2C_FUNC_I2C, Message, smbus_transfer

if TYPE_CHECKING:
    from emulator.bus import EmulatedBus

I2C_RETRIES, I2C_TIMEOUT, I2C_SLAVE, I2C_TENBIT = 0x0701, 0x0702, 0x0703, 0x0704
I2C_FUNCS, I2C_SLAVE_FORCE, I2C_RDWR, I2C_PEC, I2C_SMBUS = 0x0705, 0x0706, 0x0707, 0x0708, 0x0720
I2C_M_RD = 0x0001
MAX_MESSAGES, MAX_MESSAGE_BYTES = 42, 8192
SMBUS_UNION_BYTES = 34

# Native sizes and alignment: the caller is a program of this machine.
RDWR = struct.Struct("@PI")
MESSAGE = struct.Struct("@HHHP")
SMBUS = struct.Struct("@BBIP")

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class I2cDev:
    """Answers what programs do to /dev/i2c-N. Methods raise OSError with the errno that the caller shall get."""

    def __init__(self, bus: EmulatedBus) -> None:
        self._bus = bus
        self._address: dict[int, int] = {}

    def ioctl(self, handle: int, pid: int, command: int, argument: int) -> int:
        """One ioctl of process `pid` on an open file; `argument` is a number or an address in its memory."""
        if command in (I2C_SLAVE, I2C_SLAVE_FORCE):
            self._address[handle] = argument
        elif command == I2C_FUNCS:
            poke_memory(pid, argument, struct.pack("@L", self._bus.functionality))
        elif command == I2C_RDWR:
            if not self._bus.functionality & I2C_FUNC_I2C:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return self._rdwr(pid, argument)
        elif command == I2C_SMBUS:
            self._smbus(handle, pid, argument)
        elif command not in (I2C_RETRIES, I2C_TIMEOUT, I2C_TENBIT, I2C_PEC):
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return 0

    def read(self, handle: int, size: int) -> bytes:
        """One read message, which is what reading the device file means."""
        message = Message(self._address.get(handle, 0), is_read=True, data=bytearray(size))
        self._bus.transfer([message])
        return bytes(message.data)

    def write(self, handle: int, data: bytes) -> None:
        """One write message, which is what writing the device file means."""
        self._bus.transfer([Message(self._address.get(handle, 0), is_read=False, data=bytearray(data))])

    def release(self, handle: int) -> None:
        """Forget a file that was closed."""
        self._address.pop(handle, None)

    def _rdwr(self, pid: int, argument: int) -> int:
        table, count = RDWR.unpack(peek_memory(pid, argument, RDWR.size))
        if not 0 < count <= MAX_MESSAGES:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        messages: list[Message] = []
        buffers: list[int] = []
        for address, flags, length, buffer in MESSAGE.iter_unpack(peek_memory(pid, table, MESSAGE.size * count)):
            if length > MAX_MESSAGE_BYTES:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            is_read = bool(flags & I2C_M_RD)
            data = bytearray(length) if is_read else bytearray(peek_memory(pid, buffer, length))
            messages.append(Message(address, is_read, data))
            buffers.append(buffer)
        self._bus.transfer(messages)
        for message, buffer in zip(messages, buffers, strict=True):
            if message.is_read:
                poke_memory(pid, buffer, bytes(message.data))
        return int(count)

    def _smbus(self, handle: int, pid: int, argument: int) -> None:
        read_write, command, size, buffer = SMBUS.unpack(peek_memory(pid, argument, SMBUS.size))
        data = bytearray(peek_memory(pid, buffer, SMBUS_UNION_BYTES) if buffer else SMBUS_UNION_BYTES)
        address = self._address.get(handle, 0)
        smbus_transfer(self._bus, address, is_read=bool(read_write), command=command, size=size, data=data)
        if buffer and read_write:
            poke_memory(pid, buffer, bytes(data))


def peek_memory(pid: int, address: int, count: int) -> bytes:
    """Bytes from another process's memory."""
    if count == 0:
        return b""
    local = ctypes.create_string_buffer(count)
    _copy(_libc.process_vm_readv, pid, local, address, count)
    return local.raw


def poke_memory(pid: int, address: int, data: bytes) -> None:
    """Write into another process's memory."""
    if data:
        _copy(_libc.process_vm_writev, pid, ctypes.create_string_buffer(data, len(data)), address, len(data))


def _copy(
    operation: ctypes._NamedFuncPointer, pid: int, local: ctypes.Array[ctypes.c_char], address: int, count: int
) -> None:
    here = _Iovec(ctypes.addressof(local), count)
    there = _Iovec(address, count)
    if operation(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) != count:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
