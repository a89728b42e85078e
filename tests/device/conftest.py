"""Booted machines, one per Debian release; only `make test-device` (pytest -m device) runs what needs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.recording import load
from emulator import children
from tests.broker import wait_until
from tests.conftest import ROOT
from tests.device.broker import PORT, Listener, SecureBroker
from tests.device.machine import Machine, Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUITES = {"bookworm": "deb12", "trixie": "deb13"}
CHOSEN = os.environ.get("FOOTFALL_DEVICE_SUITE")
"""The one release that this run is about; `make test-device` runs them side by side."""
WALK, TIMES = "oxford_val/user1__backpocket.npz", 6
"""206 s and 343 labelled steps of a real walk with the phone in a back pocket, then again from its start."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a booted machine, unless it was asked for."""
    if "device" in str(config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("device"):
            item.add_marker(pytest.mark.skip(reason="boots machines as root: run `make test-device`"))


@dataclass
class Life:
    """A machine, its service, and the world around it."""

    machine: Machine
    service: Service
    broker: SecureBroker
    deb: Path
    previous: Path | None
    recording: Path

    def configure(self) -> None:
        """Write the configuration as an administrator would: broker, CA, credential, and a health message often."""
        settings = {
            "mqtt": {"host": "127.0.0.1", "port": PORT, "username": "footfall", "tls": {"ca_file": "ca.crt"}},
            "health": {"interval_s": 5},
        }
        self.machine.write("/etc/footfall/config.yaml", json.dumps(settings))
        self.machine.write("/etc/footfall/ca.crt", self.broker.ca.read_text(encoding="ascii"))
        password = self.broker.passwords["footfall"]
        self.machine.write("/etc/credstore/footfall.mqtt-password", f"{password}\n", mode=0o600)

    def reboot(self) -> float:
        """Shut down and boot again, the broker with it; return the seconds from power-on to the end of the boot."""
        self.broker.stop()
        self.machine.power_off()
        seconds = self.machine.boot()
        self.prepare()
        self.broker.start()
        return seconds

    def prepare(self) -> None:
        """Give the booted machine what the emulated bus needs; the service must not get at it."""
        self.machine.run("mknod", "/dev/fuse", "c", "10", "229")

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Run the same daemon on the same recording without the unit's restrictions, as device `outside`."""
        config = json.loads((self.machine.root / "etc/footfall/config.yaml").read_text(encoding="utf-8"))
        config["mqtt"] |= {"password_file": "/etc/credstore/footfall.mqtt-password", "tls": {"ca_file": "ca.crt"}}
        config |= {
            "device": {"id": "outside"},
            "sensor": {"type": "replay", "recording": "/root/walk.npz"},
            "outbox": {"path": "/root/outside.db"},
        }
        shutil.copyfile(self.recording, self.machine.root / "root" / "walk.npz")
        self.machine.write("/etc/footfall/outside.yaml", json.dumps(config))
        command = ["footfall", "run", "--config", "/etc/footfall/outside.yaml"]
        self.machine.run("systemd-run", "--quiet", "--unit=outside", *command)
        try:
            yield
        finally:
            self.machine.run("systemctl", "stop", "outside")
            (self.machine.root / "etc/footfall/outside.yaml").unlink()

    def stored(self) -> tuple[int, int]:
        """Return the outbox's lifetime total and the number of steps that wait in it, as its file says."""
        query = "SELECT (SELECT value FROM meta WHERE name = 'lifetime_total'), (SELECT count(*) FROM step)"
        script = (
            "import sqlite3; db = sqlite3.connect('file:/var/lib/footfall/outbox.db?mode=ro', uri=True); "
            f'print(*db.execute("{query}").fetchone())'
        )
        total, waiting = self.machine.run("python3", "-c", script).split()
        return int(total), int(waiting)


class Sensor:
    """An emulated MPU-6050 that plays the recording on the machine's /dev/i2c-1 until it is pulled out."""

    def __init__(self, life: Life) -> None:
        command = [sys.executable, "-m", "tests.device.sensor", "--leader", str(life.machine.leader)]
        self.process = children.start(
            [*command, "--recording", str(life.recording)], stdout=subprocess.PIPE, stderr=None
        )
        self.events: dict[str, object] = {}
        threading.Thread(target=self._read, daemon=True).start()
        wait_until(lambda: "mounted" in self.events, timeout_s=60.0, what="the sensor is plugged in")

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.events |= json.loads(line)

    def freeze(self) -> None:
        """Let every transfer hang, as with a clock line held low by a driver without a time-out."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let transfers end."""
        self.process.send_signal(signal.SIGCONT)

    def pull(self) -> None:
        """Take the sensor and its bus away."""
        children.stop(self.process)


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory, recordings_dir: Path) -> Path:
    """Give a real walk of 20 minutes."""
    one = load(recordings_dir / WALK)
    path = tmp_path_factory.mktemp("walk") / "walk.npz"
    imu = np.concatenate([one.imu] * TIMES)
    np.savez(path, imu=imu, fs=one.sampling_rate_hz)
    return path


def architecture() -> str:
    """Return this machine's architecture in Debian's words."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def deb_pattern(suite: str) -> str:
    """Return what the name of a release's package looks like here."""
    return f"footfall_*+{SUITES[suite]}_{architecture()}.deb"


@pytest.fixture(scope="module", params=[suite for suite in SUITES if CHOSEN in (None, suite)])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, walk: Path) -> Iterator[Life]:
    """Boot a minimal Debian in which the package can be installed, but is not yet."""
    if os.getuid() != 0:
        pytest.fail("booting a machine needs root: run `make test-device`")
    suite = str(request.param)
    pattern = deb_pattern(suite)
    debs = [*(ROOT / "build" / "deb").glob(pattern)]
    previous = [*(ROOT / "build" / "deb" / "previous").glob(pattern)]
    tar = ROOT / "build" / "device" / f"{suite}.tar"
    if len(debs) != 1 or not tar.exists():
        pytest.fail(f"build/deb/{pattern} or {tar} is missing: run `make test-device`")
    with Machine(tar) as machine:
        for deb in (*debs, *previous):
            machine.fetch(deb)
        machine.boot()
        broker = SecureBroker(machine, tmp_path_factory.mktemp("broker"), ("device", "outside"))
        broker.prepare()
        broker.start()
        life = Life(machine, Service(machine), broker, debs[0], previous[0] if previous else None, walk)
        life.prepare()
        yield life
        broker.stop()


@pytest.fixture(scope="module")
def listener(life: Life) -> Iterator[Listener]:
    """Listen to everything the machine publishes."""
    one = Listener(life.broker)
    yield one
    one.close()


@pytest.fixture
def sensor(life: Life) -> Iterator[Sensor]:
    """Plug a walking sensor in."""
    one = Sensor(life)
    yield one
    one.thaw()
    one.pull()
