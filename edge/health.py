"""Health: counters, latencies, what the process costs, and the word with systemd (sd_notify)."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Report(TypedDict):
    """What health.py itself can tell for the health topic; None where this machine does not show it."""

    inference_p50_ms: float | None
    inference_p99_ms: float | None
    samples_dropped: int
    bus_errors: int
    sensor: Mapping[str, object]
    rss_mb: float | None
    cpu_percent: float | None
    soc_temperature_c: float | None
    undervoltage: bool | None


class LatencyHistogram:
    """Latencies in geometric bins from 10 µs to over 10 s: constant memory, percentiles within 5 %."""

    _SMALLEST_S = 10e-6
    _RATIO = 1.1
    _BINS = 150  # 10 µs * 1.1 ** 150 = 16 s

    def __init__(self) -> None:
        self._counts = [0] * self._BINS
        self._total = 0

    def observe(self, duration_s: float) -> None:
        """Count one latency; what lies beyond either end counts in the last bin there."""
        position, edge_s = 0, self._SMALLEST_S
        while edge_s < duration_s and position < self._BINS - 1:
            position, edge_s = position + 1, edge_s * self._RATIO
        self._counts[position] += 1
        self._total += 1

    def percentile_s(self, percent: float) -> float | None:
        """Return the middle of the bin that holds the given percentile; None without observations."""
        if self._total == 0:
            return None
        rank = max(1, math.ceil(percent / 100.0 * self._total))
        position = next(index for index, seen in enumerate(accumulate(self._counts)) if seen >= rank)
        return float(self._SMALLEST_S * self._RATIO ** (position - 0.5))

    def clear(self) -> None:
        """Forget everything."""
        self._counts = [0] * self._BINS
        self._total = 0


class SystemdNotifier:
    """sd_notify(3) over a datagram socket; silent where systemd does not listen."""

    def __init__(self, environ: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self._clock = clock
        self._beat_every_s = _watchdog_s(environ) / 4.0
        self._next_beat_s = -float("inf")

    def ready(self, status: str) -> None:
        """Say that the start is over."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """Say that a clean stop has begun."""
        self._send("STOPPING=1")

    def beat(self) -> None:
        """Feed the watchdog: at most four times per WatchdogSec, never where there is no watchdog."""
        now_s = self._clock()
        if self._beat_every_s > 0.0 and now_s >= self._next_beat_s:
            self._next_beat_s = now_s + self._beat_every_s
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # A deaf systemd restarts us; there is nobody else to tell.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as one:
            one.sendto(message.encode(), self._address)


class Health:
    """Everything the health topic reports, and the watchdog. Used by the pipeline's thread only.

    sensor_counters: called for each report, e.g. the Imu's `counters`; the keys `samples_dropped` and `bus_errors`
    are published. sensor: called for each report too; what it returns is published as `sensor`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
    ) -> None:
        self.systemd = SystemdNotifier(environ, clock=clock)
        self.sensor_counters: Callable[[], Mapping[str, int]] = dict
        self.sensor: Callable[[], Mapping[str, object]] = dict
        self._inference = LatencyHistogram()
        self._clock, self._cpu_clock = clock, cpu_clock
        self._proc, self._sys = proc, sys
        self._since = (clock(), cpu_clock())

    def inference(self, duration_s: float) -> None:
        """Count one model invocation."""
        self._inference.observe(duration_s)

    def beat(self) -> None:
        """Feed the watchdog; call it once per turn of the pipeline, and nowhere else."""
        self.systemd.beat()

    def report(self) -> Report:
        """Return the figures since the last report and start the next interval."""
        counters = self.sensor_counters()
        p50_s, p99_s = self._inference.percentile_s(50), self._inference.percentile_s(99)
        self._inference.clear()
        return Report(
            inference_p50_ms=None if p50_s is None else round(p50_s * 1000.0, 3),
            inference_p99_ms=None if p99_s is None else round(p99_s * 1000.0, 3),
            samples_dropped=counters.get("samples_dropped", 0),
            bus_errors=counters.get("bus_errors", 0),
            sensor=self.sensor(),
            rss_mb=rss_mb(self._proc),
            cpu_percent=self._cpu_percent(),
            soc_temperature_c=soc_temperature_c(self._sys),
            undervoltage=undervoltage(self._sys),
        )

    def _cpu_percent(self) -> float | None:
        """Return the CPU time since the last report, in percent of one core; None over less than a second."""
        then_s, cpu_then_s = self._since
        self._since = now_s, cpu_now_s = self._clock(), self._cpu_clock()
        if now_s - then_s < 1.0:
            return None
        return round(100.0 * (cpu_now_s - cpu_then_s) / (now_s - then_s), 2)


def rss_mb(proc: Path = Path("/proc")) -> float | None:
    """Return this process's resident memory in MB (10^6 bytes); source: proc_pid_statm(5)."""
    text = _read(proc / "self" / "statm")
    return None if text is None else round(int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def soc_temperature_c(sys: Path = Path("/sys")) -> float | None:
    """Return the first thermal zone's temperature, which is the SoC's on every Raspberry Pi."""
    text = _read(sys / "class" / "thermal" / "thermal_zone0" / "temp")
    return None if text is None else round(int(text) / 1000.0, 1)


def undervoltage(sys: Path = Path("/sys")) -> bool | None:
    """Tell whether the supply is too low right now; source: the Linux driver raspberrypi-hwmon (rpi_volt)."""
    for name in sorted((sys / "class" / "hwmon").glob("*/name")):
        if _read(name) == "rpi_volt":
            text = _read(name.with_name("in0_lcrit_alarm"))
            return None if text is None else text != "0"
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return WatchdogSec; 0 where there is none, or where it is meant for another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "0")
    return int(text) / 1e6 if text.isdecimal() else 0.0
