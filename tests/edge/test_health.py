"""Counters, latencies and the word with systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.health import Health, LatencyHistogram, SystemdNotifier, rss_mb, soc_temperature_c, undervoltage


@given(st.lists(st.floats(20e-6, 10.0), min_size=1, max_size=300), st.sampled_from([50.0, 99.0]))
def test_percentiles_are_within_five_percent_of_the_sorted_list(durations_s: list[float], percent: float) -> None:
    histogram = LatencyHistogram()
    for duration_s in durations_s:
        histogram.observe(duration_s)
    rank = max(1, -(-len(durations_s) * percent // 100))
    exact_s = sorted(durations_s)[int(rank) - 1]
    assert histogram.percentile_s(percent) == pytest.approx(exact_s, rel=0.05)


def test_the_histogram_takes_any_latency_and_forgets_on_request() -> None:
    histogram = LatencyHistogram()
    assert histogram.percentile_s(50) is None
    for duration_s in (-1.0, 0.0, 1e9):
        histogram.observe(duration_s)
    size = len(histogram._counts)
    for _ in range(10000):
        histogram.observe(0.001)
    assert len(histogram._counts) == size
    assert histogram.percentile_s(99) == pytest.approx(0.001, rel=0.05)
    histogram.clear()
    assert histogram.percentile_s(50) is None


class Systemd:
    """The receiving end of sd_notify."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_hears_ready_status_and_stopping(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@footfall-test-{os.getpid()}"
    systemd = Systemd(name.replace("@", "\0"))
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    notifier.ready("listening to mpu6050")
    notifier.status("no sensor")
    notifier.beat()
    notifier.stopping()
    assert systemd.heard() == ["READY=1\nSTATUS=listening to mpu6050", "STATUS=no sensor", "STOPPING=1"]
    systemd.close()


def test_the_watchdog_is_fed_four_times_per_interval(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    now_s = [0.0]
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}
    health = Health(environ, clock=lambda: now_s[0])
    for tenth in range(201):
        now_s[0] = tenth / 10.0
        health.beat()
    assert systemd.heard() == ["WATCHDOG=1"] * 5
    systemd.close()


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}]
)
def test_no_watchdog_no_beat(tmp_path: Path, environ: dict[str, str]) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ}).beat()
    assert systemd.heard() == []
    systemd.close()


@pytest.mark.parametrize("address", ["", "/nonexistent/notify", "@nobody-listens-here", "/" + "x" * 200])
def test_a_missing_systemd_is_no_error(address: str) -> None:
    SystemdNotifier({"NOTIFY_SOCKET": address}).ready("fine")


def test_the_report_covers_the_time_since_the_last_one() -> None:
    now_s, cpu_s = [0.0], [0.0]
    health = Health({}, clock=lambda: now_s[0], cpu_clock=lambda: cpu_s[0])
    health.sensor_counters = lambda: {"samples_dropped": 3, "bus_errors": 1, "other": 7}
    for _ in range(100):
        health.inference(0.002)
    now_s[0], cpu_s[0] = 60.0, 1.5
    report = health.report()
    assert report["inference_p50_ms"] == pytest.approx(2.0, rel=0.05)
    assert (report["samples_dropped"], report["bus_errors"], report["cpu_percent"]) == (3, 1, 2.5)
    now_s[0] = 120.0
    report = health.report()
    assert (report["inference_p99_ms"], report["cpu_percent"], report["bus_errors"]) == (None, 0.0, 1)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_rss_is_that_of_this_process() -> None:
    before = rss_mb()
    ballast = bytearray(os.urandom(30_000_000))
    after = rss_mb()
    assert before is not None
    assert after is not None
    assert 25.0 < after - before < 60.0
    assert len(ballast) == 30_000_000


def test_what_the_machine_does_not_show_is_none(tmp_path: Path) -> None:
    assert rss_mb(tmp_path) is None
    assert soc_temperature_c(tmp_path) is None
    assert undervoltage(tmp_path) is None


@pytest.mark.parametrize(("alarm", "expected"), [("0\n", False), ("1\n", True), (None, None)])
def test_a_raspberry_pi_tells_its_temperature_and_supply(
    tmp_path: Path, alarm: str | None, expected: bool | None
) -> None:
    zone, other, supply = (
        tmp_path / "class" / part for part in ("thermal/thermal_zone0", "hwmon/hwmon0", "hwmon/hwmon1")
    )
    for directory in (zone, other, supply):
        directory.mkdir(parents=True)
    (zone / "temp").write_text("48312\n")
    (other / "name").write_text("cpu_thermal\n")
    (supply / "name").write_text("rpi_volt\n")
    if alarm is not None:
        (supply / "in0_lcrit_alarm").write_text(alarm)
    assert soc_temperature_c(tmp_path) == 48.3
    assert undervoltage(tmp_path) is expected
