"""The real daemon as a child process on an emulated bus, and what it costs: for fault tests and stress measurements."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator import EmulatorError, children

if TYPE_CHECKING:
    from collections.abc import Callable

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
DEVICE_ID = "rig"
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it started. voluntary_switches: of all its threads, each one a wake-up later on."""

    at_s: float
    cpu_s: float
    voluntary_switches: int

    def since(self, before: Usage) -> tuple[float, float]:
        """Return (CPU in percent of one core, wake-ups a second) between two readings."""
        elapsed_s = self.at_s - before.at_s
        switches = self.voluntary_switches - before.voluntary_switches
        return 100.0 * (self.cpu_s - before.cpu_s) / elapsed_s, switches / elapsed_s


def usage(pid: int) -> Usage:
    """Read proc_pid_stat(5) and the status of every thread; OSError if the process is gone."""
    proc = Path("/proc") / str(pid)
    fields = (proc / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    switches = 0
    for status in (proc / "task").glob("*/status"):
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                switches += int(line.split()[1])
    return Usage(time.monotonic(), (int(fields[11]) + int(fields[12])) / CLOCK_TICKS, switches)


class DaemonProcess:
    """One run of `python -m edge run`, its config and its log in a directory.

    sensor: the config's sensor section; port: of the broker, a closed port where none is wanted; level: of its log;
    module: what is run instead of `edge`.
    """

    def __init__(
        self,
        directory: Path,
        sensor: dict[str, Any],
        port: int,
        *,
        health_s: float = 60.0,
        level: str = "info",
        module: str = "edge",
    ) -> None:
        self.log = directory / "daemon.log"
        self.outbox = directory / "outbox.db"
        settings = {
            "device": {"id": DEVICE_ID},
            "sensor": sensor,
            "mqtt": {"host": "127.0.0.1", "port": port},
            "outbox": {"path": str(self.outbox)},
            "health": {"interval_s": health_s},
            "logging": {"level": level},
        }
        config = directory / "config.yaml"
        config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        with self.log.open("w", encoding="utf-8") as output:
            command = [sys.executable, "-m", module, "run", "--config", str(config)]
            self.process: subprocess.Popen[str] = children.start(command, stdout=output, stderr=output)

    @property
    def said(self) -> str:
        """Everything it has logged so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def end(self) -> int:
        """Stop it as systemd would; return its exit status."""
        return children.stop(self.process)


@dataclass(frozen=True, slots=True)
class HeardStep:
    """One step as the subscriber saw it, epoch seconds. late: it came in a batch."""

    seq: int
    happened_s: float
    received_s: float
    late: bool


class Ear:
    """Listens to the broker in a process of its own and keeps what the daemon said."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "emulator.subscriber", "--port", str(port), "--topic", "footfall/#"]
        self.process = children.start(command, stdout=subprocess.PIPE, stderr=None)
        self.ready = threading.Event()
        self.steps: list[HeardStep] = []
        self.last: dict[str, Any] = {}
        """The last payload of each topic by its last word."""
        self.qualities: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop listening."""
        children.stop(self.process)
        self._thread.join(timeout=10.0)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            if "ready" in message:
                self.ready.set()
            else:
                self._take(message["topic"].rpartition("/")[2], message["payload"], message["received_s"])

    def _take(self, name: str, payload: str, received_s: float) -> None:
        body: Any = payload if name == "availability" else json.loads(payload)
        self.last[name] = body
        if name == "step":
            self.steps.append(HeardStep(body["seq"], epoch_s(body["ts"]), received_s, late=False))
        elif name == "batch":
            for number, later_ms in enumerate(body["dt"]):
                happened_s = (body["t0"] + later_ms) / 1000.0
                self.steps.append(HeardStep(body["seq0"] + number, happened_s, received_s, late=True))
        elif name == "state":
            self.qualities.append(body["quality"])


def epoch_s(rfc3339: str) -> float:
    """Return a time stamp of the contract as seconds since the epoch."""
    return datetime.fromisoformat(rfc3339).timestamp()


def wait_for(condition: Callable[[], object], what: str, *, timeout_s: float = 30.0) -> float:
    """Poll until the condition holds; return the seconds it took. EmulatorError names what did not happen."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise EmulatorError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)
    return time.monotonic() - began_s


def start_broker(directory: Path, port: int) -> subprocess.Popen[str]:
    """Start a private Mosquitto; EmulatorError if it does not listen soon."""
    program = children.find_program("mosquitto", "mosquitto")
    user = "user root\n" if os.getuid() == 0 else ""
    config = directory / "mosquitto.conf"
    config.write_text(f"{user}listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n", encoding="utf-8")
    with (directory / "mosquitto.log").open("w", encoding="utf-8") as output:
        broker = children.start([program, "-c", str(config)], stdout=output, stderr=output)
    wait_for(lambda: _listens(port) or broker.poll() is not None, "mosquitto listens")
    if broker.poll() is not None:
        raise EmulatorError(f"mosquitto does not start; try it by hand: {program} -v -c {config}")
    return broker


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
