"""An emulated I2C bus behind a real kernel I2C adapter: i2c-tiny-usb, a USB device that this process plays over USB/IP.

The kernel on which this runs needs vhci_hcd and i2c-tiny-usb, and root; tests/uml makes one. Unlike the FUSE file it
has the kernel's whole I2C core above it, so that the kernel's own IIO drivers can bind to the emulated chips.
Sources: Documentation/usb/usbip_protocol.rst, drivers/i2c/busses/i2c-tiny-usb.c, USB 2.0 chapter 9.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from emulator import EmulatorError
from emulator.bus import FUNCTIONALITY, Message

if TYPE_CHECKING:
    from emulator.bus import EmulatedBus

VHCI = Path("/sys/devices/platform/vhci_hcd.0")
ADAPTERS = Path("/sys/bus/i2c/devices")
FULL_SPEED = 2
ATTACH_TIMEOUT_S = 20.0

# A full-speed device of one configuration with one interface without endpoints; vendor and product of i2c-tiny-usb.
DEVICE_DESCRIPTOR = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0110, 0xFF, 0, 0, 8, 0x0403, 0xC631, 0x0205, 0, 0, 0, 1)
CONFIGURATION_DESCRIPTOR = struct.pack("<BBHBBBBB", 9, 2, 18, 1, 1, 0, 0x80, 50)
INTERFACE_DESCRIPTOR = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 0, 0, 0, 0, 0)
LANGUAGES_DESCRIPTOR = struct.pack("<BBH", 4, 3, 0x0409)

REQUEST_TYPE_MASK = 0x60
GET_STATUS, GET_DESCRIPTOR = 0, 6
# Vendor requests (i2c-tiny-usb.c CMD_*).
ECHO, GET_FUNC, SET_DELAY, GET_I2C_STATUS, IO_FIRST, IO_LAST = 0, 1, 2, 3, 4, 7
STATUS_IDLE, STATUS_ACKNOWLEDGED, STATUS_NOT_ACKNOWLEDGED = 0, 1, 2
READ_FLAG = 0x0001

CMD_SUBMIT, CMD_UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4
HEADER_BYTES = 48


class TinyUsb:
    """The device's side of control transfers: USB requests to I2C messages on an emulated bus."""

    def __init__(self, bus: EmulatedBus) -> None:
        self._bus = bus
        self._status = STATUS_IDLE

    def control(self, setup: bytes, out: bytes) -> bytes | None:
        """Answer one control transfer; None stalls it, which the adapter's driver reports as EIO."""
        kind, request, value, index, length = struct.unpack("<BBHHH", setup)
        if kind & REQUEST_TYPE_MASK == 0:
            return self._standard(request, value, length)
        match request:
            case 0:  # ECHO
                return struct.pack("<H", value)[:length]
            case 1:  # GET_FUNC
                return struct.pack("<I", FUNCTIONALITY)[:length]
            case 2:  # SET_DELAY: this bus has its own speed
                return b""
            case 3:  # GET_STATUS
                return bytes([self._status])
        return self._message(value, index, length, out) if IO_FIRST <= request <= IO_LAST else None

    def _standard(self, request: int, value: int, length: int) -> bytes | None:
        if request == GET_STATUS:
            return bytes(2)[:length]
        if request != GET_DESCRIPTOR:
            return b""  # SET_CONFIGURATION and the like are taken as they are
        descriptors = {
            1: DEVICE_DESCRIPTOR,
            2: CONFIGURATION_DESCRIPTOR + INTERFACE_DESCRIPTOR,
            3: LANGUAGES_DESCRIPTOR,
        }
        descriptor = descriptors.get(value >> 8)
        return None if descriptor is None else descriptor[:length]

    def _message(self, flags: int, address: int, length: int, out: bytes) -> bytes | None:
        is_read = bool(flags & READ_FLAG)
        message = Message(address, is_read, bytearray(length) if is_read else bytearray(out))
        try:
            self._bus.transfer([message])
        except OSError as error:
            self._status = STATUS_NOT_ACKNOWLEDGED
            # A wedged bus is no missing acknowledge: the real adapter's firmware would time out.
            return None if error.errno == errno.ETIMEDOUT else bytes(message.data) if is_read else b""
        self._status = STATUS_ACKNOWLEDGED
        return bytes(message.data) if is_read else b""


class UsbIpAdapter:
    """An I2C adapter of the running kernel whose chips are emulated here.

    number: N of its /dev/i2c-N. Raises EmulatorError if this kernel has no vhci_hcd or no i2c-tiny-usb.
    """

    def __init__(self, bus: EmulatedBus, *, port: int = 0) -> None:
        if not (VHCI / "attach").exists():
            raise EmulatorError(
                f"{VHCI} is not there: USB/IP needs `modprobe vhci_hcd`, or the kernel of `make test-uml`"
            )
        before = set(_adapters())
        self._kernel_side, self._side = socket.socketpair()
        self._device = TinyUsb(bus)
        threading.Thread(target=self._serve, daemon=True).start()
        (VHCI / "attach").write_text(f"{port} {self._kernel_side.fileno()} {1 << 16 | port + 1} {FULL_SPEED}")
        deadline_s = time.monotonic() + ATTACH_TIMEOUT_S
        while not (new := set(_adapters()) - before):
            if time.monotonic() > deadline_s:
                raise EmulatorError("no I2C adapter came up: `modprobe i2c-tiny-usb`, and look at `dmesg | tail`")
            time.sleep(0.02)
        self.number = new.pop()

    def close(self) -> None:
        """Unplug it."""
        self._side.shutdown(socket.SHUT_RDWR)  # close() alone would leave our reader, and so the kernel, waiting
        self._side.close()
        self._kernel_side.close()

    def _serve(self) -> None:
        try:
            while True:
                self._answer(_exactly(self._side, HEADER_BYTES))
        except (EOFError, OSError):
            return

    def _answer(self, header: bytes) -> None:
        command, sequence, _, is_in, _ = struct.unpack_from(">IIIII", header)
        if command == CMD_UNLINK:
            self._side.sendall(struct.pack(">IIIIIi24x", RET_UNLINK, sequence, 0, 0, 0, 0))
            return
        (length,) = struct.unpack_from(">i", header, 24)
        out = b"" if is_in or not length else _exactly(self._side, length)
        answer = self._device.control(header[40:48], out)
        status = 0 if answer is not None else -errno.EPIPE
        data = answer if is_in and answer is not None else b""
        actual = len(data) if is_in else length
        reply = struct.pack(">IIIIIiiiii8x", RET_SUBMIT, sequence, 0, 0, 0, status, actual, 0, 0, 0)
        self._side.sendall(reply + data)


def _adapters() -> list[int]:
    """Numbers of all i2c-tiny-usb adapters."""
    names = ADAPTERS.glob("i2c-*/name")
    return [int(path.parent.name[4:]) for path in names if "i2c-tiny-usb" in path.read_text(encoding="utf-8")]


def _exactly(side: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = side.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
