"""Faults that strike an emulated sensor at random, for tests.edge.soak_faults."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.bus import EmulatedBus
    from emulator.mpu6050 import Mpu6050

LEAST_PAUSE_S = 15.0


class Chaos:
    """Lets a fault strike every few minutes, until told otherwise."""

    def __init__(self, chip: Mpu6050, bus: EmulatedBus, devices: dict[int, Mpu6050], seed: int, pause_s: float) -> None:
        self._mean_pause_s = pause_s
        self.struck: list[tuple[float, str]] = []
        """When which fault struck, s on the bus's clock."""
        self._chip, self._bus, self._devices = chip, bus, devices
        self._random = random.Random(seed)  # noqa: S311  faults, not keys
        self._due_s = bus.clock() + self._pause_s()
        self._undo: list[tuple[float, Callable[[], object]]] = []

    def turn(self) -> None:
        """Strike if it is time, and undo what is over."""
        now_s = self._bus.clock()
        for at_s, undo in self._undo:
            if now_s >= at_s:
                undo()
        self._undo = [(at_s, undo) for at_s, undo in self._undo if now_s < at_s]
        if now_s >= self._due_s and not self._undo:
            self._bus.clear_faults()
            name = self._random.choice(sorted(self._kinds()))
            self.struck.append((now_s, name))
            self._kinds()[name]()
            self._due_s = now_s + self._pause_s()

    def _pause_s(self) -> float:
        return LEAST_PAUSE_S + self._random.expovariate(1.0 / (self._mean_pause_s - LEAST_PAUSE_S))

    def _kinds(self) -> dict[str, Callable[[], object]]:
        chip, some = self._chip, self._random
        seconds = some.uniform(0.05, 3.0)
        return {
            "nack": lambda: self._bus_fault("nack", seconds, some.choice((errno.EREMOTEIO, errno.ENXIO, errno.EIO))),
            "nack burst": lambda: self._bus_fault("nack_after", 60.0, errno.EIO, times=1, register=0x74),
            "time-out": lambda: self._bus_fault("timeout", seconds),
            "again": lambda: self._bus_fault("again", seconds),
            "busy": lambda: self._bus_fault("busy", seconds),
            "unsupported": lambda: self._bus_fault("unsupported", seconds),
            "gone": lambda: self._bus_fault("gone", seconds),
            "stuck": lambda: self._bus_fault("stuck", seconds),
            "stall before": lambda: self._bus_fault("stall", 60.0, seconds, times=1, register=0x72),
            "stall in between": lambda: self._bus_fault("stall", 60.0, seconds, times=1, register=0x74),
            "glitch": chip.power_cycle,
            "glitch in burst": lambda: self._bus_fault("glitch", 60.0, times=1, register=0x74),
            "garbage once": lambda: self._bus_fault("garbage", 60.0, times=1),
            "garbage burst": lambda: self._bus_fault("garbage", 60.0, times=1, register=0x74),
            "garbage level": lambda: self._bus_fault("garbage", 60.0, times=some.randint(1, 3), register=0x72),
            "garbage": lambda: self._bus_fault("garbage", seconds),
            "fill": lambda: self._bus_fault("fill", seconds, some.randrange(256)),
            "misaligned": lambda: chip.drop_fifo_bytes(some.randint(1, 13)),
            "emptied": lambda: chip.drop_fifo_bytes(2000),
            "drift": lambda: chip.poke(some.choice((0x19, 0x1A, 0x1B, 0x1C, 0x23, 0x6A, 0x6B)), some.randrange(128)),
            "frozen": self._freeze,
            "unplugged": self._unplug,
            "odr": lambda: setattr(chip, "rate_error", some.uniform(-0.05, 0.05)),
        }

    def _bus_fault(
        self,
        kind: str,
        seconds: float,
        argument: float | None = None,
        times: int | None = None,
        register: int | None = None,
    ) -> None:
        self._bus.inject_now(kind, for_s=seconds, argument=argument, times=times, register=register)

    def _freeze(self) -> None:
        self._chip.frozen = True
        self._undo.append((self._bus.clock() + 8.0, lambda: setattr(self._chip, "frozen", False)))

    def _unplug(self) -> None:
        self._devices.pop(0x68, None)
        self._chip.power_cycle()
        away_s = self._random.uniform(0.5, 30.0)
        self._undo.append((self._bus.clock() + away_s, lambda: self._devices.update({0x68: self._chip})))
