"""What all emulated chips have in common: registers behind an I2C pointer, and a sampler with its own oscillator.

A chip says which registers it has, at which rates its sensors run and what a sample does; nothing here knows a
register number. Nothing runs in the background: each access first takes all samples that have become due.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, ClassVar

from emulator.chips.motion import Motion, acc_words, gyr_words, with_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from emulator.chips.motion import Recording


SKIP_ABOVE = 64
"""How many samples are taken at least: every sensor of a chip is due once in so many, at 8 kHz and 125 Hz too."""


class Chip:
    """An I2C device that samples a recording [N, 6] (m/s², rad/s; NaN becomes 0) in real time.

    rate_hz: of the recording; who_am_i: another identity for the same part; rate_error: 0.03 makes the sensor's
    oscillator 3 % fast; temperature_c: of the die; start_s: instant on `clock` at which the recording starts, None:
    with the first sample that enters the FIFO; counted: the accelerations carry a count of the samples taken, so that
    a reader can count lost ones exactly. After its end the recording's last sample is held, unless it `repeats`.
    Where samples repeat, the lowest bit moves: no real sensor is without noise. `frozen` takes that away, and every
    change with it.
    """

    REGISTERS: ClassVar[int] = 0x80
    """Size of the register file; banks, where there are some, are 0x100 apart."""
    RESET_VALUES: ClassVar[Mapping[int, int]] = {}
    READ_ONLY: ClassVar[frozenset[int]] = frozenset()
    WHO_AM_I: ClassVar[tuple[int, int]] = (0x75, 0x00)
    """Register and value."""
    RESET_TAKES_S: ClassVar[float] = 0.001

    def __init__(
        self,
        recording: Recording,
        rate_hz: float,
        *,
        who_am_i: int | None = None,
        rate_error: float = 0.0,
        temperature_c: float = 31.0,
        start_s: float | None = None,
        counted: bool = False,
        repeats: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.who_am_i = self.WHO_AM_I[1] if who_am_i is None else who_am_i
        self._rate_error = rate_error
        self.temperature_c = temperature_c
        self.frozen = False
        self.samples_taken = 0
        self.samples_queued = 0
        self.samples_dropped = 0
        """Samples that left the FIFO unread, wholly or in part, because new ones needed the room."""
        self.bytes_dropped = 0
        self._motion = Motion(recording, rate_hz, start_s, repeats=repeats)
        self._acc_row: list[float] = []
        self._gyr_row: list[float] = []
        self._acc_words: list[int] = []
        self._gyr_words: list[int] = []
        self._counted = counted
        self._clock = clock
        self._origin_s = 0.0
        self._running_rates: tuple[float, float] = (0.0, 0.0)
        self.power_cycle()

    # What a test or a demonstration may look at or do.

    @property
    def finished(self) -> bool:
        """Whether the whole recording has been played."""
        start_s = self._motion.start_s
        over = start_s is not None and self._clock() >= start_s + self.duration_s
        return over and not self._motion.repeats

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return self._motion.duration_s

    @property
    def started_s(self) -> float | None:
        """Instant at which the recording started, None before."""
        return self._motion.start_s

    @property
    def sample_rate_hz(self) -> float:
        """True rate of the faster sensor; 0 while both are off."""
        return max(self._rates_hz()) * (1.0 + self.rate_error)

    @property
    def rate_error(self) -> float:
        """How much too fast the oscillator is; when it changes, it goes on from the last sample at the new pace."""
        return self._rate_error

    @rate_error.setter
    def rate_error(self, share: float) -> None:
        self._advance()
        if self._ticks is not None:
            nominal_hz = max(self._running_rates)
            last_s = self._origin_s + self._ticks / (nominal_hz * (1.0 + self._rate_error))
            self._origin_s = last_s - self._ticks / (nominal_hz * (1.0 + share))
        self._rate_error = share

    @property
    def next_sample_s(self) -> float | None:
        """Instant on the clock at which the next sample will be taken; None while it sleeps."""
        self._advance()
        if self._ticks is None:
            return None
        return self._origin_s + (self._ticks + 1) / (max(self._running_rates) * (1.0 + self.rate_error))

    @property
    def fifo_level(self) -> int:
        """Bytes in the FIFO now."""
        self._advance()
        return self._fifo_bytes()

    def power_cycle(self) -> None:
        """Lose everything that was written, as in a brown-out."""
        self._registers = bytearray(self.REGISTERS)
        for register, value in self.RESET_VALUES.items():
            self._registers[register] = value
        self._registers[self.WHO_AM_I[0]] = self.who_am_i
        self._pointer = 0
        self._ready_s = self._clock()
        self._now_s = self._clock()
        """The instant up to which everything has happened."""
        self._changes_s: list[float] = []
        self._ticks: int | None = None
        self._reset()

    def take_due(self) -> None:
        """Take the samples that are due by now, before something changes."""
        self._advance()

    def poke(self, register: int, value: int) -> None:
        """Change a register behind the driver's back."""
        self._advance()
        self._registers[register] = value
        self._advance()

    def peek(self, register: int) -> int:
        """Look at a register without the side effects of reading it."""
        return self._registers[register]

    # The I2C side.

    def write(self, data: bytes) -> None:
        """Register number, then values for it and the following registers."""
        if not data:
            return
        self._advance()
        self._pointer = self._select(data[0])
        for value in data[1:]:
            self._write_byte(self._pointer, value)
            self._pointer = self._following(self._pointer)
        self._after_write(len(data) - 1)
        self._advance()  # a wake-up or a new rate counts from now

    def read(self, count: int) -> bytes:
        """Values from the current register on."""
        self._advance()
        answer = bytearray()
        while len(answer) < count:
            answer += self._read_some(count - len(answer))
        return bytes(answer[:count])

    def _read_some(self, count: int) -> bytes:  # noqa: ARG002  a FIFO port answers all of them at once
        value = self._read_register(self._pointer)
        self._pointer = self._following(self._pointer)
        return bytes((value,))

    def _write_byte(self, register: int, value: int) -> None:
        if self._clock() < self._ready_s or register in self.READ_ONLY:
            return
        self._write_register(register, value)

    def _start_reset(self) -> None:
        """Begin a software reset: for a while writes are lost."""
        self.power_cycle()
        self._ready_s = self._clock() + self.RESET_TAKES_S
        self._change_at(self._ready_s)

    # What a chip says about itself.

    def _reset(self) -> None:
        """Forget what is not in registers."""

    def _select(self, sent: int) -> int:
        """Which register the first byte of a write means."""
        return sent & 0x7F

    def _following(self, register: int) -> int:
        """Where the pointer goes after a byte."""
        return (register + 1) & 0x7F

    def _write_register(self, register: int, value: int) -> None:
        self._registers[register] = value

    def _read_register(self, register: int) -> int:
        return self._registers[register]

    def _after_write(self, count: int) -> None:
        """Do what a whole write message of `count` values triggers."""

    def _rates_hz(self) -> tuple[float, float]:
        """Nominal rates of accelerometer and gyroscope now; 0: off."""
        raise NotImplementedError

    def _take(self, at_s: float, acc_due: bool, gyr_due: bool) -> None:
        """Take one sample."""
        raise NotImplementedError

    def _fifo_bytes(self) -> int:
        raise NotImplementedError

    def _only_last_counts(self) -> bool:
        """Whether a sample leaves no trace but in registers that the next one fills again."""
        return False

    # The sensor side.

    def _advance(self) -> None:
        """Take all samples that are due by now."""
        now_s = self._clock()
        for change_s in sorted(change_s for change_s in self._changes_s if change_s <= now_s):
            self._advance_to(change_s)
        self._changes_s = [change_s for change_s in self._changes_s if change_s > now_s]
        self._advance_to(now_s)

    def _advance_to(self, now_s: float) -> None:
        """Take the samples up to an instant; then see at which rates the sensors run from there on."""
        if self._ticks is not None:
            period_s = 1.0 / (max(self._running_rates) * (1.0 + self.rate_error))
            due = math.floor((now_s - self._origin_s) / period_s)
            if due > self._ticks + SKIP_ABOVE and self._only_last_counts():
                self.samples_taken += due - SKIP_ABOVE - self._ticks
                self._ticks = due - SKIP_ABOVE
            while self._ticks < due:
                self._ticks += 1
                self.samples_taken += 1
                at_s = self._origin_s + self._ticks * period_s
                self._take(at_s, self._due(self._running_rates[0]), self._due(self._running_rates[1]))
        self._now_s = now_s
        rates = self._rates_hz() if now_s >= self._ready_s else (0.0, 0.0)
        fastest = max(rates)
        if fastest == 0.0:
            self._ticks = None
        elif self._ticks is None or fastest != max(self._running_rates):
            self._ticks, self._origin_s = 0, now_s
        self._running_rates = rates

    def _change_at(self, at_s: float) -> None:
        """Say that the rates may change by themselves at an instant to come."""
        self._changes_s.append(at_s)

    def _due(self, rate_hz: float) -> bool:
        """Whether something that happens at a nominal rate happens with the present tick."""
        assert self._ticks is not None
        if rate_hz == max(self._running_rates):
            return True
        ratio = min(rate_hz / max(self._running_rates), 1.0)
        return math.floor(self._ticks * ratio + 1e-9) > math.floor((self._ticks - 1) * ratio + 1e-9)

    def _start_recording(self, at_s: float) -> None:
        """Let the recording start, unless it has: called when a sample is about to enter the FIFO."""
        if self._motion.start_s is None:
            self._motion.start_s = at_s
            self._acc_row = self._gyr_row = []

    def _acc(self, at_s: float, lsb_per_g: float) -> list[int]:
        """Accelerometer words at a scale, with noise where nothing moves; the same again while it is frozen."""
        if self.frozen and self._acc_words:
            return list(self._acc_words)
        row = self._motion.row(at_s)
        words = acc_words(row, lsb_per_g)
        if self._counted:
            words = with_count(words, self.samples_taken)
        elif row == self._acc_row:
            self._add_noise(words)
        self._acc_row, self._acc_words = row, words
        return list(words)

    def _gyr(self, at_s: float, lsb_per_dps: float) -> list[int]:
        """Gyroscope words at a scale, with noise where nothing moves; the same again while it is frozen."""
        if self.frozen and self._gyr_words:
            return list(self._gyr_words)
        row = self._motion.row(at_s)
        words = gyr_words(row, lsb_per_dps)
        if row == self._gyr_row:
            self._add_noise(words)
        self._gyr_row, self._gyr_words = row, words
        return list(words)

    def _add_noise(self, words: list[int]) -> None:
        """Move the lowest bit of the first word, unless it is saturated."""
        if -32768 < words[0] < 32767:
            words[0] ^= self.samples_taken & 1

    def _put(self, register: int, data: bytes) -> None:
        """Fill output registers."""
        self._registers[register : register + len(data)] = data
