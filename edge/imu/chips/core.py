"""What every register chip shares: a part is a table row, a family adds the few primitives its FIFO needs.

Rules of this module:
- everything that is written to a running chip stands in tables, so that everything can be read back and checked;
- a rate is a row too: its register values, and with them the low-pass filter that keeps the accelerometer below half
  that rate. A rate for which the chip has no such filter is not in the table;
- what a reset clears, and the accelerometer's range and rate with it, is read after every burst, the rest in turn.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edge.errors import ImuError
from edge.imu.chip import FifoFault, Frames, RegisterFault
from edge.imu.registers import Field, combine, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from edge.imu.bus import I2cBus
    from edge.imu.registers import Int16Array

    Setting = tuple[Field, int]

STANDARD_GRAVITY = 9.80665

ODR_RANGE_HZ = (10.0, 200.0)
"""Below, a batch would wait too long for its pipeline; above, a 512-byte FIFO leaves less than 0.15 s for a stall."""

VERIFY_OTHERS_EVERY = 4

TEMPERATURE_RANGE_C = (-45.0, 90.0)  # all parts are rated -40 to 85


@dataclass(frozen=True, slots=True)
class Rate:
    """One output data rate. low_pass_hz: -3 dB of the accelerometer at this rate; settings: what selects both."""

    odr_hz: float
    low_pass_hz: float
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a family: a row of its table.

    who_am_i: identities it answers with; fifo_bytes: size of its FIFO; rates: ascending; setup: settings that are the
    same at every rate; acc_lsb_per_g, gyr_lsb_per_dps: at the full scale that setup selects; temperature: °C =
    raw / lsb_per_c + offset_c; rate_tolerance: how far off the true rate may be; unchecked: registers that are written
    but not read back, because silicon that claims to be this part need not have them; without_gyroscope: settings that
    keep the gyroscope out of the FIFO, in place of those of setup and rate; none where that cannot be.
    """

    name: str
    who_am_i: frozenset[int]
    fifo_bytes: int
    rates: tuple[Rate, ...]
    setup: tuple[Setting, ...]
    acc_lsb_per_g: float
    gyr_lsb_per_dps: float
    lsb_per_c: float = 1.0
    offset_c: float = 0.0
    rate_tolerance: float = 0.2
    unchecked: frozenset[int] = frozenset()
    without_gyroscope: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """Parts that share registers.

    types: the names in `sensor.type`, the first being the family's; addresses: where its strap pins can put it;
    identity: WHO_AM_I, which is readable while `bank`, where there is one, is 0; guess: the row for silicon with an
    unknown identity; named: rows, by their `sensor.type`, that no identity tells from another one.
    """

    types: tuple[str, ...]
    addresses: tuple[int, ...]
    identity: Field
    parts: tuple[Part, ...]
    chip: type[RegisterChip]
    guess: Part
    bank: Field | None = None
    named: Mapping[str, Part] = field(default_factory=dict)

    def part_of(self, who_am_i: int) -> Part | None:
        """Return the row for an identity, None if no part of the family answers so."""
        return next((part for part in self.parts if who_am_i in part.who_am_i), None)

    def part_named(self, sensor_type: str, found: Part) -> Part:
        """Return the row that the user names, if what was found may be it, or else the row of what was found."""
        named = self.named.get(sensor_type)
        return found if named is None or named.who_am_i != found.who_am_i else named


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted of a chip. firmware: the file that a chip which needs one is loaded with.

    gyroscope: whether its samples are wanted; without them the FIFO lasts about twice as long, and the bus is half as
    busy. The gyroscope runs on: on some parts the accelerometer's clock is derived from it.
    """

    sampling_rate_hz: float = 100.0
    firmware: Path | None = None
    gyroscope: bool = True


@dataclass(slots=True)
class _Block:
    """Registers that one read brings, and what some of them must hold: {register: value}, in ascending order."""

    bank: int
    expected: dict[int, int]

    @property
    def first(self) -> int:
        """The register that the read begins with."""
        return next(iter(self.expected))

    @property
    def length(self) -> int:
        """How many registers it brings."""
        return max(self.expected) - self.first + 1

    def check(self, found: bytes) -> None:
        """RegisterFault if one of them holds something else."""
        for register, wanted in self.expected.items():
            if found[register - self.first] != wanted:
                where = f"{register:#04x}" + (f" of bank {self.bank}" if self.bank else "")
                value = found[register - self.first]
                raise RegisterFault(f"register {where} holds {value:#04x} instead of {wanted:#04x}")


class RegisterChip(ABC):
    """A Chip (edge.imu.chip) at a known address, driven by its table row.

    part: the row; options.sampling_rate_hz: 10 to 200, the nearest rate of the row is used and given as `odr_hz`.
    gyroscope: whether the frames hold its samples: if it is wanted, or cannot be left out. Raises ImuError for a rate
    outside.
    """

    FIFO_PORT: ClassVar[Field]
    POWER_DOWN: ClassVar[tuple[Setting, ...]]
    FRAME_BYTES: ClassVar[tuple[int, int]]
    """Of one sample in the FIFO: acceleration only, and with the gyroscope."""
    PLAIN: ClassVar[Mapping[int, tuple[int, int]]] = {}
    """First and last of a range of registers, by bank, in which reading changes nothing that matters and no port holds
    a burst up: all settings in it are read at once, those of the accelerometer among them."""
    settle_s: ClassVar[float] = 0.1
    """From the last setting until both sensors deliver what the data sheet promises."""

    def __init__(
        self,
        bus: I2cBus,
        address: int,
        part: Part,
        options: Options | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.options = options or Options()
        rate = nearest_rate(part.rates, self.options.sampling_rate_hz)
        self.part = part
        self.name = part.name
        self.odr_hz = rate.odr_hz
        self.rate_tolerance = part.rate_tolerance
        self.gyroscope = self.options.gyroscope or not part.without_gyroscope
        self.frame_bytes = self.FRAME_BYTES[self.gyroscope]
        self.fifo_bytes = part.fifo_bytes
        left_out = () if self.gyroscope else part.without_gyroscope
        self._settings = banks([*part.setup, *rate.settings, *left_out])
        self._bus = bus
        self._address = address
        self._sleep = sleep
        self._bank = 0
        self._blocks = self._blocks_of(part.unchecked)
        self._verified = 0
        self._overrun = False  # the chip has told of an overflow, in a status that was read for another reason

    def start(self) -> None:
        """Reset, wake, configure, start the FIFO, read back."""
        self.reset()
        self.configure()
        self._sleep(max(self.settle_s, 2.0 / self.odr_hz))
        self.restart_fifo()
        self.verify(everything=True)

    @abstractmethod
    def reset(self) -> None:
        """Put every register to its default; RegisterFault if the chip does not come back."""

    def configure(self) -> None:
        """Write the table's settings, bank 0 last."""
        for bank, registers in sorted(self._settings.items(), reverse=True):
            self._select(bank)
            for register, value in registers.items():
                self._write(register, value)
        self._select(0)

    @abstractmethod
    def restart_fifo(self) -> None:
        """Empty the FIFO so that the next byte in it is the first of a frame; clear the overflow flag."""

    @abstractmethod
    def fifo_level(self) -> int:
        """Bytes waiting in the FIFO."""

    def read_fifo(self, count: int) -> bytes:
        """Pop whole frames, in one transaction where the adapter can, without retry."""
        return self._bus.read_burst(self._address, self.FIFO_PORT.address, count, unit=self.frame_bytes)

    @abstractmethod
    def decode(self, data: bytes) -> Frames:
        """Frames to SI units; FifoFault if they are out of step."""

    def pedometer_steps(self) -> int | None:
        """Return the 16-bit count of the chip's own pedometer, None where it has none."""
        return None

    def checked(self) -> dict[int, dict[int, int]]:
        """Everything that a running chip must hold: {bank: {register: value}}. Families add what is no setting."""
        return {bank: dict(registers) for bank, registers in self._settings.items()}

    def _blocks_of(self, unchecked: frozenset[int]) -> list[_Block]:
        """Make the reads that check everything: the plain ranges first, that of bank 0 before all."""
        plain: list[_Block] = []
        others: list[_Block] = []
        for bank, registers in sorted(self.checked().items()):
            low, high = self.PLAIN.get(bank, (1, 0))
            wanted = {register: value for register, value in sorted(registers.items()) if register not in unchecked}
            inside = {register: value for register, value in wanted.items() if low <= register <= high}
            if inside:
                plain.append(_Block(bank, inside))
            for first, values in runs({r: v for r, v in wanted.items() if r not in inside}):
                others.append(_Block(bank, dict(enumerate(values, first))))
        return plain + others

    def verify(self, *, everything: bool) -> None:
        """RegisterFault if the chip was reset or has drifted: the first block always, the others in turn."""
        first, *others = self._blocks
        if everything:
            self._expect(*self._blocks)
            return
        self._expect(first)
        turn, rest = divmod(self._verified, VERIFY_OTHERS_EVERY)
        self._verified += 1
        if others and rest == VERIFY_OTHERS_EVERY - 1:
            self._expect(others[turn % len(others)])

    def judge(self) -> bool:
        """Say whether the chip has told of an overflow since this was last asked; RegisterFault as verify()."""
        overrun, self._overrun = self._overrun, False
        self.verify(everything=False)
        return overrun

    def shutdown(self) -> None:
        """Put the chip to sleep and release the bus; never raises; may be called twice."""
        with contextlib.suppress(OSError, ValueError, TypeError):  # gone, or closed before: nothing to put to sleep
            self._select(0)
            self.power_down()
        self._bus.close()

    def power_down(self) -> None:
        """Write POWER_DOWN; chips whose power is no setting say how."""
        for register, value in combine(self.POWER_DOWN).items():
            self._write(register, value)

    def _expect(self, *blocks: _Block) -> None:
        for block in blocks:
            with self._in_bank(block.bank):
                found = self._read(block.first, block.length)
            block.check(found)

    @contextlib.contextmanager
    def _in_bank(self, bank: int) -> Iterator[None]:
        self._select(bank)
        try:
            yield
        finally:
            self._select(0)

    def _select(self, bank: int) -> None:
        """Make a bank's registers visible; chips that have banks say how."""
        if bank != self._bank:
            raise NotImplementedError(f"{self.name} has no banks")

    def _frames(self, acc: Int16Array, gyr: Int16Array | None, temperature_c: float | None) -> Frames:
        """Words as the chip gives them, [n, 3] each, to SI units; NaN where the gyroscope was left out."""
        imu = np.full((len(acc), 6), np.nan, np.float32)
        imu[:, :3] = acc * np.float32(STANDARD_GRAVITY / self.part.acc_lsb_per_g)
        if gyr is not None:
            imu[:, 3:] = gyr * np.float32(np.pi / 180.0 / self.part.gyr_lsb_per_dps)
        return Frames(imu, temperature_c)

    def _wait_for(self, done: Field, value: int, within_s: float, what: str) -> None:
        """Poll a field until it has a value; RegisterFault after `within_s`."""
        polls = 10
        for _ in range(polls):
            self._sleep(within_s / polls)
            if done.get(self._read(done.address, 1)[0]) == value:
                return
        raise RegisterFault(f"{what} does not end")

    def _read(self, register: int, count: int) -> bytes:
        return self._bus.read_registers(self._address, register, count)

    def _write(self, register: int, value: int) -> None:
        self._bus.write_register(self._address, register, value)

    def _update(self, changed: Field, value: int) -> None:
        """Change one field and leave the rest of its register."""
        self._write(changed.address, changed.put(value, self._read(changed.address, 1)[0]))


@dataclass(slots=True)
class TemperatureCanary:
    """The temperature inside each frame moves slowly: other data in its place betray a frame out of step.

    lsb_per_c, offset_c: of the part; jump_c: more than it ever moves between two frames.
    """

    lsb_per_c: float
    offset_c: float
    jump_c: float = 2.5
    last: float = field(default=0.0, init=False)

    def settle(self, reads: Iterable[float]) -> None:
        """Take the median of a few reads as reference: one corrupt read must not condemn all frames."""
        ordered = sorted(reads)
        self.last = ordered[len(ordered) // 2]

    def check(self, raw: npt.NDArray[np.float64]) -> float:
        """Return the mean temperature in °C of a block; FifoFault if one is no continuation of the last block."""
        celsius = raw / self.lsb_per_c + self.offset_c
        low, high = TEMPERATURE_RANGE_C
        jump = np.abs(raw - self.last) > self.jump_c * self.lsb_per_c
        if np.any(jump | (celsius < low) | (celsius > high)):
            raise FifoFault("bad_transfer", "FIFO frames are out of step")
        self.last = float(raw[-1])
        return float(celsius.mean())


def banks(settings: Iterable[Setting]) -> dict[int, dict[int, int]]:
    """Whole register values, {bank: {register: value}}, from fields that may share a register."""
    by_bank: dict[int, list[Setting]] = {}
    for one, value in settings:
        by_bank.setdefault(one.bank, []).append((one, value))
    return {bank: combine(those) for bank, those in by_bank.items()}


def nearest_rate(rates: tuple[Rate, ...], sampling_rate_hz: float) -> Rate:
    """Return the rate nearest to the wanted one, the faster of two as near; ImuError outside 10 to 200 Hz."""
    lowest, highest = ODR_RANGE_HZ
    if not lowest <= sampling_rate_hz <= highest:
        raise ImuError(
            f"sensor.sampling_rate_hz is {sampling_rate_hz:g}; an IMU is read at {lowest:g} to {highest:g} Hz, "
            "100 suits most models"
        )
    return min(rates, key=lambda rate: (abs(rate.odr_hz - sampling_rate_hz), -rate.odr_hz))


def widest_below_nyquist(filters: Mapping[int, float], odr_hz: float, *, strictly: bool = False) -> tuple[int, float]:
    """(code, -3 dB) of the widest low-pass filter that stays below half the rate."""
    limit_hz = odr_hz / 2.0
    fitting = {code: hz for code, hz in filters.items() if hz < limit_hz or (hz == limit_hz and not strictly)}
    code = max(fitting, key=lambda one: fitting[one])
    return code, fitting[code]
