"""The watchdog is fed by the pipeline: whatever stops the pipeline starves it. The real daemon, us as systemd."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from edge.recording import save_npz
from emulator.bus import EmulatedBus, Fault
from emulator.fuse import FuseI2c
from emulator.gait import simulate_walk
from emulator.mpu6050 import Mpu6050
from emulator.namespace import unavailable
from emulator.ports import free_port
from tests.broker import wait_until
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCHDOG_S = 1.0
STARVED_S = 2.0
"""So long without a beat, where four in each WATCHDOG_S are usual, is starved also on a machine that is busy."""


class Watched:
    """A daemon under our eyes: beats() counts WATCHDOG=1 since the last call."""

    def __init__(self, directory: Path, sensor: dict[str, Any], *command: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(directory / "notify"))
        self._socket.setblocking(False)
        settings = {
            "sensor": sensor,
            "outbox": {"path": "outbox.db"},
            "mqtt": {"host": "127.0.0.1", "port": free_port()},
        }
        (directory / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")
        environment = {"NOTIFY_SOCKET": str(directory / "notify"), "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, "run", "--config", str(directory / "config.yaml")],
                env=os.environ | environment, stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip

    def beats(self) -> int:
        count = 0
        while True:
            try:
                count += self._socket.recv(4096).decode().splitlines().count("WATCHDOG=1")
            except BlockingIOError:
                return count

    def check_fed(self) -> None:
        self.beats()
        for _ in range(3):
            wait_until(lambda: self.beats() > 0, timeout_s=30, what="the watchdog is fed")

    def check_starved(self) -> None:
        time.sleep(STARVED_S)  # what was on its way
        self.beats()
        time.sleep(STARVED_S)
        assert self.process.poll() is None
        assert self.beats() == 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._socket.close()


@pytest.fixture
def watched() -> Iterator[list[Watched]]:
    daemons: list[Watched] = []
    yield daemons
    for daemon in daemons:
        daemon.close()


@pytest.mark.bus
def test_a_transfer_that_never_ends_starves_it(watched: list[Watched], tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    walk = simulate_walk(60.0, seed=3)
    bus = EmulatedBus({0x68: Mpu6050(walk.imu, walk.sampling_rate_hz)})
    with FuseI2c(tmp_path / "i2c-1", bus):
        daemon = Watched(tmp_path, {"bus": str(tmp_path / "i2c-1")}, "edge")
        watched.append(daemon)
        daemon.check_fed()
        bus.inject(Fault("timeout", argument=3600.0))
        daemon.check_starved()


def test_a_model_that_never_answers_starves_it(watched: list[Watched], tmp_path: Path) -> None:
    stuck = tmp_path / "stuck"
    save_npz(tmp_path / "walk.npz", simulate_walk(120.0, seed=4))
    sensor = {"type": "replay", "recording": "walk.npz"}
    daemon = Watched(tmp_path, sensor, "tests.systemd.stuck_model", str(stuck))
    watched.append(daemon)
    daemon.check_fed()
    stuck.touch()
    daemon.check_starved()
    stuck.unlink()
    daemon.check_fed()
