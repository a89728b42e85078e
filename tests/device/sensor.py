"""An emulated sensor on /dev/i2c-N of a booted machine: starting this program plugs it in, ending it pulls it out.

It runs on this side, with this side's Python, and only its mount is the machine's. Prints one JSON object per event:
{"mounted": true}, {"started_s": CLOCK_MONOTONIC} when the driver starts the chip, {"finished": true} at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import threading
from pathlib import Path

from edge.recording import load
from emulator.bus import EmulatedBus
from emulator.fuse import FuseI2c
from emulator.mpu6050 import Mpu6050

CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
_libc = ctypes.CDLL(None, use_errno=True)


def enter_mounts_of(leader: int) -> None:
    """Let this thread see and change the machine's mounts; it must not share its root with numpy's threads for that."""
    with Path(f"/proc/{leader}/ns/mnt").open("rb") as namespace:
        if _libc.unshare(CLONE_FS) != 0 or _libc.setns(namespace.fileno(), CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    """Play the recording until told to stop; its last sample is held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leader", type=int, required=True)
    parser.add_argument("--path", default="/dev/i2c-1")
    parser.add_argument("--recording", required=True)
    options = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    recording = load(options.recording)
    chip = Mpu6050(recording.imu, recording.sampling_rate_hz)
    enter_mounts_of(options.leader)
    with FuseI2c(options.path, EmulatedBus({0x68: chip})):
        print(json.dumps({"mounted": True}), flush=True)
        told: set[str] = set()
        while not stop.wait(0.05):
            news = {"started_s": chip.started_s} if chip.started_s is not None else {}
            news |= {"finished": True} if chip.finished else {}
            for name in sorted(news.keys() - told):
                print(json.dumps({name: news[name]}), flush=True)
                told.add(name)


if __name__ == "__main__":
    main()
