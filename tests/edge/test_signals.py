"""How the daemon ends: cleanly when its terminal closes, silently when Ctrl-C comes before it has begun."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge.recording import save_npz
from emulator.gait import simulate_walk
from emulator.ports import free_port
from tests.broker import Subscriber, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.broker import Broker

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Let children hear these signals, even where the tests run under nohup or in the background."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    save_npz(tmp_path / "walk.npz", simulate_walk(300.0, seed=3))
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "FOOTFALL__DEVICE__ID": "t1",
        "FOOTFALL__SENSOR__TYPE": "replay",
        "FOOTFALL__SENSOR__RECORDING": str(tmp_path / "walk.npz"),
        "FOOTFALL__OUTBOX__PATH": str(tmp_path / "outbox.db"),
        "FOOTFALL__MQTT__HOST": "127.0.0.1",
    }


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_ends_cleanly_when_told_to(
    broker: Broker, subscriber: Subscriber, environ: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with running(environ | {"FOOTFALL__MQTT__PORT": str(broker.port)}, tmp_path / "log") as process:
        wait_until(lambda: subscriber.on("step"), timeout_s=PATIENCE_S, what="it counts")
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    wait_until(lambda: subscriber.on("availability")[-1].payload == b"offline")
    assert "stopping:" in (tmp_path / "log").read_text(encoding="utf-8")


def test_with_nohup_a_closed_terminal_does_not_end_it(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(environ | {"FOOTFALL__MQTT__PORT": str(free_port())}, log, "nohup") as process:
        wait_until(lambda: "ready with" in log.read_text(encoding="utf-8"), timeout_s=PATIENCE_S)
        process.send_signal(signal.SIGHUP)
        time.sleep(1.0)
        assert process.poll() is None


@pytest.mark.parametrize("module", ["argparse", "numpy", "paho.mqtt.client"])
def test_ctrl_c_while_it_is_being_imported_prints_nothing(environ: dict[str, str], tmp_path: Path, module: str) -> None:
    """Python tells of each module, indented under what imports it, as soon as it is there."""
    log = tmp_path / "log"
    with running(environ | {"PYTHONPROFILEIMPORTTIME": "1"}, log) as process:
        there = re.compile(rf"\| +{re.escape(module)}$", re.MULTILINE)
        wait_until(lambda: there.search(log.read_text(encoding="utf-8")), timeout_s=PATIENCE_S, what=module)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) in {-signal.SIGINT, 0}
    said = [line for line in log.read_text(encoding="utf-8").splitlines() if not line.startswith("import time:")]
    assert [line for line in said if re.search("Traceback|Interrupt|Exception", line)] == []


class running:  # noqa: N801  reads as what it does
    """A daemon in a process of its own, started as the `footfall` script does; killed in the end if it still runs."""

    def __init__(self, environ: dict[str, str], log: Path, *before: str) -> None:
        with log.open("w", encoding="utf-8") as output:
            command = [*before, sys.executable, "-m", "edge.start", "run"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, cwd=log.parent
            )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
