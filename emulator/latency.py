"""`make latency`: how long a stored step takes to its subscriber, and what a dead or hung broker costs the pipeline.

The real daemon plays a simulated walk against a private Mosquitto. It runs in a child process in which the outbox notes
when a step was committed and the publisher how long its turns took; nothing else of it is changed. The monotonic clock
is the same in both processes, so the difference to the subscriber's clock needs no correction.
"""

from __future__ import annotations

import argparse
import getpass
import json
import math
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator import EmulatorError, children
from emulator.ports import free_port

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

P50_MS, P99_MS = 10.0, 50.0
"""What docs/mqtt.md promises on loopback."""
_TIMEOUT_S = 30.0
_POLL_S = 0.02
_FLOOR_EVERY_S = 0.1
BROKERS = ("healthy", "dead", "hung")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 if a step did not arrive or the promise is not kept."""
    parser = argparse.ArgumentParser(prog="latency", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each of the three runs takes")
    parser.add_argument("--speed", type=float, default=4.0, help="how fast the walk is played")
    parser.add_argument("--json", action="store_true", help="the figures for programs")
    parser.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.daemon:
        return run_daemon(options.daemon, options.notes)
    with tempfile.TemporaryDirectory(prefix="footfall-") as directory:
        report = measure(Path(directory), options.seconds, options.speed)
    print(json.dumps(report) if options.json else table(report))
    arrived = report["lost"] == 0 and report["steps"] > 0
    return 0 if arrived and report["p50_ms"] <= P50_MS and report["p99_ms"] <= P99_MS else 1


def measure(directory: Path, seconds: float, speed: float) -> dict[str, Any]:
    """Run the daemon with a healthy, a dead and a hung broker; return the figures."""
    from edge.recording import save_npz  # noqa: PLC0415  the child that is measured needs none of it
    from emulator.gait import simulate_walk  # noqa: PLC0415

    save_npz(directory / "walk.npz", simulate_walk(seconds * speed, seed=21))
    runs = {kind: Run(directory / kind, directory / "walk.npz", speed, kind).go() for kind in BROKERS}
    healthy = runs["healthy"]
    late_ms = sorted(1000.0 * (healthy["arrived"][name] - at_s) for name, at_s in healthy["committed"].items()
                     if name in healthy["arrived"])  # fmt: skip
    return {
        "steps": len(healthy["committed"]),
        "lost": len(healthy["committed"]) - len(late_ms),
        "p50_ms": round(percentile(late_ms, 50), 2),
        "p99_ms": round(percentile(late_ms, 99), 2),
        "floor_p50_ms": round(percentile(sorted(healthy["floor_ms"]), 50), 2),
        "floor_p99_ms": round(percentile(sorted(healthy["floor_ms"]), 99), 2),
        "stored": {kind: len(run["committed"]) for kind, run in runs.items()},
        "turn_ms": {kind: round(run["turn_ms"], 4) for kind, run in runs.items()},
        "cpu_s": {kind: round(run["cpu_s"], 3) for kind, run in runs.items()},
    }


def percentile(values: list[float], percent: float) -> float:
    """Return a value of the sorted list by rank; infinite for an empty one."""
    return values[max(0, math.ceil(percent / 100.0 * len(values)) - 1)] if values else math.inf


def table(report: dict[str, Any]) -> str:
    """Write the figures for people, costs as ratios to the healthy broker's."""
    lines = [
        f"step committed -> subscriber: {report['steps']} steps, {report['lost']} lost",
        f"  p50 {report['p50_ms']} ms (promised {P50_MS:g}), p99 {report['p99_ms']} ms (promised {P99_MS:g})",
        "floor, a bare message of another client through the same broker at the same time:",
        f"  p50 {report['floor_p50_ms']} ms, p99 {report['floor_p99_ms']} ms",
        "",
        f"{'broker':<10}{'steps stored':>14}{'publisher turn, median':>26}{'ratio':>8}{'CPU':>10}{'ratio':>8}",
    ]
    for kind in BROKERS:
        turn_ms, cpu_s = report["turn_ms"][kind], report["cpu_s"][kind]
        lines.append(
            f"{kind:<10}{report['stored'][kind]:>14}{turn_ms:>23.4f} ms{turn_ms / report['turn_ms']['healthy']:>8.2f}"
            f"{cpu_s:>8.2f} s{cpu_s / report['cpu_s']['healthy']:>8.2f}"
        )
    return "\n".join(lines)


class Run:
    """One broker, one subscriber, one daemon."""

    def __init__(self, directory: Path, walk: Path, speed: float, kind: str) -> None:
        directory.mkdir()
        self.directory, self.walk, self.speed, self.kind = directory, walk, speed, kind
        self.port = free_port()
        self.arrived: dict[str, float] = {}
        self._subscribed = threading.Event()
        self._floor_ms: list[float] = []

    def go(self) -> dict[str, Any]:
        """Play the walk to its end; return when steps were committed and arrived, and what the daemon spent."""
        with ExitStack() as stack:
            broker = self._start_broker() if self.kind != "dead" else None
            if broker is not None:
                stack.callback(children.stop, broker)
                stack.callback(self._subscribe())
            daemon = self._start_daemon()
            stack.callback(children.stop, daemon)
            if broker is not None and self.kind == "hung":
                self._hang(broker, stack)
            while daemon.poll() is None:
                if broker is not None and self.kind == "healthy":
                    self._client.publish("floor", repr(time.monotonic()), qos=1)
                time.sleep(_FLOOR_EVERY_S)
            notes = json.loads((self.directory / "notes.json").read_text(encoding="utf-8"))
            deadline_s = time.monotonic() + _TIMEOUT_S
            while self.kind == "healthy" and not notes["committed"].keys() <= self.arrived.keys():
                if time.monotonic() > deadline_s:
                    break
                time.sleep(_POLL_S)
        return {**notes, "arrived": self.arrived, "floor_ms": self._floor_ms}

    def _hang(self, broker: subprocess.Popen[str], stack: ExitStack) -> None:
        """Stop the broker in its tracks as soon as the daemon is connected: sockets stay open, nothing answers."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while "online" not in self.arrived and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        broker.send_signal(signal.SIGSTOP)
        stack.callback(broker.send_signal, signal.SIGCONT)

    def _start_broker(self) -> subprocess.Popen[str]:
        config = self.directory / "mosquitto.conf"
        user = f"user {getpass.getuser()}\n" if os.getuid() == 0 else ""
        text = f"{user}listener {self.port} 127.0.0.1\nallow_anonymous true\nlog_type error\n"
        config.write_text(text, encoding="utf-8")
        program = children.find_program("mosquitto", "mosquitto")
        with (self.directory / "mosquitto.log").open("w", encoding="utf-8") as output:
            broker = children.start([program, "-c", str(config)], stdout=output, stderr=output)
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not _listens(self.port):
            if broker.poll() is not None or time.monotonic() > deadline_s:
                raise EmulatorError(f"mosquitto does not start; try it by hand: {program} -v -c {config}")
            time.sleep(_POLL_S)
        return broker

    def _subscribe(self) -> Any:
        import paho.mqtt.client as paho  # noqa: PLC0415

        options: dict[str, Any] = {}
        if hasattr(paho, "CallbackAPIVersion"):
            options["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        client: Any = paho.Client(**options)
        self._client = client
        client.on_message = self._take
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.connect("127.0.0.1", self.port)
        client.subscribe([("footfall/latency/#", 1), ("floor", 1)])
        client.loop_start()
        if not self._subscribed.wait(_TIMEOUT_S):
            raise EmulatorError("the subscriber could not connect to its broker; is the machine out of memory?")

        def leave() -> None:
            client.disconnect()
            client.loop_stop()
            client.on_message = client.on_subscribe = None

        return leave

    def _take(self, _client: Any, _userdata: Any, message: Any) -> None:
        now_s = time.monotonic()
        if message.topic == "floor":
            self._floor_ms.append(1000.0 * (now_s - float(message.payload)))
        elif message.topic.endswith("/step"):
            step = json.loads(message.payload)
            self.arrived.setdefault(f"{step['boot_id']} {step['seq']}", now_s)
        elif message.payload == b"online":
            self.arrived["online"] = now_s

    def _start_daemon(self) -> subprocess.Popen[str]:
        settings = {
            "device": {"id": "latency"},
            "sensor": {"type": "replay", "recording": str(self.walk), "replay_speed": self.speed},
            "mqtt": {"host": "127.0.0.1", "port": self.port},
            "outbox": {"path": str(self.directory / "outbox.db")},
            "logging": {"level": "error"},
        }
        config = self.directory / "config.yaml"
        config.write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, "-m", "emulator.latency", "--daemon", str(config)]
        return children.start([*command, "--notes", str(self.directory / "notes.json")], stdout=None, stderr=None)


def run_daemon(config_path: Path, notes_path: Path) -> int:
    """Be the daemon, and write down when each step was committed, how long the publisher's turns took, and the CPU."""
    from edge import config as configuration  # noqa: PLC0415
    from edge import daemon  # noqa: PLC0415
    from edge.outbox import Outbox  # noqa: PLC0415
    from edge.publisher import Publisher  # noqa: PLC0415

    committed: dict[str, float] = {}
    turns_s: list[float] = []
    store, drain = Outbox._transaction, Publisher.drain  # noqa: SLF001  the moment of the commit is nowhere else

    class Transaction:
        """The outbox's own transaction; what it stored is committed once it has been left."""

        def __init__(self, outbox: Outbox, *, durable: bool) -> None:
            self._outbox = outbox
            self._inner: Any = store(outbox, durable=durable)
            self._before = outbox.seq
            self._durable = durable

        def __enter__(self) -> None:
            self._inner.__enter__()

        def __exit__(self, *error: object) -> bool | None:
            result: bool | None = self._inner.__exit__(*error)
            if self._durable and error[0] is None:
                now_s = time.monotonic()
                found = self._outbox._db.execute(  # noqa: SLF001
                    "SELECT boot_id, seq FROM step WHERE boot_id = ? AND seq > ?", (self._outbox.boot_id, self._before)
                )
                committed.update({f"{boot_id} {seq}": now_s for boot_id, seq in found})
            return result

    def timed_drain(publisher: Publisher, outbox: Outbox, **options: Any) -> None:
        began_s = time.perf_counter()
        drain(publisher, outbox, **options)
        turns_s.append(time.perf_counter() - began_s)

    patched: Any = Outbox
    patched._transaction = lambda outbox, *, durable: Transaction(outbox, durable=durable)  # noqa: SLF001
    patched = Publisher
    patched.drain = timed_drain
    config = configuration.load(config_path, os.environ)
    daemon.set_up_logging(config)
    cpu_s = time.process_time()
    status = daemon.run(config)
    notes = {
        "committed": committed,
        "turn_ms": 1000.0 * statistics.median(turns_s),
        "cpu_s": time.process_time() - cpu_s,
    }
    notes_path.write_text(json.dumps(notes), encoding="utf-8")
    return status


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
