"""Bytes written to the disk per 10,000 steps: `python -m tests.edge.delivery.wear`, `make wear`.

As root it counts what really arrives at a block device of its own (ext4 on a loop device, without which the file
system's journal would go unseen); otherwise what the kernel accounts to this process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge.outbox import Outbox
from edge.types import StepEvent
from emulator.namespace import private_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEP = StepEvent(time_s=1.0, emitted_s=1.2, confidence=0.9, cadence_spm=104.0)
IMAGE_BYTES = 64 * 2**20
SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device's own are
FLASH_LIFE_BYTES = 16e9 * 1000
"""A 16 GB card at 1,000 erase cycles, with ideal levelling."""
STEPS_A_DAY = 10_000


def written_by_us() -> int:
    """Return the bytes that this process has caused to be written; source: proc_pid_io(5)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[tuple[Path, Callable[[], int], str]]:
    """Give a folder, a counter of the bytes written to its device, and the counter's name."""
    if os.getuid() != 0:
        yield folder, written_by_us, "/proc/self/io write_bytes (no root: no device of our own)"
        return
    private_mounts()
    image, mounted = folder / "image", folder / "mounted"
    image.write_bytes(bytes(IMAGE_BYTES))
    mounted.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        device = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", mounted], check=True, capture_output=True, text=True
        ).stdout.strip()
        stat = Path("/sys/block") / Path(device).name / "stat"
        yield mounted, lambda: int(stat.read_text().split()[6]) * SECTOR_BYTES, f"ext4 on {device}, {stat}"
    finally:
        subprocess.run(["umount", mounted], check=True)


def measure(path: Path, written: Callable[[], int], steps: int, turn: int, *, acknowledged: bool) -> tuple[int, float]:
    """Return the bytes written while so many steps went through the outbox, and how long that took, in s."""
    outbox = Outbox(path, max_age_h=720, max_bytes=2**25)
    os.sync()
    before, start_s = written(), time.monotonic()
    for _ in range(steps // turn):
        rows = outbox.append_all([(STEP, time.time())] * turn)
        if acknowledged:
            outbox.acknowledge(rows)
    outbox.close()
    os.sync()
    return written() - before, time.monotonic() - start_s


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.edge.delivery.wear", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="footfall-wear-") as name, disk(Path(name)) as (folder, written, counter):
        print(f"{options.steps} steps; counted by {counter}\n")
        print("| steps a turn | acknowledged | MB per 10,000 steps | kB a step | years of a 16 GB card* | ms a turn |")
        print("|---:|---|---:|---:|---:|---:|")
        for turn, acknowledged in ((1, True), (1, False), (4, True), (4, False)):
            path = folder / f"{turn}{acknowledged}.db"
            total, took_s = measure(path, written, options.steps, turn, acknowledged=acknowledged)
            a_step = total / options.steps
            years = FLASH_LIFE_BYTES / (a_step * STEPS_A_DAY * 365)
            print(
                f"| {turn} | {'at once' if acknowledged else 'never (offline)'} | {a_step * 1e4 / 1e6:.1f} | "
                f"{a_step / 1e3:.2f} | {years:.0f} | {took_s / (options.steps / turn) * 1e3:.2f} |",
                flush=True,
            )
        print("\n* 1,000 erase cycles, ideal wear levelling, 10,000 steps a day, and nothing else on the card")
    return 0


if __name__ == "__main__":
    sys.exit(main())
