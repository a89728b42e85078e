"""`make run`: a walk goes in over I2C, step events come out over MQTT, through the real daemon and a real broker."""

from __future__ import annotations

import argparse
import getpass
import json
import os
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

from edge.__main__ import set_up_output
from edge.errors import FootfallError, UsageError
from emulator import EmulatorError, children
from emulator.namespace import prepare
from emulator.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.recording import Recording

USUAL_WALK_S = 60.0
DEVICE_ID = "demo"
TOPIC = f"footfall/{DEVICE_ID}"
SETTLE_S = 3.0
"""After the last sample: the model's look-ahead, one FIFO burst and the way through the broker."""
START_TIMEOUT_S = 15.0
POLL_S = 0.05
SURE_AFTER_S = 15.0
"""Nearly every walk is sure before that."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns 0, or 1 if a step was lost, 2 if it could not be run."""
    options = _parser().parse_args(argv)
    set_up_output()
    no_fuse = prepare()  # before numpy: a namespace of one's own must come before its threads
    try:
        from emulator.chips import CHIPS, unknown  # noqa: PLC0415  after prepare(): imports numpy

        if options.sensor and options.speed == "max":
            raise UsageError("SENSOR is of no use with SPEED=max, which plays without a sensor; leave one of them out")
        sensor = (options.sensor or "mpu6050").lower()
        if sensor not in CHIPS:
            raise UsageError(f"SENSOR is {unknown(sensor)}")
        if options.speed not in ("1", "1.0", "max"):
            raise UsageError(f"SPEED is {options.speed!r}; allowed: 1, or max")
        with tempfile.TemporaryDirectory(prefix="footfall-") as directory:
            return Demo(Path(directory), _recording(options), options.speed == "max", no_fuse, sensor).run()
    except FootfallError as error:
        print(f"make run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="footfall-demo", description=__doc__)
    parser.add_argument("--recording", help="a recording to play instead of a simulated walk")
    parser.add_argument("--seconds", help="play only its first seconds")
    parser.add_argument("--sensor", help="the emulated chip, e.g. lsm6dsox (default mpu6050)")
    parser.add_argument("--speed", default="1", help="max: no bus, as fast as it can be read")
    return parser


def _recording(options: argparse.Namespace) -> Recording:
    from edge.recording import load  # noqa: PLC0415  after prepare(): imports numpy
    from emulator.gait import simulate_walk  # noqa: PLC0415

    try:
        seconds = None if options.seconds is None else float(options.seconds)
    except ValueError:
        seconds = -1.0
    if seconds is not None and not seconds > 0:
        raise UsageError(f"SECONDS is {options.seconds!r}; allowed: a number above 0")
    if options.recording:
        recording = load(options.recording)
    else:
        # The beginning of the usual walk, unless more than that is asked for.
        recording = replace(simulate_walk(max(USUAL_WALK_S, seconds or 0.0)), name="simulated-walk")
    if seconds is None:
        return recording
    if recording.time_s[1] >= seconds:
        raise UsageError(f"SECONDS is {seconds:g}; that leaves fewer than two samples of {recording.name}")
    return recording.first(seconds)


@dataclass
class Received:
    """What the subscriber has reported so far."""

    stop: threading.Event
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
            self._show(_step_line(step, len(self.steps)))
        elif name == "batch":
            batch = json.loads(payload)
            for index in range(len(batch["dt"])):
                self._count(batch["boot_id"], batch["seq0"] + index)
            self._show(f"  {len(batch['dt'])} late steps in one batch; {len(self.steps)} in all")

    def _show(self, line: str) -> None:
        """Print, until the reader of our output has gone; counting goes on without it."""
        try:
            print(line, flush=True)
        except BrokenPipeError:
            self.stop.set()  # nobody reads on: as good as Ctrl-C
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123

    def _count(self, boot_id: str, seq: int) -> None:
        self.duplicates += (boot_id, seq) in self.steps
        self.steps.add((boot_id, seq))


class Demo:
    """The broker, the subscriber, the emulated sensor and the daemon, and the order in which they come and go."""

    def __init__(
        self, directory: Path, recording: Recording, at_full_speed: bool, no_fuse: str | None, sensor: str = "mpu6050"
    ) -> None:
        from emulator.chips import CHIPS  # noqa: PLC0415  after prepare(): imports numpy

        self.directory, self.recording, self.at_full_speed, self.no_fuse = directory, recording, at_full_speed, no_fuse
        self.sensor, self.part = sensor, CHIPS[sensor]
        self.stop = threading.Event()
        self.received = Received(self.stop)
        self.port = free_port()
        self.outbox_path = directory / "outbox.db"

    def run(self) -> int:
        """Play the recording; returns 0, or 1 if a step was lost on its way to the subscriber."""
        # A flag, not an exception: an exception might strike in the middle of taking things down.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda *_: self.stop.set())
        with ExitStack() as stack:
            self._start_broker(stack)
            self._start_subscriber(stack)
            self._introduce()
            self._play(stack)
        return self._summary()

    def _start_broker(self, stack: ExitStack) -> None:
        config = self.directory / "mosquitto.conf"
        # As root it would change its user, and the kernel would forget that it is to end with us.
        user = f"user {getpass.getuser()}\n" if os.getuid() == 0 else ""
        config.write_text(
            f"{user}listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n",
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

    def _start_subscriber(self, stack: ExitStack) -> None:
        subscriber = children.start(
            [sys.executable, "-m", "emulator.subscriber", "--port", str(self.port), "--topic", f"{TOPIC}/#"],
            stdout=subprocess.PIPE,
            stderr=None,
        )
        stack.callback(self._end_subscriber, subscriber)
        threading.Thread(target=self.received.listen, args=(subscriber,), daemon=True).start()
        if not self.received.ready.wait(START_TIMEOUT_S):
            raise EmulatorError("the subscriber could not connect to its broker; is the machine out of memory?")

    def _end_subscriber(self, subscriber: subprocess.Popen[str]) -> None:
        # `offline` is the daemon's last word: behind it no step is under way any more.
        if self.received.online.is_set():
            self.received.offline.wait(SETTLE_S)
        children.stop(subscriber)

    def _introduce(self) -> None:
        steps = self.recording.steps
        labelled = "" if steps is None or self.recording.steps_known != "all" else f", {_steps(len(steps))}"
        name, seconds = self.recording.name, self.recording.duration_s
        print(f"playing {name}: {seconds:.0f} s{labelled}")
        print(f"source  {self._source()}")
        if self.at_full_speed:
            print(f"broker  mosquitto on 127.0.0.1:{self.port}\n", flush=True)
            return
        print(f"broker  mosquitto on 127.0.0.1:{self.port}; listen along from a second terminal")
        print("        (mosquitto_sub is in the package mosquitto-clients):")
        print(f"        mosquitto_sub -h 127.0.0.1 -p {self.port} -v -t 'footfall/#'\n", flush=True)

    def _source(self) -> str:
        if self.at_full_speed:
            return "the recording itself, as fast as it can be read (SPEED=max): no I2C bus, stamped as if it ended now"
        if self.no_fuse is not None:
            return f"an emulated {self.part.title} inside the daemon's process, because {self.no_fuse}"
        where = f"at {self.part.address:#x} on {self.directory}/i2c-1"
        return f"an emulated {self.part.title} {where}, read by the daemon through smbus2"

    def _play(self, stack: ExitStack) -> None:
        recording = self.directory / "recording"
        if self.at_full_speed or self.no_fuse is not None:
            from edge.recording import save  # noqa: PLC0415

            recording = save(recording, self.recording)
        if self.at_full_speed:
            sensor = {"type": "replay", "recording": str(recording), "replay_speed": "max"}
            self._until_exit(self._start_daemon(stack, sensor, ["-m", "edge", "run"]))
        elif self.no_fuse is not None:
            arguments = ["-m", "emulator.daemon", "--recording", str(recording), "--sensor", self.sensor]
            self._until_exit(self._start_daemon(stack, self._bus(), arguments))
        else:
            self._over_fuse(stack)

    def _over_fuse(self, stack: ExitStack) -> None:
        from emulator.bus import EmulatedBus  # noqa: PLC0415  after prepare(): imports numpy
        from emulator.fuse import FuseI2c  # noqa: PLC0415

        chip = self.part.make(self.recording.imu, self.recording.sampling_rate_hz)
        stack.enter_context(FuseI2c(self.directory / "i2c-1", EmulatedBus(self.part.devices(chip))))
        daemon = self._start_daemon(stack, self._bus(), ["-m", "edge", "run"])
        while not chip.finished and daemon.poll() is None and not self.stop.wait(POLL_S):
            pass
        if daemon.poll() is None:
            self.stop.wait(SETTLE_S)
            self._end(daemon)
        self._until_exit(daemon)

    def _end(self, daemon: subprocess.Popen[str]) -> None:
        if children.stop(daemon) != 0:
            raise EmulatorError("the daemon did not stop cleanly; what it said stands above")

    def _bus(self) -> dict[str, Any]:
        from emulator.chips import write_firmware  # noqa: PLC0415  after prepare(): imports numpy

        kind = "mpu6050" if self.sensor == "mpu6050" else "auto"
        bus = {"type": kind, "bus": str(self.directory / "i2c-1"), "address": self.part.address}
        return bus | {"firmware": str(write_firmware(self.directory))}

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
        while daemon.poll() is None and not self.stop.wait(POLL_S):
            pass
        if daemon.poll() is None:
            self._end(daemon)
        elif daemon.returncode != 0:
            raise EmulatorError(f"the daemon stopped early (exit status {daemon.returncode}); see above")

    def _summary(self) -> int:
        from edge.outbox import Outbox  # noqa: PLC0415

        detected = 0
        if self.outbox_path.exists():
            outbox = Outbox(self.outbox_path, max_age_h=1.0, max_bytes=2**30)
            detected = outbox.total
            outbox.close()
        received, duplicates = len(self.received.steps), self.received.duplicates
        lost = detected - received
        name = "_".join(self.recording.name.split())
        self._compare(detected)
        print(
            f"summary: recording={name} steps_detected={detected} steps_received={received} "
            f"duplicates={duplicates} lost={lost}",
            flush=True,
        )
        return 1 if lost else 0

    def _compare(self, detected: int) -> None:
        """Say how the count compares with the truth, where that is known."""
        if self.stop.is_set():
            print("\nstopped", flush=True)
        elif self.recording.steps is not None and self.recording.steps_known == "all" and len(self.recording.steps):
            true = len(self.recording.steps)
            print(f"\ncounted {detected} of {_steps(true)}: {100 * (detected - true) / true:+.1f} %")
            if not detected and self.recording.duration_s < SURE_AFTER_S:
                print("a walk counts when it is sure, with all its steps from the first: play more of it (SECONDS=20)")
            elif not detected:
                print("the model was not sure that this is a walk: `footfall replay FILE` says how sure it was")
        else:
            print(f"\ncounted {_steps(detected)}")


def _step_line(step: dict[str, Any], count: int) -> str:
    cadence = step["cadence_spm"]
    pace = "        –      " if cadence is None else f"{cadence:5.0f} steps/min"
    bar = "" if cadence is None else "▪" * round(cadence / 10)
    return (
        f"  {step['ts'][11:23]}  step {count:4d}  {pace}  confidence {100 * step['confidence']:3.0f} %  {bar}".rstrip()
    )


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
