"""A kernel IIO device through sysfs: finding it, setting it up, and what the bytes of its buffer mean.

Attributes and formats as in the kernel's Documentation/ABI/testing/sysfs-bus-iio and Documentation/driver-api/iio.
Rules of this module:
1. A device is a directory of attributes; no chip is known by name. What it lacks it lacks: an ImuError says so.
2. A scan is its elements in the order of their index, each aligned to its own size, the whole to the largest.
3. An attribute belongs to one kind of channel (in_accel_scale), to all inputs (in_mount_matrix) or to the device.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edge.errors import ImuError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from edge.types import FloatArray

Kind = Literal["accel", "anglvel"]
AXES = ("x", "y", "z")
TIMESTAMP = "timestamp"
FULL_SCALE: dict[Kind, float] = {"accel": 75.0, "anglvel": 17.0}
"""m/s² and rad/s that must be measurable: ±8 g and ±1000 °/s, rounded down. Walking peaks below ±6 g at the ankle."""
MAX_BITS = 64
_TYPE = re.compile(r"(be|le):([su])(\d+)/(\d+)(?:X(\d+))?>>(\d+)\s*")
_CLIENT = re.compile(r"(\d+)-00([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Element:
    """One channel in a scan, as its _type file says: `be:s12/16>>4` is 12 signed bits in the upper part of 2 bytes."""

    name: str
    index: int
    big_endian: bool
    signed: bool
    bits: int
    storage_bits: int
    shift: int

    @classmethod
    def parse(cls, name: str, index: str, text: str) -> Element:
        """Read the files NAME_index and NAME_type; ImuError if a buffer with such an element cannot be read."""
        found = _TYPE.fullmatch(text)
        if found is None or found[5] not in (None, "1"):
            raise ImuError(
                f"IIO channel {name} has the format {text.strip()!r}; Footfall reads (be|le):(s|u)BITS/SIZE>>N"
            )
        bits, storage, shift = int(found[3]), int(found[4]), int(found[6])
        if storage not in (8, 16, 32, MAX_BITS) or not 0 < bits <= storage - shift:
            raise ImuError(
                f"IIO channel {name} has the format {text.strip()!r}; allowed sizes are 8, 16, 32 and 64 bits"
            )
        return cls(name, int(index), found[1] == "be", found[2] == "s", bits, storage, shift)

    def values(self, raw: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.int64]:
        """Shift and sign-extend what stands in the buffer; 64-bit channels are taken as signed."""
        if self.bits == MAX_BITS:
            return raw.astype(np.int64)
        value = (raw.astype(np.uint64) >> np.uint64(self.shift)).astype(np.int64) & ((1 << self.bits) - 1)
        sign = 1 << (self.bits - 1)
        return (value ^ sign) - sign if self.signed else value


class Layout:
    """Where each enabled channel stands in the bytes of a scan. scan_bytes: size of one scan."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self.elements = tuple(sorted(elements, key=lambda element: element.index))
        sizes = [element.storage_bits // 8 for element in self.elements]
        offsets, end = [], 0
        for size in sizes:
            offsets.append(-(-end // size) * size)
            end = offsets[-1] + size
        largest = max(sizes, default=1)
        self.scan_bytes = -(-end // largest) * largest
        self._dtype = np.dtype(
            {
                "names": [element.name for element in self.elements],
                "formats": [
                    f"{'>' if element.big_endian else '<'}u{size}"
                    for element, size in zip(self.elements, sizes, strict=True)
                ],
                "offsets": offsets,
                "itemsize": self.scan_bytes,
            }
        )

    def decode(self, data: bytes) -> dict[str, npt.NDArray[np.int64]]:
        """Whole scans to integers by channel name; ImuError if the last one is cut off."""
        if len(data) % self.scan_bytes:
            raise ImuError(f"the IIO buffer gave {len(data)} bytes, which is no multiple of a scan's {self.scan_bytes}")
        scans = np.frombuffer(data, self._dtype)
        return {element.name: element.values(scans[element.name]) for element in self.elements}


class IioDevice:
    """One directory below /sys/bus/iio/devices. name: what the driver calls the chip; node: its character device."""

    def __init__(self, directory: Path, dev: Path) -> None:
        self.directory = directory
        self.node = dev / directory.name
        self.name = self.read("name") if (directory / "name").exists() else directory.name
        parent = directory.resolve().parent
        self.parent = parent
        client = _CLIENT.fullmatch(parent.name)
        self.bus = None if client is None else int(client[1])
        self.address = None if client is None else int(client[2], 16)
        buffer = directory / "buffer0"  # since Linux 5.13; before, and still beside it, two directories
        self._buffer = buffer if buffer.exists() else directory / "buffer"
        self._elements = buffer if buffer.exists() else directory / "scan_elements"

    def has(self, kind: Kind) -> bool:
        """Whether it measures acceleration or rotation about three axes at all."""
        return all((self.directory / f"in_{kind}_{axis}_raw").exists() for axis in AXES) or self.buffers(kind)

    def buffers(self, kind: Kind) -> bool:
        """Whether its buffer has these channels."""
        return all((self._elements / f"in_{kind}_{axis}_en").exists() for axis in AXES)

    def read(self, attribute: str) -> str:
        """Text of an attribute. Raises ImuError."""
        path = self.directory / attribute
        try:
            return path.read_text(encoding="utf-8").strip(
                "\0 \t\n"
            )  # Linux 6.1 ends current_timestamp_clock with a NUL
        except OSError as error:
            raise ImuError(explain(error, str(path))) from error

    def write(self, attribute: str, value: object) -> None:
        """Set an attribute. Raises ImuError."""
        path = self.directory / attribute
        try:
            path.write_text(f"{value}\n", encoding="utf-8")
        except OSError as error:
            raise ImuError(explain(error, f"{path} (value {value})")) from error

    def attribute(self, kind: Kind, what: str) -> str | None:
        """Name of the attribute that says `what` about a kind of channel; None if the device has none."""
        names = (f"in_{kind}_{what}", f"in_{what}", what)
        return next((name for name in names if (self.directory / name).exists()), None)

    def answers(self) -> bool:
        """Whether the chip can be reached now, as far as its driver lets one ask while the buffer is on."""
        path = self.directory / "in_accel_x_calibbias"  # inv_mpu6050 reads a register for it, also then
        try:
            path.read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def stop_buffer(self) -> None:
        """Disable the buffer, whoever enabled it: a process that was killed leaves it on."""
        self.write(f"{self._buffer.name}/enable", 0)

    def start_buffer(self, *, length: int, watermark: int) -> None:
        """Enable the buffer. length, watermark: scans that it holds, and that wake a reader."""
        self.write(f"{self._buffer.name}/length", length)
        self.write(f"{self._buffer.name}/watermark", watermark)
        self._choose_trigger()
        self.write(f"{self._buffer.name}/enable", 1)

    def enable(self, kinds: Sequence[Kind]) -> Layout:
        """Let the buffer hold the time stamp and these kinds of channels, nothing else; returns what a scan is then."""
        place = self._elements.name
        wanted = {TIMESTAMP, *(f"{kind}_{axis}" for kind in kinds for axis in AXES)}
        names = sorted(path.name[3:-3] for path in self._elements.glob("in_*_en"))
        if TIMESTAMP not in names:
            raise ImuError(
                f"IIO device {self.name} ({self.directory}) has no time stamp channel; use sensor.backend: i2c"
            )
        for name in (*(name for name in names if name not in wanted), *(name for name in names if name in wanted)):
            self.write(f"{place}/in_{name}_en", int(name in wanted))
        return Layout(
            Element.parse(name, self.read(f"{place}/in_{name}_index"), self.read(f"{place}/in_{name}_type"))
            for name in names
            if name in wanted
        )

    def set_rate(self, kind: Kind, rate_hz: float) -> float:
        """Choose the rate nearest to the one asked for; returns what the driver made of it, in Hz."""
        return self._choose(kind, "sampling_frequency", lambda rates: min(rates, key=lambda rate: abs(rate - rate_hz)))

    def set_scale(self, kind: Kind) -> float:
        """Choose the finest scale that does not clip a walk; returns SI units per LSB."""
        full = FULL_SCALE[kind]

        def finest(scales: Sequence[float]) -> float:
            wide = [scale for scale in scales if scale * 32768 >= full]
            return min(wide) if wide else max(scales)

        return self._choose(kind, "scale", finest)

    def mount_matrix(self, kind: Kind) -> FloatArray | None:
        """Rotation that the device tree gives, [3, 3]; None if the driver shows none for this kind of channel."""
        name = self.attribute(kind, "mount_matrix")
        if name is None:
            return None
        text = self.read(name)
        try:
            matrix = np.array([[float(cell) for cell in row.split(",")] for row in text.split(";")], np.float32)
        except ValueError as error:
            raise ImuError(f"{self.directory / name} is {text!r}; expected is 'a, b, c; d, e, f; g, h, i'") from error
        if matrix.shape != (3, 3) or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3):
            raise ImuError(f"{self.directory / name} is {text!r}, no rotation; correct mount-matrix in the overlay")
        return matrix

    def use_monotonic_clock(self) -> None:
        """Let time stamps be CLOCK_MONOTONIC, as time.monotonic() is, instead of the wall clock."""
        self.write("current_timestamp_clock", "monotonic")
        clock = self.read("current_timestamp_clock")
        if clock != "monotonic":
            raise ImuError(f"IIO device {self.name} stays at clock {clock!r}, not monotonic; use sensor.backend: i2c")

    def _choose(self, kind: Kind, what: str, choose: Callable[[Sequence[float]], float]) -> float:
        name = self.attribute(kind, what)
        if name is None:
            raise ImuError(
                f"IIO device {self.name} ({self.directory}) has no {what} of {kind}; use sensor.backend: i2c"
            )
        offered = self.attribute(kind, f"{what}_available")
        values = [] if offered is None else available(self.read(offered))
        if values:
            # Plain digits, and no fraction where there is none: some drivers parse an integer, none an exponent.
            self.write(name, f"{choose(values):.9f}".rstrip("0").rstrip("."))
        text = self.read(name)
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not value > 0:
            raise ImuError(f"{self.directory / name} is {text!r}; expected is a number above 0")
        return value

    def _choose_trigger(self) -> None:
        """Use the device's own data-ready trigger, unless the user has chosen one; hardware FIFOs need none."""
        if not (self.directory / "trigger" / "current_trigger").exists() or self.read("trigger/current_trigger"):
            return
        number = self.directory.name.removeprefix("iio:device")
        names = [path.read_text(encoding="utf-8").strip() for path in self.directory.parent.glob("trigger*/name")]
        own = next((name for name in names if name.endswith(f"-dev{number}")), None)
        if own is None:
            raise ImuError(no_data_ready(self))
        self.write("trigger/current_trigger", own)


def available(text: str) -> list[float]:
    """Values of an _available attribute: a list `10 20 50`, or a range `[first step last]` (at most 1000 of them)."""
    words = text.strip().strip("[]").split()
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise ImuError(f"an IIO device offers {text.strip()!r}; expected are numbers") from error
    if not text.strip().startswith("["):
        return values
    first, step, last = values
    count = min(1000, int((last - first) / step) + 1) if step > 0 else 1
    return [first + index * step for index in range(count)]


def no_data_ready(device: IioDevice) -> str:
    """One line for a device without a buffer: nothing tells the kernel when a sample is there."""
    return (
        f"IIO device {device.name} ({device.directory}) has no buffer it could fill: its INT pin is not wired, or the "
        "overlay names no interrupt (as dtoverlay=mpu6050,interrupt=4 does); wire it, or set sensor.backend: i2c"
    )


def explain(error: OSError, path: str) -> str:
    """One line, in the user's words, for an IIO file that does not do what was asked."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return f"no permission for {path}: run as root or through the systemd unit, or give group `iio` a udev rule"
        case errno.EBUSY:
            return f"{path} is in use: another program reads this buffer; find it with `sudo fuser -v /dev/iio:device*`"
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return f"{path} is not there: its kernel driver is not bound; look at `dmesg | grep -i iio`"
        case errno.EINVAL:
            return f"{path} is refused by the kernel's driver (EINVAL); look at `dmesg | tail`"
        case _:
            return f"{path}: {error.strerror or os.strerror(error.errno or 0)}; look at `dmesg | tail`"
