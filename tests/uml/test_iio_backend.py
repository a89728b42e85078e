"""`sensor.backend: iio` over the kernel's own driver and a data-ready line, in a User-Mode-Linux (make test-uml)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.classifier import StepClassifier
from edge.imu.replay import ReplayImu
from edge.pipeline import Pipeline, detect
from edge.recording import Recording, load, save_npz
from emulator.gait import simulate_walk
from tests.conftest import ROOT
from tests.uml import host, jobs
from tests.uml.conftest import BOOT_TIMEOUT_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.uml.conftest import Boot

pytestmark = pytest.mark.vm
ACC_LSB = 0.002392
"""m/s² at ±8 g, as the kernel's inv_mpu6050 rounds it."""


def steps_of(recording: Recording) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the times of the steps that the pipeline finds in a recording as the chip quantises it."""
    imu = recording.imu.copy()
    imu[:, :3] = np.clip(np.round(imu[:, :3] / ACC_LSB), -32768, 32767) * ACC_LSB
    classifier = StepClassifier(ROOT / "models" / "step.tflite", int8_only=True)
    source = ReplayImu(replace(recording, imu=imu))
    pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz)
    return np.array([step.time_s for _, steps in detect(source, pipeline) for step in steps])


@pytest.fixture(params=["simulated", pytest.param("recorded", marks=pytest.mark.data)])
def walk(request: pytest.FixtureRequest) -> Recording:
    if request.param == "simulated":
        return simulate_walk(40.0, seed=3)
    recordings: Path = request.getfixturevalue("recordings_dir")
    path = min((recordings / "ipol_gait").glob("*.npz"))
    return load(path).first(40.0)


def test_the_daemon_counts_a_walk_through_the_kernel(walk: Recording, boot: Boot, tmp_path: Path) -> None:
    del boot  # skips where there is no kernel
    save_npz(tmp_path / "walk.npz", walk)
    answer = host.run(jobs.daemon, tmp_path, timeout_s=BOOT_TIMEOUT_S, recording="walk.npz", name="mpu6050").result
    expected = steps_of(walk)
    assert answer["exit_status"] == 0
    assert len(expected) > 10
    assert abs(answer["total"] - len(expected)) <= 1
    assert answer["edges"] >= 100 * walk.duration_s - 5
    # Near the end they may differ: the chip holds its last sample, the replay rests.
    in_time = expected[expected < walk.duration_s - 2.0]
    errors_s = np.abs(np.sort(answer["steps_s"])[: len(in_time)] - in_time)
    # Through the chip the resampler meets other instants: a hesitant step may move by a few frames.
    assert (errors_s > 0.05).sum() <= 1
    assert errors_s.max() < 0.15


@pytest.mark.parametrize(("rate_error", "low_hz", "high_hz"), [(0.015, 101.2, 101.8), (-0.015, 98.2, 98.8)])
def test_a_clock_that_is_off_is_followed(rate_error: float, low_hz: float, high_hz: float, boot: Boot) -> None:
    answer = boot(jobs.buffered, name="mpu6050", seconds=10.0, rate_error=rate_error)
    times = np.array(answer["time_s"])
    assert answer["segments"] == [0]
    assert low_hz < (len(times) - 1) / (times[-1] - times[0]) < high_hz


def test_the_kernel_does_not_follow_a_clock_that_is_off_by_more(boot: Boot) -> None:
    """Linux 6.1 trusts an InvenSense clock to 2 %; its stamps then drift away (docs/decisions/0006)."""
    answer = boot(jobs.buffered, name="mpu6050", seconds=10.0, rate_error=0.03)
    times = np.array(answer["time_s"])
    assert (len(times) - 1) / (times[-1] - times[0]) < 102.2


@pytest.mark.parametrize("name", ["mpu6050", "lsm6dsox"])
def test_without_an_int_line_it_says_so(name: str, boot: Boot) -> None:
    said = boot(jobs.without_int_line, name=name)
    assert "INT pin is not wired" in said
    assert "sensor.backend: i2c" in said


def test_two_readers_of_one_chip_are_told_apart(boot: Boot) -> None:
    said = boot(jobs.both_at_once)
    assert "a kernel driver holds 0x68" in said["i2c"]
    assert "another program reads this buffer" in said["iio"]


@pytest.mark.parametrize("backend", ["i2c", "iio"])
def test_what_a_wedged_bus_costs_is_reported(backend: str, boot: Boot) -> None:
    answer = boot(jobs.figures, backend=backend, seconds=20.0, stall_s=3.0)
    assert answer["lost"] > 150, "the chip's FIFO holds 1.3 s"
    assert abs(answer["counters"]["gap_samples"] - answer["lost"]) <= 3
