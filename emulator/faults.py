"""Everything that goes wrong on an I2C bus, injected into the running daemon, and what each costs.

`make test-faults` runs it all; `python -m emulator.faults [NAME…]` prints the table of docs/faults.md.
"""

from __future__ import annotations

import argparse
import errno
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import FootfallError, UsageError
from emulator import EmulatorError
from emulator.namespace import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emulator.scene import Outcome, Scene

JUMP_SAMPLES = 9
"""38 % of the samples between two reads, the widest jump of the list: from 119 Hz to 81 Hz."""
FIFO_PORT, FIFO_COUNT, RATE_DIVIDER, FIFO_SOURCES, ACCEL_RANGE, POWER = 0x74, 0x72, 0x19, 0x23, 0x1C, 0x6B


@dataclass(frozen=True)
class Trouble:
    """One fault.

    inject: does it and returns how long it lasts, s; counter: one that must tell of it, "" if none; loses: whether
    something must be lost; looks_like: so many samples may be reported beyond those that were lost.
    """

    name: str
    what: str
    inject: Callable[[Scene], float]
    counter: str = ""
    loses: bool = True
    looks_like: int = 0


def _for(kind: str, seconds: float, argument: float | None = None, register: int | None = None) -> Callable[..., float]:
    def inject(scene: Scene) -> float:
        scene.bus.inject_now(kind, for_s=seconds, argument=argument, register=register)
        return seconds

    return inject


def _once(
    kind: str, argument: float | None = None, register: int | None = FIFO_PORT, times: int = 1
) -> Callable[..., float]:
    def inject(scene: Scene) -> float:
        scene.bus.inject_now(kind, times=times, argument=argument, register=register)
        return 0.3

    return inject


def _poke(register: int, value: int) -> Callable[..., float]:
    def inject(scene: Scene) -> float:
        with scene.bus.lock:
            scene.chip.poke(register, value)
        return 0.3

    return inject


def _odr(percent: float) -> Callable[..., float]:
    """Let the oscillator jump; to a slower pace that looks like a loss until the next read (edge.clock)."""

    def inject(scene: Scene) -> float:
        scene.set_rate_error(percent)
        return 6.0

    return inject


def _later(seconds: float, undo: Callable[[], object]) -> float:
    threading.Timer(seconds, undo).start()
    return seconds


def _glitch(scene: Scene) -> float:
    with scene.bus.lock:
        scene.chip.power_cycle()
    return 0.1


def _misaligned(scene: Scene) -> float:
    time.sleep(0.05)
    with scene.bus.lock:
        scene.chip.drop_fifo_bytes(5)
    return 0.1


def _node_vanishes(scene: Scene) -> float:
    scene.mount.close()
    return _later(3.0, scene.remount)


def _no_permission(scene: Scene) -> float:
    scene.mount.refuse_open = errno.EACCES
    scene.bus.inject_now("gone", for_s=1.0)
    return _later(3.0, lambda: setattr(scene.mount, "refuse_open", None))


def _unplug(scene: Scene) -> float:
    scene.unplug()
    return _later(3.0, scene.plug_in)


def _wrong_identity(who_am_i: int) -> Callable[..., float]:
    def inject(scene: Scene) -> float:
        scene.become(who_am_i)
        return _later(3.0, lambda: scene.become(0x68))

    return inject


def _clone(scene: Scene) -> float:
    """Leave it one until a later fault sets the identity anew."""
    scene.become(0x98)
    return 0.1


def _swapped(scene: Scene) -> float:
    """Put an MPU-6500 at the other address in the place of the MPU-6050, and take it away again."""
    scene.unplug()
    scene.devices[0x69] = scene.other

    def undo() -> None:
        del scene.devices[0x69]
        scene.plug_in()

    return _later(5.0, undo)


def _frozen(scene: Scene) -> float:
    scene.freeze()
    return _later(7.0, scene.thaw)


def _slow(scene: Scene) -> float:
    before, scene.bus.bitrate_hz = scene.bus.bitrate_hz, 40_000.0
    return _later(4.0, lambda: setattr(scene.bus, "bitrate_hz", before))


TROUBLES = (
    Trouble(
        "nack-register",
        "3 NACKs (errno 121) on the FIFO level",
        _once("nack", register=FIFO_COUNT, times=3),
        loses=False,
    ),
    Trouble("nack-burst-121", "NACK of a FIFO burst, errno 121", _once("nack", 121), "bad_transfer"),
    Trouble("nack-burst-6", "NACK of a FIFO burst, errno 6", _once("nack", 6), "bad_transfer"),
    Trouble("nack-after-5", "burst fails after it has popped bytes, errno 5", _once("nack_after", 5), "bad_transfer"),
    Trouble("nack-storm", "every transfer NACKs for 0.3 s", _for("nack", 0.3), loses=False),
    Trouble("timeout", "errno 110, each transfer blocks 1 s, for 3 s", _for("timeout", 3.0), "bad_transfer"),
    Trouble("again", "errno 11, lost arbitration, 2 s", _for("again", 2.0), "bad_transfer"),
    Trouble("busy", "errno 16, a kernel driver holds the device, 2 s", _for("busy", 2.0), "reinit"),
    Trouble("unsupported", "errno 95, the adapter cannot do it, 2 s", _for("unsupported", 2.0), "reinit"),
    Trouble("adapter-gone", "errno 19, the adapter vanishes, 2 s", _for("gone", 2.0), "reinit"),
    Trouble("node-vanishes", "/dev/i2c-N is unmounted, and comes back after 3 s", _node_vanishes, "reinit"),
    Trouble("no-permission", "open() gives EACCES for 3 s after the bus was lost", _no_permission, "reinit"),
    Trouble("sda-stuck", "SDA held low for 3 s, then freed", _for("stuck", 3.0), "bad_transfer"),
    Trouble(
        "overflow-before",
        "the bus stalls 2 s before the level is read",
        _once("stall", 2.0, FIFO_COUNT),
        "fifo_overflow",
    ),
    Trouble("overflow-during", "the bus stalls 2 s between level and burst", _once("stall", 2.0), "fifo_overflow"),
    Trouble("misaligned", "the FIFO loses 5 bytes", _misaligned, "bad_transfer"),
    Trouble(
        "count-odd", "the level is read as 257 bytes, twice", _once("fill", 1, FIFO_COUNT, times=2), "bad_transfer"
    ),
    Trouble("count-once", "the level is read as 257 bytes, once", _once("fill", 1, FIFO_COUNT), loses=False),
    Trouble("fifo-empty", "the FIFO's sources are switched off", _poke(FIFO_SOURCES, 0x00), "bad_register"),
    Trouble("all-ones", "every byte reads 0xFF for 1.5 s", _for("fill", 1.5, 0xFF), "gap_samples"),
    Trouble("all-zeros", "every byte reads 0x00 for 1.5 s", _for("fill", 1.5, 0), "gap_samples"),
    Trouble("glitch", "power glitch between two reads", _glitch, "bad_register"),
    Trouble("glitch-in-burst", "power glitch between level and burst", _once("glitch"), "bad_register"),
    Trouble("drift-rate", "SMPLRT_DIV changes by itself", _poke(RATE_DIVIDER, 19), "bad_register"),
    Trouble("drift-range", "ACCEL_CONFIG changes to ±2 g by itself", _poke(ACCEL_RANGE, 0), "bad_register"),
    Trouble("asleep", "the SLEEP bit is set", _poke(POWER, 0x40), "bad_register"),
    Trouble("identity-wrong", "another chip (WHO_AM_I 0x47) for 3 s", _wrong_identity(0x47), "reinit"),
    Trouble("identity-00", "WHO_AM_I reads 0x00 for 3 s", _wrong_identity(0x00), "reinit"),
    Trouble("identity-ff", "WHO_AM_I reads 0xFF for 3 s", _wrong_identity(0xFF), "reinit"),
    Trouble("clone", "a clone (WHO_AM_I 0x98) takes its place", _clone, "reinit"),
    Trouble("garbage-burst", "one burst of random bytes", _once("garbage"), "bad_transfer"),
    Trouble("garbage", "every byte is random for 1 s", _for("garbage", 1.0), "gap_samples"),
    Trouble("frozen", "the sensor repeats one sample for 7 s", _frozen, "frozen_samples"),
    Trouble("slow", "40 kHz bus for 4 s", _slow, loses=False),
    Trouble("unplugged", "pulled out for 3 s", _unplug, "reinit"),
    Trouble("swapped", "for 5 s an MPU-6500 at 0x69 instead", _swapped, "reinit"),
    Trouble("odr+1", "the sensor's clock becomes 1 % fast", _odr(1.0), loses=False),
    Trouble("odr-3", "… 3 % slow", _odr(-3.0), loses=False, looks_like=JUMP_SAMPLES),
    Trouble("odr+5", "… 5 % fast", _odr(5.0), loses=False),
    Trouble("odr+19", "… 19 % fast", _odr(19.0), loses=False),
    Trouble("odr-19", "… 19 % slow", _odr(-19.0), loses=False, looks_like=JUMP_SAMPLES),
    Trouble("odr-0", "… right again", _odr(0.0), loses=False),
)
HEADER = (
    "| fault | what happens | samples lost | reported | steps lost | recovers in s | states | quality | counters |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def row(trouble: Trouble, outcome: Outcome) -> str:
    """One line of the table."""
    counters = ", ".join(f"{name} {value}" for name, value in outcome.counters.items())
    steps = f"{outcome.steps_lost} of {outcome.steps_walked}"
    states = " → ".join(outcome.states) or "running"
    return (
        f"| {trouble.name} | {trouble.what} | {outcome.samples_lost} | {outcome.samples_reported} | {steps} "
        f"| {outcome.recover_s:.2f} | {states} | {', '.join(outcome.quality)} | {counters or '-'} |"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Inject faults one after the other into one daemon and print what each cost; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m emulator.faults", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(trouble.name for trouble in TROUBLES))
    options = parser.parse_args(argv)
    try:
        known = [trouble.name for trouble in TROUBLES]
        if strangers := [name for name in options.names if name not in known]:
            raise UsageError(f"NAMES has {', '.join(strangers)}; allowed: {', '.join(known)}")
        if reason := prepare():
            raise EmulatorError(f"no emulated bus here: {reason}")
        from emulator.scene import Scene  # noqa: PLC0415  after prepare(): imports numpy

        with tempfile.TemporaryDirectory(prefix="footfall-") as directory, Scene(Path(directory)) as scene:
            scene.warm_up()
            print(HEADER, flush=True)
            for trouble in TROUBLES:
                if not options.names or trouble.name in options.names:
                    print(row(trouble, scene.play(trouble.inject)), flush=True)
    except FootfallError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
