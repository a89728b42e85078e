"""The verdicts on a sensor: real driver, emulated chip on the bus file, and the arithmetic behind each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.doctor.measure import Watched, judge, true_rate_hz, which_way_is_up
from emulator.bus import EmulatedBus
from emulator.fuse import FuseI2c
from emulator.mpu6050 import Mpu6050
from emulator.namespace import unavailable
from tests.edge.doctor.clinic import visit

if TYPE_CHECKING:
    from pathlib import Path

    from edge.doctor.finding import Finding

DEGREE = np.pi / 180
NOISE = np.random.default_rng(1).normal(size=(1000, 6)) * ([0.03] * 3 + [0.002] * 3)


def verdicts(imu: np.ndarray, rate_hz: float | None = 100.0, name: str = "MPU-6050", **counters: int) -> list[Finding]:
    return list(judge(Watched(imu.astype(np.float32), 10.0, rate_hz, 100.0, counters), name))


def at_rest(up: tuple[float, float, float] = (0.0, 0.0, 1.0), gravity: float = 9.80665) -> np.ndarray:
    imu = NOISE.copy()
    imu[:, :3] += gravity * np.array(up)
    return imu


def bad(findings: list[Finding]) -> list[str]:
    assert all(one.advice for one in findings if one.level != "ok")
    return [one.text for one in findings if one.level != "ok"]


def test_a_good_sensor_at_rest() -> None:
    found = verdicts(at_rest())
    assert bad(found) == []
    texts = " | ".join(one.text for one in found)
    assert "true rate 100.00 Hz, +0.0 %" in texts
    assert "accelerometer 3.1 mg" in texts or "accelerometer 3.2 mg" in texts
    assert "+Z points up" in texts


@pytest.mark.parametrize(
    ("up", "words"),
    [
        ((0, 0, 1), "+Z points up"), ((0, 0, -1), "-Z points up"), ((1, 0, 0), "+X points up"),
        ((0, -1, 0), "-Y points up"), ((0, 0.17365, 0.98481), "+Z points up (within 10°)"),
        ((0.70711, 0, 0.70711), "45° off"),
    ],
)  # fmt: skip
def test_which_way_is_up(up: tuple[float, float, float], words: str) -> None:
    assert words in which_way_is_up(np.array(up, dtype=float))


@pytest.mark.parametrize(("gravity", "level"), [(9.9, "ok"), (10.6, "warn"), (4.9, "fail"), (19.6, "fail")])
def test_gravity(gravity: float, level: str) -> None:
    (one,) = [one for one in verdicts(at_rest(gravity=gravity)) if one.text.startswith("gravity reads")]
    assert one.level == level


def test_half_of_gravity_is_another_part_where_the_identity_does_not_tell() -> None:
    findings = {name: verdicts(at_rest(gravity=4.9), name=name) for name in ("LSM6DSOX", "MPU-6050")}
    advice = {name: [one.advice for one in found if one.level == "fail"] for name, found in findings.items()}
    assert advice["LSM6DSOX"] == ["an LSM6DSO32? then set sensor.type: lsm6dso32"]
    assert "LSM6DSO32" not in str(advice["MPU-6050"])


def test_no_gravity_at_all() -> None:
    assert any("no direction is up" in text for text in bad(verdicts(at_rest(gravity=0.2))))


def test_a_frozen_chip() -> None:
    assert any("the same value all the time" in text for text in bad(verdicts(np.tile([0, 0, 9.8, 0, 0, 0], (500, 1)))))


def test_a_moving_sensor_is_not_judged_for_noise() -> None:
    imu = at_rest()
    imu[:, 0] += 2.0 * np.sin(np.arange(1000) / 10)
    (text,) = bad(verdicts(imu))
    assert text.startswith("the sensor moved")


def test_a_noisy_and_biased_chip() -> None:
    imu = at_rest()
    imu[:, :3] += 8 * NOISE[:, :3][::-1]
    imu[:, 3] += 25 * DEGREE
    texts = bad(verdicts(imu))
    assert any("more than usual" in text for text in texts)
    assert any(text.startswith("gyroscope bias +25.0") for text in texts)


def test_saturation() -> None:
    imu = np.clip(at_rest() + np.array([0, 0, 75, 0, 0, 0]), -78.45, 78.45)
    assert any("accelerometer is at the end of its range (78.4) in 1000" in text for text in bad(verdicts(imu)))


def test_lost_samples_and_repaired_errors() -> None:
    assert any("samples were lost (fifo_reset 1, gap_samples 7)" in text
               for text in bad(verdicts(at_rest(), fifo_reset=1, gap_samples=7)))  # fmt: skip
    assert any("could be repaired (bad_transfer 2)" in text for text in bad(verdicts(at_rest(), bad_transfer=2)))


def test_a_rate_that_is_off() -> None:
    assert any("+9.5 %" in text for text in bad(verdicts(at_rest(), rate_hz=109.46)))


def test_the_true_rate_from_late_reads() -> None:
    jitter = np.random.default_rng(2).uniform(0, 0.01, 100)
    reads = [(5.0 + 0.1 * index + jitter[index], round(0.1 * index * 103.0)) for index in range(100)]
    assert true_rate_hz(reads) == pytest.approx(103.0, abs=0.3)
    assert true_rate_hz(reads[:5]) is None


@pytest.mark.bus
def test_a_real_measurement_finds_what_the_chip_was_given(tmp_path: Path) -> None:
    """3 % fast, mounted upside down, 2 °/s of bias."""
    if reason := unavailable():
        pytest.skip(reason)
    imu = np.tile(at_rest((0.0, 0.0, -1.0)), (50, 1))
    imu[:, 3] += 2.0 * DEGREE
    chip = Mpu6050(imu, 100.0, rate_error=0.03)
    with FuseI2c(tmp_path / "i2c-1", EmulatedBus({0x68: chip})) as bus:
        found = visit(tmp_path, seconds=8.0, sensor={"bus": str(bus.path)}, mqtt={"host": "127.0.0.1", "port": 1})
    texts = found.texts("sensor")
    assert "-Z points up" in texts
    assert "gyroscope bias +2.0" in texts
    if "lost" not in found.texts("sensor", "fail"):  # a machine that is too busy to read in time says so
        assert found.texts("sensor").count("true rate 10") == 1
        rate_hz = float(texts.partition("true rate ")[2].partition(" Hz")[0])
        assert rate_hz == pytest.approx(103.0, abs=1.0)
