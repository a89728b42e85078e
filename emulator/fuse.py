"""A file that answers i2c-dev ioctls, so that unmodified smbus2 and i2c-tools talk to the emulated bus.

A single-file FUSE mount over any path. The kernel hands an i2c-dev ioctl (0x07xx, which carries no size) to the server
as command and raw pointer; the server reads and writes the caller's memory with process_vm_readv and process_vm_writev.
It needs /dev/fuse and the right to mount: root, or a user namespace of one's own (see emulator.namespace). Where Yama
restricts ptrace, the program that opens the file must be a child of the emulator.

    python -m emulator.fuse --path /tmp/i2c-1 --recording walk.npz -- i2cdetect -y -r /tmp/i2c-1
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edge.errors import FootfallError, UsageError
from emulator import EmulatorError
from emulator.bus import EmulatedBus, Fault
from emulator.i2cdev import I2cDev
from emulator.namespace import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_libc = ctypes.CDLL(None, use_errno=True)

# linux/fuse.h, protocol 7.31.
UNANSWERED = frozenset({2, 36, 42})  # FORGET, INTERRUPT, BATCH_FORGET are not answered
GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FLUSH, INIT, DESTROY, IOCTL = (
    3,
    4,
    14,
    15,
    16,
    17,
    18,
    25,
    26,
    38,
    39,
)
FOPEN_DIRECT_IO, FOPEN_NONSEEKABLE, FOPEN_STREAM = 1, 4, 16
IN_HEADER = struct.Struct("=IIQQIIII")
OUT_HEADER = struct.Struct("=IiQ")
ATTRIBUTES = struct.Struct("=QII QQQQQQ IIIIIIIIII")
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
REQUEST_BYTES = 1 << 17
WRITE_HEADER_BYTES = 40
MAX_WRITE = 65536
ATTRIBUTES_VALID_S = 3600

MS_NOSUID, MS_NODEV = 2, 4
MNT_FORCE, MNT_DETACH = 1, 2


class FuseI2c:
    """An emulated bus mounted at `path`; use it as a context manager.

    path: any absolute path; the file is made if it is missing, and removed again.
    Raises EmulatorError, saying what to do, where FUSE cannot be used.
    """

    def __init__(self, path: str | Path, bus: EmulatedBus) -> None:
        self.path = Path(path)
        self.refuse_open: int | None = None
        """An errno that open() shall give, e.g. EACCES for a user who is not in the group i2c."""
        self._device = I2cDev(bus)
        self._created = False
        self._fd = -1
        self._next_handle = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def mount(self) -> None:
        """Mount and serve until close()."""
        try:
            self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise EmulatorError(f"/dev/fuse: {error.strerror}; load it (`sudo modprobe fuse`)") from error
        try:
            self._mount()
        except BaseException:
            self._forget()
            raise
        self._thread = threading.Thread(target=self._serve, name="fuse-i2c", daemon=True)
        self._thread.start()
        self.path.stat()  # the kernel asks for the owner only now, and refuses to open a file whose owner is unknown

    def _mount(self) -> None:
        if not self.path.exists():
            try:
                self.path.touch()
            except OSError as error:
                raise EmulatorError(f"cannot make {self.path}: {error.strerror}; choose another path") from error
            self._created = True
        options = f"fd={self._fd},rootmode=100000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        target = os.fsencode(self.path)
        if _libc.mount(b"i2c-emulator", target, b"fuse.i2c", MS_NOSUID | MS_NODEV, options.encode()) != 0:
            number = ctypes.get_errno()
            advice = (
                "run as root, or in a user namespace of your own" if number == errno.EPERM else "choose another path"
            )
            raise EmulatorError(f"cannot mount FUSE at {self.path}: {os.strerror(number)}; {advice}")

    def close(self) -> None:
        """Unmount; programs that still have the file open get ENOTCONN. May be called twice."""
        if self._thread is None:
            return
        # MNT_FORCE aborts the connection: a handle that is still open would keep a detached mount alive.
        _libc.umount2(os.fsencode(self.path), MNT_FORCE | MNT_DETACH)
        thread, self._thread = self._thread, None
        thread.join(timeout=1.0)
        self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._created:
            self.path.unlink(missing_ok=True)
            self._created = False

    def _serve(self) -> None:
        fd = self._fd
        while True:
            try:
                request = os.read(fd, REQUEST_BYTES)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return  # ENODEV: unmounted; EBADF: closed
            if not self._reply(fd, request):
                return

    def _reply(self, fd: int, request: bytes) -> bool:
        """Answer one request; False if the mount is gone."""
        _, opcode, unique, _, _, _, pid, _ = IN_HEADER.unpack_from(request)
        if opcode in UNANSWERED:
            return True
        try:
            number, answer = 0, self._answer(opcode, request[IN_HEADER.size :], pid)
        except OSError as error:
            number, answer = -(error.errno or errno.EIO), b""
        try:
            os.write(fd, OUT_HEADER.pack(OUT_HEADER.size + len(answer), number, unique) + answer)
        except OSError as error:
            return error.errno == errno.ENOENT  # the caller was interrupted and no longer waits
        return True

    def _answer(self, opcode: int, body: bytes, pid: int) -> bytes:
        handlers: dict[int, Callable[[], bytes]] = {
            INIT: lambda: INIT_OUT.pack(7, 31, MAX_WRITE, 0, 16, 12, MAX_WRITE, 1, 1, 0, 0),
            GETATTR: _attributes,
            SETATTR: _attributes,  # open(O_TRUNC)
            OPEN: self._open,
            READ: lambda: self._device.read(*_handle_and_size(body)),
            WRITE: lambda: self._write(body),
            STATFS: lambda: struct.pack("=QQQQQIIII24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0),
            RELEASE: lambda: self._release(body),
            FLUSH: bytes,
            DESTROY: bytes,
            IOCTL: lambda: self._ioctl(body, pid),
        }
        if opcode not in handlers:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return handlers[opcode]()

    def _open(self) -> bytes:
        if self.refuse_open is not None:
            raise OSError(self.refuse_open, os.strerror(self.refuse_open))
        self._next_handle += 1
        return struct.pack("=QII", self._next_handle, FOPEN_DIRECT_IO | FOPEN_NONSEEKABLE | FOPEN_STREAM, 0)

    def _write(self, body: bytes) -> bytes:
        handle, size = _handle_and_size(body)
        self._device.write(handle, body[WRITE_HEADER_BYTES : WRITE_HEADER_BYTES + size])
        return struct.pack("=II", size, 0)

    def _release(self, body: bytes) -> bytes:
        self._device.release(_handle_and_size(body)[0])
        return b""

    def _ioctl(self, body: bytes, pid: int) -> bytes:
        handle, _, command, argument = struct.unpack_from("=QIIQ", body)
        try:
            result = self._device.ioctl(handle, pid, command, argument)
        except OSError as error:
            result = -(error.errno or errno.EIO)
        return struct.pack("=iIII", result, 0, 0, 0)


def _handle_and_size(body: bytes) -> tuple[int, int]:
    """File handle and size of a READ or WRITE (fh, offset, size); of a RELEASE only the handle has a meaning."""
    handle, _, size = struct.unpack_from("=QQI", body)
    return handle, size


def _attributes() -> bytes:
    """Describe a regular file, owned by us: root may have no meaning in our namespace."""
    numbers_and_times = (1, 0, 0, 0, 0, 0, 0, 0, 0)
    mode, links, device, block_bytes, flags = stat.S_IFREG | 0o666, 1, 0, 4096, 0
    owner = (os.getuid(), os.getgid())
    return ATTRIBUTES.pack(
        ATTRIBUTES_VALID_S, 0, 0, *numbers_and_times, mode, links, *owner, device, block_bytes, flags
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a recording on an emulated bus while a command runs; the exit status is the command's."""
    options = _parser().parse_args(arguments)
    try:
        prepare()
        from edge.recording import load  # noqa: PLC0415  numpy starts threads; a namespace must come before them
        from emulator.chips import CHIPS  # noqa: PLC0415

        if options.sensor not in CHIPS:
            raise UsageError(f"--sensor is {options.sensor!r}; allowed: {', '.join(CHIPS)}")
        recording = load(options.recording)
        part, rate_error = CHIPS[options.sensor], options.rate_error_percent / 100.0
        chip = part.make(recording.imu, recording.sampling_rate_hz, rate_error=rate_error)
        bus = EmulatedBus(part.devices(chip, options.address))
        for fault in options.fault:
            bus.inject(fault)
        with FuseI2c(options.path, bus):
            return _run(options.command)
    except FootfallError as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 2


def _run(command: Sequence[str]) -> int:
    """Run a command; a signal to stop is passed on to it, so that the mount is always taken down."""
    child = subprocess.Popen(command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: child.send_signal(received))
    return child.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulator.fuse", description=main.__doc__)
    parser.add_argument("--path", required=True, help="where the bus appears, e.g. /tmp/i2c-1")
    parser.add_argument("--recording", required=True, help="recording to play, .npz or .csv")
    parser.add_argument("--address", type=lambda text: int(text, 0), help="of the sensor (default: its usual one)")
    parser.add_argument("--sensor", default="mpu6050", help="which chip, e.g. lsm6dsox (default mpu6050)")
    parser.add_argument("--rate-error-percent", type=float, default=0.0, help="how fast the sensor's clock is")
    parser.add_argument("--fault", type=Fault.parse, action="append", default=[], help="kind:start:end[:argument]")
    parser.add_argument("command", nargs="+", help="program to run, after --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
