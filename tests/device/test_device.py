"""The package's life on a booted Debian, bookworm and trixie, in the order in which a device lives it.

Every test here starts from what the one before left. `make test-device` runs them.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.device.conftest import Sensor

if TYPE_CHECKING:
    from tests.device.broker import Listener
    from tests.device.conftest import Life

pytestmark = pytest.mark.device

MAX_EXPOSURE = 1.3
MAX_SLOWER_INSIDE = 1.5
SOME_STEPS = 8
INTERVALS = 4
"""Health messages, 5 s each, over which inference is timed inside and outside the unit at the same time."""


def wait_for_steps(life: Life, listener: Listener, count: int = SOME_STEPS, boot_id: str | None = None) -> None:
    """Wait until so many more steps have arrived, of a given run of the daemon if one is given."""

    def received() -> int:
        return sum(boot_id in (None, boot) for boot, _ in listener.steps())

    before = received()
    life.machine.until(lambda: received() >= before + count, f"{count} more steps received", 120.0)


def check_nothing_lost(life: Life, listener: Listener) -> None:
    """Check, with the daemon stopped, that every step that was ever stored has been received."""
    life.service.control("stop")
    total, waiting = life.stored()
    runs: dict[str, list[int]] = defaultdict(list)
    for boot_id, seq in sorted(listener.steps()):
        runs[boot_id].append(seq)
    for boot_id, seqs in runs.items():
        assert seqs == list(range(1, len(seqs) + 1)), f"run {boot_id} has holes"
    assert (sum(map(len, runs.values())), waiting) == (total, 0)
    totals = [int(payload) for payload in listener.on("steps")]
    assert totals == sorted(totals)
    assert totals[-1] == total


def exposure(life: Life) -> float:
    """Return systemd's own score of the unit that runs."""
    security = life.machine.run("systemd-analyze", "security", "--no-pager", "footfall.service")
    found = re.search(r"Overall exposure level for footfall.service: ([0-9.]+)", security)
    assert found is not None
    return float(found[1])


def test_it_installs_on_a_minimal_debian_with_apt_alone(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    machine = life.machine
    before = set(machine.run("dpkg-query", "-f", "${Package} ${Installed-Size}\n", "-W").splitlines())
    machine.run("apt-get", "install", "--yes", "-qq", f"/root/{life.deb.name}")
    after = set(machine.run("dpkg-query", "-f", "${Package} ${Installed-Size}\n", "-W").splitlines())
    pulled = {name: int(size) for name, size in (line.split() for line in after - before)}
    fetched = sum(file.stat().st_size for file in (machine.root / "var/cache/apt/archives").glob("*.deb"))
    with capsys.disabled():
        print(
            f"\n{machine.name}: {life.deb.name} {life.deb.stat().st_size / 1e6:.1f} MB, installed "
            f"{pulled.pop('footfall') / 1e3:.1f} MB; pulls in {len(pulled)} packages, {fetched / 1e6:.1f} MB to fetch, "
            f"{sum(pulled.values()) / 1e3:.0f} MB installed"
        )
    assert machine.run("systemctl", "is-enabled", "footfall").strip() == "enabled"
    assert "i2c" in machine.run("id", "-nG", "footfall").split()
    assert machine.run("footfall", "--version").strip() == f"footfall {life.deb.name.split('_')[1].split('+')[0]}"
    for page in ("footfall.1", "footfall-config.5"):
        assert (machine.root / "usr/share/man" / f"man{page[-1]}" / f"{page}.gz").exists()
    assert machine.succeeds("footfall", "check-config", "/etc/footfall/config.yaml")


def test_steps_go_from_the_bus_to_a_strict_broker(life: Life, listener: Listener, sensor: Sensor) -> None:
    life.configure()
    life.service.control("restart")
    life.service.wait_active()
    life.machine.until(lambda: listener.on("availability")[-1:] == ["online"], "online")
    wait_for_steps(life, listener)
    assert "counting steps from" in life.service.show("StatusText")
    info = listener.last("info")
    assert info["sensor"]["odr_hz"] == 100.0
    assert info["host"] == "device"
    assert sensor.process.poll() is None
    check_nothing_lost(life, listener)
    assert listener.on("availability")[-1] == "offline"


@pytest.mark.usefixtures("sensor")
def test_the_unit_is_hardened_and_no_slower_while_it_publishes(
    life: Life, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    life.service.control("start")
    life.service.wait_active()
    wait_for_steps(life, listener)
    with life.outside():
        life.machine.until(lambda: len(listener.on("health", "outside")) > INTERVALS, "health from outside", 180.0)
    exposed = exposure(life)
    before = len(listener.steps())
    life.machine.until(lambda: len(listener.steps()) > before, "it still publishes steps")
    p50_ms = {
        device: statistics.median(
            json.loads(health)["inference_p50_ms"] for health in listener.on("health", device)[-INTERVALS:]
        )
        for device in ("device", "outside")
    }
    health = listener.last("health")
    with capsys.disabled():
        print(
            f"\n{life.machine.name}: exposure {exposed}; inference p50 {p50_ms['device']:.3f} ms in the unit, "
            f"{p50_ms['outside']:.3f} ms outside; {health['rss_mb']} MB, {health['cpu_percent']} % CPU"
        )
    assert exposed <= MAX_EXPOSURE
    assert p50_ms["device"] <= MAX_SLOWER_INSIDE * p50_ms["outside"]


def test_killed_it_comes_back_and_loses_nothing(life: Life, listener: Listener, sensor: Sensor) -> None:
    pid = life.service.wait_active()
    wait_for_steps(life, listener)
    life.machine.run("sh", "-c", f"kill -KILL {pid}")
    life.service.wait_active(other_than=pid)
    wait_for_steps(life, listener)
    assert "offline" in listener.on("availability"), "the last will"
    assert sensor.process.poll() is None
    check_nothing_lost(life, listener)


def test_stopped_in_its_tracks_it_is_restarted_by_the_watchdog(life: Life, listener: Listener, sensor: Sensor) -> None:
    life.service.control("start")
    pid = life.service.wait_active()
    wait_for_steps(life, listener)
    life.machine.run("sh", "-c", f"kill -STOP {pid}")
    life.service.wait_active(other_than=pid)
    assert "Watchdog timeout" in life.service.journal()
    wait_for_steps(life, listener)
    assert sensor.process.poll() is None
    check_nothing_lost(life, listener)


def test_a_transfer_that_never_ends_starves_the_watchdog(life: Life, listener: Listener, sensor: Sensor) -> None:
    life.service.control("start")
    pid = life.service.wait_active()
    wait_for_steps(life, listener)
    timeouts = life.service.journal().count("Watchdog timeout")
    sensor.freeze()
    life.machine.until(lambda: life.service.journal().count("Watchdog timeout") > timeouts, "the watchdog bites")
    sensor.thaw()  # no signal ends a transfer that hangs in the kernel
    life.service.wait_active(other_than=pid)
    wait_for_steps(life, listener)
    check_nothing_lost(life, listener)


PROBE = """
import os
for path in ("/dev/null", "/dev/i2c-7"):
    try:
        os.close(os.open(path, os.O_RDWR))
        print("probe", path, "opened")
    except OSError as error:
        print("probe", path, error.strerror)
"""


def probed(life: Life, *more: str) -> dict[str, str]:
    """Return what a process finds that runs under the shipped unit's settings, and some more, in its place."""
    settings = "\n".join(["[Unit]", "[Service]", "Type=oneshot", "ExecStart=", "WatchdogSec=0", "Restart=no",
                          "ExecStart=/usr/bin/python3 /run/probe.py", *more, ""])  # fmt: skip
    unit = life.machine.run("systemctl", "cat", "footfall.service")
    life.machine.write("/etc/systemd/system/probe.service", unit)
    life.machine.write("/etc/systemd/system/probe.service.d/50-probe.conf", settings)
    life.machine.run("sh", "-c", f"cat >/run/probe.py <<'END'\n{PROBE}\nEND\nchmod 644 /run/probe.py")
    life.machine.run("systemctl", "daemon-reload")
    since = str(time.time())
    life.machine.run("systemctl", "start", "probe.service")
    said = life.machine.run("journalctl", "--no-pager", "--output=cat", f"--since=@{since}", "--unit=probe.service")
    return dict(line.split(" ", 2)[1:] for line in said.splitlines() if line.startswith("probe "))


def test_it_may_open_i2c_adapters_and_no_other_device(life: Life) -> None:
    # The stand-in is /dev/fuse under an adapter's name: everybody may open it, but for the unit's DeviceAllow=.
    life.machine.run("sh", "-c", "mknod /dev/i2c-7 c 10 229; chmod 666 /dev/i2c-7")
    assert probed(life) == {"/dev/null": "opened", "/dev/i2c-7": "Operation not permitted"}
    # The control: with its kind allowed it opens, so it was DeviceAllow= that refused it.
    assert probed(life, "DeviceAllow=char-misc rw") == {"/dev/null": "opened", "/dev/i2c-7": "opened"}
    life.machine.run("sh", "-c", "rm -r /dev/i2c-7 /etc/systemd/system/probe.service*; systemctl daemon-reload")


def check_nothing_left(life: Life) -> None:
    """Check that the machine knows nothing of Footfall but what apt and dpkg write down about every package."""
    skip = ("/proc", "/sys", "/root", "/var/cache/apt", "/var/log")
    prune = " -o ".join(f"-path {path}" for path in skip)
    found = life.machine.run("sh", "-c", f"find / \\( {prune} \\) -prune -o -name '*footfall*' -print")
    assert found == ""
    assert not life.machine.succeeds("getent", "passwd", "footfall")
    assert not life.machine.succeeds("getent", "group", "footfall")
    processes = life.machine.run("sh", "-c", "cat /proc/[0-9]*/comm")
    assert "footfall" not in processes


def test_purge_leaves_nothing(life: Life, listener: Listener, sensor: Sensor) -> None:
    life.service.control("start")
    life.service.wait_active()
    assert sensor.process.poll() is None
    life.machine.run("apt-get", "purge", "--yes", "-qq", "footfall")
    check_nothing_left(life)
    listener.forget()


def test_an_upgrade_keeps_settings_outbox_and_every_step(life: Life, listener: Listener, sensor: Sensor) -> None:
    machine = life.machine
    if life.previous is None:
        pytest.skip("no package to upgrade from: the checkout lacks its commit (`git fetch --unshallow`)")
    machine.run("apt-get", "install", "--yes", "-qq", f"/root/{life.previous.name}")
    life.configure()
    life.service.control("restart")
    pid = life.service.wait_active()
    wait_for_steps(life, listener)
    settings = (machine.root / "etc/footfall/config.yaml").read_text(encoding="utf-8")
    before, boots = len(listener.steps()), {boot_id for boot_id, _ in listener.steps()}
    machine.run("apt-get", "-o", "Dpkg::Options::=--force-confold", "install", "--yes", "-qq", f"/root/{life.deb.name}")
    assert machine.run("dpkg-query", "-f", "${Version}", "-W", "footfall") == life.deb.name.split("_")[1]
    life.service.wait_active(other_than=pid)
    wait_for_steps(life, listener)
    assert (machine.root / "etc/footfall/config.yaml").read_text(encoding="utf-8") == settings
    assert len({boot_id for boot_id, _ in listener.steps()} - boots) == 1
    assert len(listener.steps()) > before >= SOME_STEPS
    assert sensor.process.poll() is None
    check_nothing_lost(life, listener)


def test_booted_without_a_sensor_it_waits_says_so_and_starts_when_it_comes(
    life: Life, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    life.service.control("start")
    seconds = life.reboot()
    listener.connect()
    pid = life.service.wait_active()
    life.machine.until(lambda: listener.on("availability")[-1:] == ["online"], "online without a sensor")
    life.machine.until(lambda: (listener.last("state") or {}).get("quality") == "no_sensor", "quality no_sensor")
    status = life.service.show("StatusText")
    assert status.startswith("no sensor"), status
    assert "/dev/i2c-1" in status
    sensor = Sensor(life)
    try:
        life.machine.until(lambda: life.service.show("StatusText").startswith("counting steps"), "the sensor is found")
        wait_for_steps(life, listener)
        life.machine.until(lambda: listener.last("state")["quality"] == "ok", "quality ok")
    finally:
        sensor.pull()
    assert life.service.pid == pid, "it has waited, not been restarted"
    with capsys.disabled():
        print(f"\n{life.machine.name}: booted in {seconds:.1f} s")
    check_nothing_lost(life, listener)


def test_without_a_broker_it_counts_says_so_and_delivers_later(life: Life, listener: Listener, sensor: Sensor) -> None:
    life.broker.stop()
    life.service.control("start")
    pid = life.service.wait_active()
    status = "counting steps from"
    life.machine.until(lambda: life.service.show("StatusText").startswith(status), "it counts")
    assert "not connected to the MQTT broker" in life.service.show("StatusText")
    life.broker.start()
    listener.connect()
    wait_for_steps(life, listener)
    assert "broker" not in life.service.show("StatusText")
    assert life.service.pid == pid
    assert sensor.process.poll() is None
    check_nothing_lost(life, listener)


def test_purged_after_all_that_it_leaves_nothing_either(life: Life) -> None:
    life.machine.run("apt-get", "purge", "--yes", "-qq", "footfall")
    check_nothing_left(life)
