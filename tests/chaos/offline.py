"""`make offline`: 24 simulated hours of walking without a broker, then the broker comes.

Two processes. The child is the device: the daemon's own shelf, outbox and publisher, over a clock that a loop turns,
so that a day passes in minutes; the publisher tries a closed port all that time. The parent is the world: after the
day it starts Mosquitto and a subscriber, and counts. The device then turns ten times a second, as over a real sensor.
The model is left out: what it costs does not depend on the broker (`make bench`, tests/edge/soak.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge import config as configuration
from edge.daemon import Shelf, drain
from edge.health import Health, rss_mb
from edge.mqtt import Backoff
from edge.outbox import Outbox
from edge.payloads import DeviceInfo
from edge.progress import Progress
from edge.publisher import Publisher
from edge.types import StepEvent

if TYPE_CHECKING:
    from tests.chaos.recorder import Recorder

STEPS_AN_HOUR = 5_280
TURN_S = 0.1
MAX_BACKFILL_S, MAX_GROWTH_MB = 60.0, 4.0
SETTLED_HOUR = 2
"""SQLite's page cache and the allocator have their size by then."""
PATIENCE_S = 600.0


class Clock:
    """A wall clock and a monotonic clock that are set on by hand, until they are let go to run by themselves."""

    def __init__(self) -> None:
        self.now_s = time.monotonic()
        self._let_go_s: float | None = None

    def monotonic(self) -> float:
        """Return the monotonic time in s."""
        return self.now_s + (0.0 if self._let_go_s is None else time.monotonic() - self._let_go_s)

    def wall(self) -> float:
        """Return the wall time in s since the epoch: a day that began at a fixed instant."""
        return 1_795_435_200.0 + self.monotonic()

    def let_go(self) -> None:
        """Run by itself from now on."""
        self._let_go_s = time.monotonic()


def device(port: int, folder: Path, hours: int) -> None:
    """Walk, then send; prints a line of JSON for each hour and one at the end."""
    logging.disable(logging.WARNING)  # that there is no broker, every few simulated minutes
    environ = {"FOOTFALL__MQTT__HOST": "127.0.0.1", "FOOTFALL__MQTT__PORT": str(port)}
    config = configuration.load(None, environ)
    clock = Clock()
    outbox = Outbox(
        folder / "outbox.db",
        max_age_h=config.outbox.max_age_h,
        max_bytes=config.outbox.max_bytes,
        clock=clock.monotonic,
    )
    info = DeviceInfo("offline", "none", "0", "0" * 64, "walk", 100.0, outbox.boot_id, "0" * 8, "host")
    publisher = Publisher(
        config, info, Health({}), clock=clock.monotonic, wall_clock=clock.wall, backoff=Backoff(0.25, 2.0)
    )
    publisher.start()
    shelf = Shelf(outbox)
    for hour in range(1, hours + 1):
        for number in range(STEPS_AN_HOUR):
            step = StepEvent(clock.now_s, clock.now_s, 0.5 + number % 50 / 100, 88.0)
            shelf.store([(step, clock.wall())])
            drain(publisher, outbox)
            clock.now_s += 3600.0 / STEPS_AN_HOUR
        _say(hour=hour, steps=outbox.total, waiting=outbox.depth, rss_mb=rss_mb() or math.nan)
    _send(publisher, outbox, clock)


def _send(publisher: Publisher, outbox: Outbox, clock: Clock) -> None:
    """Turn until everything is acknowledged; the time counts from the connection on."""
    sys.stdin.readline()  # the parent's word that the broker is there
    clock.let_go()
    began_s, most_mb = None, 0.0
    deadline_s = time.monotonic() + PATIENCE_S
    while outbox.depth and time.monotonic() < deadline_s:
        drain(publisher, outbox)
        if publisher.connected and began_s is None:
            began_s = time.monotonic()
        most_mb = max(most_mb, rss_mb() or 0.0)
        time.sleep(TURN_S)
    backfill_s = time.monotonic() - (began_s or math.inf)
    publisher.close(outbox)
    _say(backfill_s=backfill_s, most_mb=most_mb, total=outbox.total, waiting=outbox.depth, dropped=outbox.dropped)
    outbox.close()


def _say(**values: float) -> None:
    print(json.dumps(values), flush=True)


def world(folder: Path, hours: int) -> int:
    """Run the device, be its broker and its subscriber, and judge; returns 0 or 1."""
    from tests.broker import Broker  # noqa: PLC0415  the child's memory is measured: it must not import these
    from tests.chaos.recorder import Recorder  # noqa: PLC0415

    (folder / "broker").mkdir()
    broker = Broker(folder / "broker", "allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
    command = [sys.executable, "-m", "tests.chaos.offline", "--device", str(broker.port), "--hours", str(hours)]
    child = subprocess.Popen(
        [*command, "--folder", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    memory = []
    with child, Progress("offline", hours) as progress:
        for _ in range(hours):
            said = json.loads(child.stdout.readline())
            memory.append(said["rss_mb"])
            progress.advance(1)
        broker.start()
        recorder = Recorder(broker.port)
        recorder.connect()
        child.stdin.write("go\n")
        child.stdin.flush()
        end = json.loads(child.stdout.readline())
    time.sleep(1.0)
    recorder.close()
    broker.stop()
    return _judge(hours, memory, end, recorder)


def _judge(hours: int, memory: list[float], end: dict[str, float], recorder: Recorder) -> int:
    settled = memory[min(SETTLED_HOUR, hours) - 1]
    growth_mb = max(memory) - settled
    lost, disorder = int(end["total"]) - recorder.received, recorder.order_violations
    print("memory by the hour, MB: " + " ".join(f"{one:.1f}" for one in memory))
    print(
        f"offline: hours={hours} steps={end['total']:.0f} received={recorder.received} "
        f"lost={lost} repeats={recorder.repeats} "
        f"order_violations={disorder} dropped={end['dropped']:.0f} memory_growth_mb={growth_mb:.1f} "
        f"backfill_s={end['backfill_s']:.1f} max_rss_during_backfill_mb={end['most_mb']:.1f}"
    )
    harm = lost or disorder or end["dropped"] or end["total"] != hours * STEPS_AN_HOUR
    return 1 if harm or growth_mb > MAX_GROWTH_MB or not end["backfill_s"] < MAX_BACKFILL_S else 0


def main() -> int:
    """Run either process."""
    parser = argparse.ArgumentParser(prog="make offline", description=__doc__)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--device", type=int, help="the broker's port: be the device")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.device is not None:
        device(options.device, options.folder, options.hours)
        return 0
    # In memory, where there is such a place: 126,720 real fsyncs would take most of an hour and change no figure here.
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="footfall-offline-", dir=fast) as name:
        return world(Path(name), options.hours)


if __name__ == "__main__":
    sys.exit(main())
