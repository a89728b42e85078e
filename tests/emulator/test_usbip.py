"""The USB/IP side of the emulated adapter, asked as the kernel's vhci_hcd asks; the kernel itself is in tests/uml."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from emulator import EmulatorError, usbip
from emulator.bus import FUNCTIONALITY, EmulatedBus
from emulator.mpu6050 import Mpu6050

if TYPE_CHECKING:
    from pathlib import Path

VENDOR_IN, VENDOR_OUT, STANDARD_IN = 0xC1, 0x41, 0x80
IN, OUT = 1, 0


class Kernel:
    """vhci_hcd at the other end of the adapter's socket."""

    def __init__(self, tmp_path: Path, bus: EmulatedBus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vhci, self.adapters = tmp_path / "vhci", tmp_path / "adapters"
        self.vhci.mkdir()
        (self.vhci / "attach").touch()
        monkeypatch.setattr(usbip, "VHCI", self.vhci)
        monkeypatch.setattr(usbip, "ADAPTERS", self.adapters)
        calls = iter([[], [7]])
        monkeypatch.setattr(usbip, "_adapters", lambda: next(calls))
        self.adapter = usbip.UsbIpAdapter(bus, port=2)
        self.side = self.adapter._kernel_side
        self.sequence = 0

    def submit(self, kind: int, request: int, value: int, index: int, data: bytes | int) -> tuple[int, bytes]:
        """USBIP_CMD_SUBMIT; returns status and data."""
        self.sequence += 1
        direction, length, out = (OUT, len(data), data) if isinstance(data, bytes) else (IN, data, b"")
        setup = struct.pack("<BBHHH", kind, request, value, index, length)
        head = struct.pack(">IIIII", 1, self.sequence, 0x10003, direction, 0) + struct.pack(
            ">Iiiii", 0, length, 0, 0, 0
        )
        self.side.sendall(head + setup + out)
        reply = self.side.recv(48, socket.MSG_WAITALL)
        command, sequence = struct.unpack_from(">II", reply)
        status, actual = struct.unpack_from(">ii", reply, 20)
        assert (command, sequence, len(reply)) == (3, self.sequence, 48)
        return status, self.side.recv(actual, socket.MSG_WAITALL) if direction == IN and actual else b""

    def status(self) -> int:
        return self.submit(VENDOR_IN, 3, 0, 0, 1)[1][0]


@pytest.fixture
def bus() -> EmulatedBus:
    return EmulatedBus({0x68: Mpu6050(np.array([[1.0, -2.0, 9.5, 0, 0, 0]]), 100.0)}, bitrate_hz=None)


@pytest.fixture
def kernel(tmp_path: Path, bus: EmulatedBus, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, bus, monkeypatch)


def test_it_attaches_and_finds_its_number(kernel: Kernel) -> None:
    port, fd, device, speed = (kernel.vhci / "attach").read_text().split()
    assert (port, speed, kernel.adapter.number) == ("2", "2", 7)
    assert int(fd) == kernel.side.fileno()
    assert int(device) >> 16


def test_descriptors_say_i2c_tiny_usb(kernel: Kernel) -> None:
    status, device = kernel.submit(STANDARD_IN, 6, 0x0100, 0, 18)
    assert status == 0
    assert struct.unpack_from("<HH", device, 8) == (0x0403, 0xC631)
    _, configuration = kernel.submit(STANDARD_IN, 6, 0x0200, 0, 18)
    assert (len(configuration), configuration[9:11]) == (18, b"\x09\x04")
    assert kernel.submit(STANDARD_IN, 6, 0x0100, 0, 8)[1] == device[:8]
    assert kernel.submit(STANDARD_IN, 6, 0x0F00, 0, 5)[0] == -errno.EPIPE  # no such descriptor
    assert kernel.submit(0x00, 9, 1, 0, b"") == (0, b"")  # SET_CONFIGURATION
    assert kernel.submit(VENDOR_IN, 1, 0, 0, 4) == (0, struct.pack("<I", FUNCTIONALITY))
    assert kernel.submit(VENDOR_IN, 0, 0x1234, 0, 2) == (0, b"\x34\x12")


def test_messages_reach_the_chip(kernel: Kernel) -> None:
    assert kernel.submit(VENDOR_OUT, 5, 0, 0x68, b"\x75") == (0, b"")
    assert kernel.status() == usbip.STATUS_ACKNOWLEDGED
    assert kernel.submit(VENDOR_IN, 6, 1, 0x68, 1) == (0, b"\x68")


def test_a_missing_acknowledge_is_a_status_and_a_stuck_bus_a_stall(kernel: Kernel, bus: EmulatedBus) -> None:
    assert kernel.submit(VENDOR_OUT, 5, 0, 0x69, b"\x75")[0] == 0
    assert kernel.status() == usbip.STATUS_NOT_ACKNOWLEDGED
    assert kernel.submit(VENDOR_IN, 7, 1, 0x69, 3) == (0, bytes(3))
    bus.inject_now("stuck")
    assert kernel.submit(VENDOR_OUT, 5, 0, 0x68, b"\x75")[0] == -errno.EPIPE


def test_an_unlink_is_answered(kernel: Kernel) -> None:
    kernel.side.sendall(struct.pack(">IIIIII24x", 2, 9, 0x10003, 0, 0, 8))
    reply = kernel.side.recv(48, socket.MSG_WAITALL)
    assert struct.unpack_from(">II", reply) == (4, 9)


def test_without_usb_ip_it_says_what_is_missing(
    tmp_path: Path, bus: EmulatedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usbip, "VHCI", tmp_path / "none")
    with pytest.raises(EmulatorError, match="modprobe vhci_hcd"):
        usbip.UsbIpAdapter(bus)
