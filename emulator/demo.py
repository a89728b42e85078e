"""`make run`: a walk goes in over I2C, step events come out over MQTT, through the real daemon and a real broker."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import FootfallError, UsageError
from emulator import EmulatorError, children
from emulator.namespace import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.recording import Recording

DEVICE_ID = "demo"
TOPIC = f"footfall/{DEVICE_ID}"
SETTLE_S = 3.0
"""After the last sample: the model's look-ahead, one FIFO burst and the way through the broker."""
START_TIMEOUT_S = 15.0
POLL_S = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns 0, or 1 if a step was lost, 2 if it could not be run."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    no_fuse = prepare()  # before numpy: a namespace of one's own must come before its threads
    try:
        with tempfile.TemporaryDirectory(prefix="footfall-") as directory:
            return Demo(Path(directory), _recording(options), options.speed == "max", no_fuse).run()
    except FootfallError as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="footfall-demo", description=__doc__)
    parser.add_argument("--recording", help="a recording to play instead of a simulated walk")
    parser.add_argument("--seconds", help="play only its first seconds")
    parser.add_argument("--speed", choices=("1.0", "max"), default="1.0", help="max: no bus, as fast as it can be read")
    return parser


def _recording(options: argparse.Namespace) -> Recording:
    from edge.recording import load  # noqa: PLC0415  after prepare(): imports numpy
    from emulator.gait import MIN_SECONDS, simulate_walk  # noqa: PLC0415

    try:
        seconds = None if options.seconds is None else float(options.seconds)
    except ValueError:
        seconds = -1.0
    if seconds is not None and not seconds > 0:
        raise UsageError(f"SECONDS is {options.seconds!r}; allowed: a number above 0")
    if options.recording:
        recording = load(options.recording)
    else:
        recording = replace(simulate_walk(max(MIN_SECONDS, seconds or 60.0)), name="simulated-walk")
    return recording if seconds is None else _cut(recording, seconds)


def _cut(recording: Recording, seconds: float) -> Recording:
    keep = recording.time_s < seconds
    if keep.sum() < 2:
        raise UsageError(f"SECONDS is {seconds:g}; that leaves fewer than two samples of {recording.name}")
    steps = None if recording.steps is None else recording.steps[recording.steps < seconds]
    return replace(recording, time_s=recording.time_s[keep], imu=recording.imu[keep], steps=steps)


@dataclass
class Received:
    """What the subscriber has reported so far."""

    ready: threading.Event = field(default_factory=threading.Event)
    online: threading.Event = field(default_factory=threading.Event)
    offline: threading.Event = field(default_factory=threading.Event)
    steps: set[tuple[str, int]] = field(default_factory=set)
    duplicates: int = 0

    def listen(self, subscriber: subprocess.Popen[str]) -> None:
        """Take one line after the other until the subscriber ends."""
        assert subscriber.stdout is not None
        for line in subscriber.stdout:
            message = json.loads(line)
            if "ready" in message:
                self.ready.set()
            else:
                self._take(message["topic"].rpartition("/")[2], message["payload"])

    def _take(self, name: str, payload: str) -> None:
        if name == "availability":
            (self.online if payload == "online" else self.offline).set()
        elif name == "step":
            step = json.loads(payload)
            self._count(step["boot_id"], step["seq"])
            print(_step_line(step, len(self.steps)), flush=True)
        elif name == "batch":
            batch = json.loads(payload)
            for index in range(len(batch["dt"])):
                self._count(batch["boot_id"], batch["seq0"] + index)
            print(f"  {len(batch['dt'])} late steps in one batch; {len(self.steps)} in all", flush=True)

    def _count(self, boot_id: str, seq: int) -> None:
        self.duplicates += (boot_id, seq) in self.steps
        self.steps.add((boot_id, seq))


class Demo:
    """The broker, the subscriber, the emulated sensor and the daemon, and the order in which they come and go."""

    def __init__(self, directory: Path, recording: Recording, at_full_speed: bool, no_fuse: str | None) -> None:
        self.directory, self.recording, self.at_full_speed, self.no_fuse = directory, recording, at_full_speed, no_fuse
        self.received = Received()
        self.port = _free_port()
        self.outbox_path = directory / "outbox.db"

    def run(self) -> int:
        """Play the recording; returns 0, or 1 if a step was lost on its way to the subscriber."""
        with ExitStack() as stack:
            self._start_broker(stack)
            subscriber = self._start_subscriber(stack)
            self._introduce()
            interrupted = False
            try:
                self._play(stack)
            except KeyboardInterrupt:
                interrupted = True
                print("\nstopping", flush=True)
                stack.close()
            del subscriber
        return self._summary(interrupted)

    def _start_broker(self, stack: ExitStack) -> None:
        config = self.directory / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n",
            encoding="utf-8",
        )
        program = children.find_program("mosquitto", "mosquitto")
        broker = children.start([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(children.stop, broker)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not _listens(self.port):
            if broker.poll() is not None or time.monotonic() > deadline_s:
                raise EmulatorError(f"mosquitto does not start; try it by hand: {program} -v -c {config}")
            time.sleep(POLL_S)

    def _start_subscriber(self, stack: ExitStack) -> subprocess.Popen[str]:
        subscriber = children.start(
            [sys.executable, "-m", "emulator.subscriber", "--port", str(self.port), "--topic", f"{TOPIC}/#"],
            stdout=subprocess.PIPE,
            stderr=None,
        )
        stack.callback(self._end_subscriber, subscriber)
        threading.Thread(target=self.received.listen, args=(subscriber,), daemon=True).start()
        if not self.received.ready.wait(START_TIMEOUT_S):
            raise EmulatorError("the subscriber could not connect to its broker; is the machine out of memory?")
        return subscriber

    def _end_subscriber(self, subscriber: subprocess.Popen[str]) -> None:
        # `offline` is the daemon's last word: behind it no step is under way any more.
        if self.received.online.is_set():
            self.received.offline.wait(SETTLE_S)
        children.stop(subscriber)

    def _introduce(self) -> None:
        steps = self.recording.steps
        labelled = "" if steps is None or self.recording.steps_known != "all" else f", {len(steps)} steps"
        name, seconds = self.recording.name, self.recording.duration_s
        print(f"playing {name}: {seconds:.0f} s{labelled}")
        print(f"source  {self._source()}")
        print(f"broker  mosquitto on 127.0.0.1:{self.port}; listen along from a second terminal:")
        print(f"        mosquitto_sub -h 127.0.0.1 -p {self.port} -v -t 'footfall/#'\n", flush=True)

    def _source(self) -> str:
        if self.at_full_speed:
            return "the recording itself, as fast as it can be read (SPEED=max): no I2C bus"
        if self.no_fuse is not None:
            return f"an emulated MPU-6050 inside the daemon's process, because {self.no_fuse}"
        return f"an emulated MPU-6050 at 0x68 on {self.directory}/i2c-1, read by the daemon through smbus2"

    def _play(self, stack: ExitStack) -> None:
        recording = self.directory / "recording.npz"
        if self.at_full_speed or self.no_fuse is not None:
            from edge.recording import save_npz  # noqa: PLC0415

            save_npz(recording, self.recording)
        if self.at_full_speed:
            sensor = {"type": "replay", "recording": str(recording), "replay_speed": "max"}
            self._until_exit(self._start_daemon(stack, sensor, ["-m", "edge", "run"]))
        elif self.no_fuse is not None:
            arguments = ["-m", "emulator.daemon", "--recording", str(recording)]
            self._until_exit(self._start_daemon(stack, self._bus(), arguments))
        else:
            self._over_fuse(stack)

    def _over_fuse(self, stack: ExitStack) -> None:
        from emulator.bus import EmulatedBus  # noqa: PLC0415  after prepare(): imports numpy
        from emulator.fuse import FuseI2c  # noqa: PLC0415
        from emulator.mpu6050 import Mpu6050  # noqa: PLC0415

        chip = Mpu6050(self.recording.imu, self.recording.sampling_rate_hz)
        stack.enter_context(FuseI2c(self.directory / "i2c-1", EmulatedBus({0x68: chip})))
        daemon = self._start_daemon(stack, self._bus(), ["-m", "edge", "run"])
        while not chip.finished and daemon.poll() is None:
            time.sleep(POLL_S)
        if daemon.poll() is None:
            time.sleep(SETTLE_S)
            daemon.terminate()
        self._until_exit(daemon)

    def _bus(self) -> dict[str, Any]:
        return {"type": "mpu6050", "bus": str(self.directory / "i2c-1"), "address": 0x68}

    def _start_daemon(self, stack: ExitStack, sensor: dict[str, Any], arguments: list[str]) -> subprocess.Popen[str]:
        config = self.directory / "config.yaml"
        # JSON is YAML; the shipped model is the default of model.path.
        settings = {
            "device": {"id": DEVICE_ID},
            "sensor": sensor,
            "mqtt": {"host": "127.0.0.1", "port": self.port},
            "outbox": {"path": str(self.outbox_path)},
            "logging": {"level": "warning"},
        }
        config.write_text(json.dumps(settings), encoding="utf-8")
        daemon = children.start([sys.executable, *arguments, "--config", str(config)], stdout=None, stderr=None)
        stack.callback(children.stop, daemon)
        return daemon

    def _until_exit(self, daemon: subprocess.Popen[str]) -> None:
        if daemon.wait() != 0:
            raise EmulatorError("the daemon stopped early; what it said stands above")

    def _summary(self, interrupted: bool) -> int:
        from edge.outbox import Outbox  # noqa: PLC0415

        detected = 0
        if self.outbox_path.exists():
            outbox = Outbox(self.outbox_path, max_age_h=1.0, max_bytes=2**30)
            detected = outbox.total
            outbox.close()
        received, duplicates = len(self.received.steps), self.received.duplicates
        lost = detected - received
        name = self.recording.name.replace(" ", "_")
        print(
            f"\nsummary: recording={name} steps_detected={detected} steps_received={received} "
            f"duplicates={duplicates} lost={lost}",
            flush=True,
        )
        if interrupted:
            return 130
        return 1 if lost else 0


def _step_line(step: dict[str, Any], count: int) -> str:
    cadence = step["cadence_spm"]
    pace = "        –      " if cadence is None else f"{cadence:5.0f} steps/min"
    bar = "" if cadence is None else "▪" * round(cadence / 10)
    return f"  {step['ts'][11:23]}  step {count:4d}  {pace}  confidence {100 * step['confidence']:3.0f} %  {bar}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
