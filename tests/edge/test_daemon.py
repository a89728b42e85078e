"""The real daemon process: emulated sensor on a real device path, real Mosquitto, real subscriber."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge.classifier import StepClassifier
from edge.imu.replay import ReplayImu
from edge.pipeline import Pipeline, detect
from edge.recording import Recording, load, save_npz
from emulator import children
from emulator.bus import EmulatedBus
from emulator.fuse import FuseI2c
from emulator.gait import simulate_walk
from emulator.mpu6050 import Mpu6050
from emulator.namespace import unavailable
from tests.broker import Subscriber, wait_until
from tests.edge.soak_zones import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.types import StepEvent
    from tests.broker import Broker

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "step.tflite"
GRAVITY, DEGREE = 9.80665, np.pi / 180
LIVE_S, BACK_FILL_S = 0.9, 8.0
"""A step while walking is heard of within the first; one that waited for its walk to be sure, within the second."""
PHASES_S = np.arange(0, 0.02, 0.004)
"""Where the model's grid of 50 Hz may lie in the recording: the daemon comes to the chip at an instant of its own."""
CLOCK_S = 0.04
"""What the sample clock may need to learn the chip's true rate and phase; one frame of the model."""
SETTLE_S = 3.0
WALK_GAP_S = 1.2

pytestmark = [pytest.mark.bus, pytest.mark.broker]


@dataclass
class Daemon:
    """One run of `footfall run` and what it said."""

    process: subprocess.Popen[str]
    log: Path

    def end(self) -> int:
        """Stop it as systemd would; return its exit status."""
        return children.stop(self.process)

    def said(self, text: str) -> bool:
        return text in self.log.read_text(encoding="utf-8")


@pytest.fixture
def start(tmp_path: Path, broker: Broker) -> Iterator[Callable[..., Daemon]]:
    """Give a function that starts the daemon on the test's own broker and outbox."""
    started: list[Daemon] = []

    def start_daemon(sensor: dict[str, Any]) -> Daemon:
        settings = {
            "device": {"id": "test"},
            "sensor": sensor,
            "mqtt": {"host": "127.0.0.1", "port": broker.port},
            "outbox": {"path": str(tmp_path / "outbox.db")},
        }
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps(settings), encoding="utf-8")
        log = tmp_path / f"daemon{len(started)}.log"
        with log.open("w", encoding="utf-8") as output:
            command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
            process = children.start(command, stdout=output, stderr=output)
        started.append(Daemon(process, log))
        return started[-1]

    yield start_daemon
    for daemon in started:
        daemon.end()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[Mpu6050], dict[str, Any]]]:
    """Give a function that puts a chip on a bus and returns the daemon's sensor section for it."""
    if reason := unavailable():
        pytest.skip(reason)
    mounted: list[FuseI2c] = []

    def put(chip: Mpu6050) -> dict[str, Any]:
        mounted.append(FuseI2c(tmp_path / f"i2c-{len(mounted)}", EmulatedBus({0x68: chip})))
        mounted[-1].mount()
        return {"type": "mpu6050", "bus": str(mounted[-1].path)}

    yield put
    for bus in mounted:
        bus.close()


def as_the_chip_saw_it(recording: Recording, rate_hz: float = 100.0) -> Recording:
    """Resample linearly to the chip's rate and round to its 16 bits at ±8 g and ±1000 °/s."""
    time_s = np.arange(1 + int((len(recording.time_s) - 1) / recording.sampling_rate_hz * rate_hz)) / rate_hz
    columns = [np.interp(time_s, recording.time_s, column) for column in np.nan_to_num(recording.imu).T]
    lsb = np.array([GRAVITY / 4096] * 3 + [DEGREE / 32.8] * 3)
    words = np.clip(np.round(np.stack(columns, axis=1) / lsb), -32768, 32767)
    return Recording("chip", time_s, (words * lsb).astype(np.float32), rate_hz)


def later(recording: Recording, phase_s: float) -> Recording:
    """Return the recording as a chip that was started `phase_s` later sees it."""
    columns = [np.interp(recording.time_s + phase_s, recording.time_s, column) for column in recording.imu.T]
    imu = np.stack(columns, axis=1).astype(np.float32)
    return Recording(recording.name, recording.time_s, imu, recording.sampling_rate_hz)


def replayed(recording: Recording) -> list[StepEvent]:
    pipeline = Pipeline(StepClassifier(MODEL), source_rate_hz=recording.sampling_rate_hz)
    return [event for _, events in detect(ReplayImu(recording), pipeline) for event in events]


def is_an_end(step_s: float, steps_s: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """Whether a step is the first or the last of a walk."""
    before, after = steps_s[steps_s < step_s], steps_s[steps_s > step_s]
    alone = [not near.size or np.abs(near - step_s).min() > WALK_GAP_S for near in (before, after)]
    return any(alone)


def live_s(subscriber: Subscriber, chip: Mpu6050) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the times of the received steps on the recording's own clock."""
    assert chip.started_s is not None
    origin_s = time.time() - (time.monotonic() - chip.started_s)
    stamps = [datetime.fromisoformat(message.json()["ts"]).timestamp() for message in subscriber.on("step")]
    return np.array(stamps) - origin_s


def play(chip: Mpu6050, daemon: Daemon) -> None:
    wait_until(lambda: chip.started_s is not None, what="the driver has started the chip")
    wait_until(lambda: chip.finished or daemon.process.poll() is not None, timeout_s=chip.duration_s + 10)
    time.sleep(SETTLE_S)
    assert daemon.process.poll() is None, daemon.log.read_text(encoding="utf-8")


def check_what_was_late(subscriber: Subscriber, held: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    """Check that steps come at once, and those of a walk's start once it is known for one, each with its own time."""
    messages = subscriber.on("step")
    happened_s = np.array([datetime.fromisoformat(message.json()["ts"]).timestamp() for message in messages])
    late_s = np.array([message.received_s for message in messages]) - happened_s
    assert (np.diff(happened_s) > 0).all()
    assert [message.json()["seq"] for message in messages] == list(range(1, len(messages) + 1))
    assert held.any()
    assert not held.all()
    assert np.median(late_s[~held]) < LIVE_S < late_s[held].max() < BACK_FILL_S


def check_live_equals_replay(
    recording: Recording, start: Callable[..., Daemon], mount: Callable[..., dict[str, Any]], broker: Broker
) -> None:
    broker.start()
    subscriber = Subscriber(broker.port)
    chip = Mpu6050(recording.imu, recording.sampling_rate_hz)
    daemon = start(mount(chip))
    play(chip, daemon)
    # While the daemon says farewell to the broker nobody empties the FIFO any more.
    bytes_dropped = chip.bytes_dropped
    assert daemon.end() == 0
    wait_until(lambda: any(message.payload == b"offline" for message in subscriber.on("availability")))
    recording = as_the_chip_saw_it(recording)
    got_s = live_s(subscriber, chip)
    assert len(got_s) > 0
    expected = replayed(recording)
    expected_s = np.array([event.time_s for event in expected])
    # A walk's first and last step are weak: whether one just reaches what it must is the sample clock's to decide.
    missing_s, surplus_s = differences(expected_s, got_s)
    assert len(missing_s) + len(surplus_s) <= 1, (got_s, expected_s)
    held = np.array([event.backfilled for event in expected])[np.abs(got_s[:, None] - expected_s).argmin(axis=1)]
    assert all(is_an_end(step_s, np.union1d(expected_s, got_s)) for step_s in [*missing_s, *surplus_s])
    got_s, both_s = np.setdiff1d(got_s, surplus_s), np.setdiff1d(expected_s, missing_s)
    # One for one, each where some phase of the grid puts it: of a step's two near-equal maxima the phase decides which
    # is found.
    assert np.quantile(np.abs(got_s - both_s), 0.9) <= CLOCK_S
    possible_s = np.concatenate(
        [[event.time_s + phase_s for event in replayed(later(recording, phase_s))] for phase_s in PHASES_S]
    )
    assert max(np.abs(possible_s - step_s).min() for step_s in got_s) <= CLOCK_S
    check_what_was_late(subscriber, held)
    assert sorted(subscriber.steps()) == sorted(set(subscriber.steps()))
    assert int(subscriber.on("steps")[-1].payload) == len(got_s) + len(surplus_s)
    health = subscriber.on("health")[-1].json()
    assert (health["samples_dropped"], health["bus_errors"]) == (0, 0)
    assert bytes_dropped == 0
    subscriber.close()


def test_a_simulated_walk_over_the_bus_equals_its_replay(
    start: Callable[..., Daemon], mount: Callable[..., dict[str, Any]], broker: Broker
) -> None:
    check_live_equals_replay(simulate_walk(15.0, seed=11), start, mount, broker)


@pytest.mark.slow
@pytest.mark.data
def test_a_real_minute_over_the_bus_equals_its_replay(
    start: Callable[..., Daemon], mount: Callable[..., dict[str, Any]], broker: Broker, recordings_dir: Path
) -> None:
    whole = load(recordings_dir / "awinda_hand" / "person_8__20230217130617.npz")
    first = slice(int(20 * whole.sampling_rate_hz), int(80 * whole.sampling_rate_hz))
    time_s = whole.time_s[first] - whole.time_s[first.start]
    minute = Recording("minute", time_s, whole.imu[first], whole.sampling_rate_hz)
    check_live_equals_replay(minute, start, mount, broker)


def test_without_a_broker_the_daemon_counts_says_so_and_delivers_later(
    start: Callable[..., Daemon], mount: Callable[..., dict[str, Any]], broker: Broker
) -> None:
    recording = simulate_walk(15.0, seed=12)
    chip = Mpu6050(recording.imu, recording.sampling_rate_hz)
    daemon = start(mount(chip))
    play(chip, daemon)
    assert daemon.said(f"no MQTT broker at 127.0.0.1:{broker.port}")
    broker.start()
    subscriber = Subscriber(broker.port)
    seen = as_the_chip_saw_it(recording)
    possible = {len(replayed(later(seen, phase_s))) for phase_s in PHASES_S}

    def all_have_arrived() -> bool:
        counted = subscriber.on("steps")
        arrived = len(set(subscriber.steps()))
        return arrived in possible and bool(counted) and int(counted[-1].payload) == arrived

    wait_until(all_have_arrived, timeout_s=70, what=f"all steps have arrived: {possible}")
    subscriber.close()


def test_a_killed_daemon_loses_no_step_and_its_total_goes_on(
    start: Callable[..., Daemon], mount: Callable[..., dict[str, Any]], broker: Broker
) -> None:
    broker.start()
    subscriber = Subscriber(broker.port)
    recording = simulate_walk(30.0, seed=13)
    chip = Mpu6050(recording.imu, recording.sampling_rate_hz)
    sensor = mount(chip)
    first = start(sensor)
    wait_until(lambda: len(subscriber.on("step")) >= 8, timeout_s=20)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    wait_until(lambda: subscriber.on("availability")[-1].payload == b"offline", what="the last will")
    second = start(sensor)
    wait_until(lambda: len({boot for boot, _ in subscriber.steps()}) == 2, timeout_s=20)
    assert second.end() == 0
    steps = set(subscriber.steps())
    totals = [int(message.payload) for message in subscriber.on("steps")]
    assert totals == sorted(totals)
    assert totals[-1] == len(steps)
    for boot in {boot for boot, _ in steps}:
        seqs = sorted(seq for other, seq in steps if other == boot)
        assert seqs == list(range(1, len(seqs) + 1))
    subscriber.close()


@pytest.mark.parametrize(
    ("who_am_i", "address", "says"),
    [(0x42, 0x68, "0x42"), (0x00, 0x68, "0x00"), (0xFF, 0x68, "0xff"), (0x68, 0x69, "no device at 0x69")],
)
def test_a_wrong_or_missing_sensor_is_waited_for_and_named_once(
    start: Callable[..., Daemon], mount: Callable[..., dict[str, Any]], who_am_i: int, address: int, says: str
) -> None:
    chip = Mpu6050(np.array([[0.0, 0.0, GRAVITY, 0.0, 0.0, 0.0]]), 100.0, who_am_i=who_am_i)
    daemon = start(mount(chip) | {"address": address})
    wait_until(lambda: daemon.said(says), timeout_s=30)
    time.sleep(SETTLE_S)
    assert daemon.process.poll() is None
    assert daemon.end() == 0
    (line,) = [line for line in daemon.log.read_text(encoding="utf-8").splitlines() if says in line]
    assert "WARNING" in line


def test_a_replayed_recording_ends_the_daemon_with_everything_delivered(
    start: Callable[..., Daemon], broker: Broker, tmp_path: Path
) -> None:
    broker.start()
    subscriber = Subscriber(broker.port)
    recording = simulate_walk(60.0, seed=14)
    save_npz(tmp_path / "walk.npz", recording)
    daemon = start({"type": "replay", "recording": str(tmp_path / "walk.npz"), "replay_speed": "max"})
    assert daemon.process.wait(30) == 0
    expected = len(replayed(recording))
    wait_until(lambda: len(set(subscriber.steps())) == expected > 0)
    stamps = [datetime.fromisoformat(message.json()["ts"]).timestamp() for message in subscriber.on("step")]
    assert max(stamps) <= time.time(), "a step in the future"
    subscriber.close()


@pytest.mark.slow
def test_memory_stays_flat_and_below_60_mb_over_ten_simulated_hours(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    np.save(tmp_path / "minute.npy", simulate_walk(60.0, seed=1).imu)
    command = [sys.executable, "-m", "tests.edge.soak", "--hours", "10", "--port", str(broker.port)]
    done = subprocess.run(
        [*command, "--directory", str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["steps"] > 10_000
    rss_mb = report["rss_mb"]
    assert max(rss_mb) < 60.0, rss_mb
    # A broker that is late makes a batch of what waits: libc keeps up to a megabyte of room for it. 40 bytes kept per
    # step would be 2 MB here, and so are the two leaps of Python's table of interned strings where names come and go.
    assert rss_mb[-1] - rss_mb[1] < 1.5, rss_mb
