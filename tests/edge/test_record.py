"""`footfall record`: the real command on the real bus file, and what it writes played back."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.classifier import StepClassifier
from edge.errors import UsageError
from edge.imu.replay import ReplayImu
from edge.pipeline import Pipeline, detect
from edge.recording import load
from edge.recording_writer import RecordingWriter
from emulator.bus import EmulatedBus
from emulator.fuse import FuseI2c
from emulator.gait import simulate_walk
from emulator.mpu6050 import Mpu6050
from emulator.namespace import unavailable
from tests.broker import wait_until
from tests.edge.doctor.clinic import ROOT, footfall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge.recording import Recording

MODEL = ROOT / "models" / "step.tflite"
TIMES_S = np.arange(100) / 100.0
STILL = np.tile(np.array([0.0, 0.0, 9.8, 0.0, 0.0, 0.0], np.float32), (100, 1))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., dict[str, str]]]:
    """Give a function that puts a chip on a bus and returns the environment that names it."""
    if reason := unavailable():
        pytest.skip(reason)
    mounted: list[FuseI2c] = []

    def put(chip: Mpu6050) -> dict[str, str]:
        mounted.append(FuseI2c(tmp_path / f"i2c-{len(mounted)}", EmulatedBus({0x68: chip})))
        mounted[-1].mount()
        return {"FOOTFALL__SENSOR__BUS": str(mounted[-1].path)}

    yield put
    for one in mounted:
        one.close()


def steps(recording: Recording) -> list[float]:
    pipeline = Pipeline(StepClassifier(MODEL), source_rate_hz=recording.sampling_rate_hz)
    return [event.time_s for _, events in detect(ReplayImu(recording), pipeline) for event in events]


@pytest.mark.bus
@pytest.mark.parametrize("suffix", [".npz", ".csv.gz"])
def test_a_recorded_walk_has_the_steps_of_the_walk(
    mount: Callable[..., dict[str, str]], tmp_path: Path, suffix: str
) -> None:
    walk = simulate_walk(15.0, seed=5)
    environ = mount(Mpu6050(walk.imu, walk.sampling_rate_hz))
    out = tmp_path / f"walk{suffix}"
    done = footfall("record", out, "--seconds", "10", "--label", "walk", "--label", "placement=hip", **environ)
    assert done.returncode == 0, done.stderr
    made = load(out)
    assert made.placement == "hip"
    assert made.metadata["label"] == "walk"
    assert made.metadata["sensor"] == "MPU-6050"
    assert made.duration_s == pytest.approx(10.0, abs=0.1)
    assert made.sampling_rate_hz == pytest.approx(100.0, rel=0.03)
    if "gap" not in done.stdout:  # a machine that is too busy loses samples, and then says so
        expected = steps(walk.first(10.0))
        assert len(expected) > 8
        np.testing.assert_allclose(steps(made), expected, atol=0.1)
    assert not list(tmp_path.glob("*part*"))


@pytest.mark.bus
def test_ctrl_c_keeps_what_was_recorded(mount: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    environ = mount(Mpu6050(STILL, 100.0))
    out = tmp_path / "still.csv.gz"
    command = [sys.executable, "-m", "edge", "record", str(out), "--seconds", "600"]
    process = subprocess.Popen(command, env=os.environ | environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    part = tmp_path / "still.part.csv.gz"
    wait_until(lambda: part.exists() and part.stat().st_size > 1000, timeout_s=60.0, what="a second is recorded")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped before 600 s were full" in output
    assert len(load(out).time_s) >= 100
    assert not part.exists()


@pytest.mark.bus
def test_a_gap_is_told_and_an_npz_becomes_a_csv(tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    chip = Mpu6050(STILL, 100.0)
    bus = EmulatedBus({0x68: chip})
    with FuseI2c(tmp_path / "i2c-1", bus) as mounted:
        command = [sys.executable, "-m", "edge", "record", str(tmp_path / "still.npz"), "--seconds", "8"]
        environ = os.environ | {"FOOTFALL__SENSOR__BUS": str(mounted.path)}
        process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: chip.samples_queued > 200, timeout_s=60.0, what="two seconds are recorded")
        bus.inject_now("nack", for_s=1.5)
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert "gap from" in output
    assert "samples lost" in output
    assert "an .npz keeps no gaps" in output
    made = load(tmp_path / "still.csv.gz")
    assert np.diff(made.time_s).max() > 0.5
    assert not (tmp_path / "still.npz").exists()
    source = ReplayImu(made)
    assert sum(len(batch.time_s) for batch in source.batches()) == len(made.time_s)
    assert source.counters()["gaps"] >= 1


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "precious.csv"
    out.write_text("mine", encoding="ascii")
    done = footfall("record", out, "--seconds", "1")
    assert done.returncode == 2
    assert "exists; give another name, or --force" in done.stderr
    assert out.read_text(encoding="ascii") == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [("walk.txt", ".npz, .csv, .csv.gz"), ("walk.steps.csv", ".npz"), ("no/where.csv", "does not exist"), ("", "ends")],
)
def test_a_name_that_cannot_be_written_is_refused_before_the_sensor_is_touched(
    tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        RecordingWriter(tmp_path / name, {})


def test_no_sensor_is_one_line(tmp_path: Path) -> None:
    done = footfall("record", tmp_path / "x.csv", "--seconds", "1", FOOTFALL__SENSOR__BUS=str(tmp_path / "none"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "x.csv").exists()


def append_all(writer: RecordingWriter, samples: list[np.ndarray]) -> None:
    for block, one in enumerate(samples):
        writer.append(TIMES_S + block, one)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 32 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["full.csv", "full.csv.gz", "full.npz"])
def test_a_full_disk_keeps_every_block_before_it(small_disk: Path, name: str) -> None:
    out = small_disk / name
    writer = RecordingWriter(out, {"sensor": "test"})
    noise = np.random.default_rng(1)
    samples = [STILL + noise.normal(0, 0.1, STILL.shape).astype(np.float32) for _ in range(100)]
    with pytest.raises(OSError, match="No space left"):
        append_all(writer, samples)
    assert writer.samples >= 300
    path = writer.finish({}, sampling_rate_hz=100.0, has_gaps=False)
    assert len(load(path).time_s) == writer.samples
    assert writer.last_s == pytest.approx(load(path).time_s[-1], abs=0.01), "what is on the disk, not what was measured"
    assert ("No space left" in writer.npz_problem) == (path != out)


def test_a_kill_leaves_a_file_that_can_be_played_and_that_nobody_overwrites(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "walk.npz", {})
    for block in range(3):
        writer.append(TIMES_S + block, STILL)
    (part,) = tmp_path.iterdir()  # as after kill -9: no finish()
    writer._file.close()
    assert len(load(part).time_s) == 300
    with pytest.raises(UsageError, match="an unfinished recording of that name is here"):
        RecordingWriter(tmp_path / "walk.npz", {})
    with gzip.open(part) as file:
        assert file.readline().startswith(b"time_s")


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "walk.csv"
    writer = RecordingWriter(out, {})
    writer.append(TIMES_S, STILL)
    out.write_text("mine", encoding="ascii")
    with pytest.raises(UsageError, match="has appeared meanwhile"):
        writer.finish({}, sampling_rate_hz=100.0, has_gaps=False)
    assert out.read_text(encoding="ascii") == "mine"
    assert len(load(tmp_path / "walk.part.csv").time_s) == 100


def test_a_label_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    done = footfall("record", tmp_path / "x.csv", "--seconds", "1", "--label", "weight=80")
    assert done.returncode == 2
    assert "placement" in done.stderr
