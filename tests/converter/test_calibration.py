"""Calibration windows are drawn from every placement and activity, and what is wrong with them is told in figures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.calibration import common_rate_hz, draw, normalised
from converter.input_range import clipped, found_range, summarise
from converter.spec import NO_RANGE, Spec
from edge.errors import RecordingError
from edge.recording import save_npz
from edge.types import IMU_CHANNELS
from emulator.gait import simulate_walk

if TYPE_CHECKING:
    from pathlib import Path

WINDOW = 64
SIX = Spec(
    name="mine",
    version="1",
    sampling_rate_hz=50.0,
    hop_samples=16,
    lookahead_samples=0,
    channels=IMU_CHANNELS,
    offset=(0.0,) * 6,
    scale=(9.80665,) * 3 + (1.0,) * 3,
    input_range=NO_RANGE,
    output="window_probability",
    threshold=0.5,
    refractory_s=0.2,
)
THREE = replace(SIX, channels=IMU_CHANNELS[:3], offset=(0.0,) * 3, scale=(9.80665,) * 3)


def write(folder: Path, seed: int, *, placement: str = "hand", seconds: float = 90.0, **changes: Any) -> Path:
    path = folder / f"{placement}-{seed}.npz"
    save_npz(path, replace(simulate_walk(seconds, seed, placement=placement, sampling_rate_hz=50.0), **changes))
    return path


def warnings_of(root: Path, spec: Spec) -> tuple[str, ...]:
    drawn = draw(root, spec, WINDOW)
    windows = normalised(drawn, spec)
    ranged = replace(spec, input_range=found_range(windows)) if spec.input_range == NO_RANGE else spec
    return summarise(drawn, windows, ranged, window_samples=WINDOW).warnings


@pytest.fixture
def walks(tmp_path: Path) -> Path:
    for placement in ("waist", "hand", "wrist"):
        write(tmp_path, 1, placement=placement)
    return tmp_path


def test_the_same_windows_at_every_drawing(walks: Path) -> None:
    first, second = (draw(walks, SIX, WINDOW, count=30) for _ in range(2))
    assert np.array_equal(first.raw, second.raw)
    assert first.sha256 == second.sha256
    assert first.raw.shape == (30, WINDOW, 6)


def test_every_placement_gets_its_share_and_every_activity_some(walks: Path) -> None:
    drawn = draw(walks, SIX, WINDOW, count=90)
    assert drawn.strata == {"simulated, hand": 30, "simulated, waist": 30, "simulated, wrist": 30}
    # Standing and turning take far less of the time than a third each.
    assert set(drawn.activities) == {"standing", "turning", "walking"}
    assert min(drawn.activities.values()) > 15


def test_one_file_is_a_calibration_set_too(tmp_path: Path) -> None:
    assert draw(write(tmp_path, 3), SIX, WINDOW, count=5).recordings == 1


def test_a_good_set_is_not_warned_about(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, seed)
    assert warnings_of(tmp_path, SIX) == ()


def test_a_small_set_is(tmp_path: Path) -> None:
    (warning,) = warnings_of(write(tmp_path, 1, seconds=25.0), SIX)
    assert "25 s in 1 recordings, 19 separate windows" in warning
    assert "footfall record" in warning


def test_a_set_without_movement_is(tmp_path: Path) -> None:
    walk = simulate_walk(300, 1, sampling_rate_hz=50.0)
    rng = np.random.default_rng(0)
    still = rng.normal((0, 0, 9.81, 0, 0, 0), 0.02, walk.imu.shape).astype(np.float32)
    write(tmp_path, 1, seconds=300.0, imu=still)
    warnings = warnings_of(tmp_path, THREE)
    assert any("hardly moves in 100% of the calibration windows" in warning for warning in warnings)


def test_outliers_do_not_set_the_range_and_are_told(tmp_path: Path) -> None:
    imu = simulate_walk(300, 1, sampling_rate_hz=50.0).imu.copy()
    calm = found_range(normalised(draw(write(tmp_path, 1, seconds=300.0), THREE, WINDOW), THREE))
    imu[::6000, :3] = 400.0
    knocked = write(tmp_path, 1, seconds=300.0, imu=imu)
    windows = normalised(draw(knocked, THREE, WINDOW), THREE)
    assert found_range(windows)[1] <= 1.5 * calm[1]
    assert any("outliers up to" in warning and "saturate" in warning for warning in warnings_of(knocked, THREE))


def test_a_range_that_wastes_int8_levels_is_told_with_a_better_one(tmp_path: Path) -> None:
    path = write(tmp_path, 1, seconds=300.0)
    warnings = warnings_of(path, replace(THREE, input_range=(-40.0, 40.0)))
    assert any("times the 99.9 % quantile" in warning and "would be finer" in warning for warning in warnings)


def test_recordings_without_a_gyroscope_are_left_out_and_counted(tmp_path: Path) -> None:
    bare = simulate_walk(300, 2, sampling_rate_hz=50.0).imu.copy()
    bare[:, 3:] = np.nan
    write(tmp_path, 1, seconds=300.0)
    write(tmp_path, 2, seconds=300.0, imu=bare)
    assert any("1 of 2 recordings drawn have no gyr_x" in warning for warning in warnings_of(tmp_path, SIX))
    with pytest.raises(RecordingError, match=r"no recording has all of acc_x, .*gyr_z"):
        draw(tmp_path / "hand-2.npz", SIX, WINDOW)
    assert draw(tmp_path / "hand-2.npz", THREE, WINDOW, count=3).lacking == 0


def test_recordings_shorter_than_a_window_are_refused_with_the_length_needed(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"as long as 2000 frames \(40\.6 s\)"):
        draw(write(tmp_path, 1, seconds=20.0), SIX, 2000)


def test_the_recordings_rate_is_known_only_if_they_agree(walks: Path) -> None:
    assert common_rate_hz(walks) == 50.0
    save_npz(walks / "slow.npz", simulate_walk(30, 1, sampling_rate_hz=25.0))
    assert common_rate_hz(walks) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fs": 0.0}, "'fs' is 0.0"),
        ({"fs": float("nan")}, "'fs' is nan"),
        ({"fs": np.array([50.0, 50.0])}, r"'fs' is an array \[2\]"),
        ({"fs": "fast"}, "'fs' is fast"),
        ({"dataset": np.array([None], dtype=object)}, "holds Python objects"),
    ],
)
def test_a_bad_recording_is_named_and_not_the_model(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, 1)
    with np.load(path) as archive:
        np.savez(path, **{key: archive[key] for key in archive.files} | changes)
    for use in (common_rate_hz, lambda root: draw(root, SIX, WINDOW, count=2)):
        with pytest.raises(RecordingError, match=message) as raised:
            use(tmp_path)
        assert str(raised.value).startswith(f"{path}: ")


def test_a_file_that_is_no_recording_at_all_is_named_too(tmp_path: Path) -> None:
    np.save(tmp_path / "lone.npy", np.zeros(3))
    (tmp_path / "lone.npy").rename(tmp_path / "lone.npz")
    with pytest.raises(RecordingError, match=r"lone\.npz: no \.npz archive"):
        common_rate_hz(tmp_path)


@pytest.mark.parametrize("rate_hz", [1.0, 2.0, 5.0, 25.0, 100.0])
def test_a_window_is_whole_at_any_rate_of_the_model(walks: Path, rate_hz: float) -> None:
    drawn = draw(walks, replace(THREE, sampling_rate_hz=rate_hz), 20, count=6)
    assert drawn.raw.shape == (6, 20, 3)
    assert np.isfinite(drawn.raw).all()


def test_windows_are_clipped_as_the_int8_input_saturates() -> None:
    spec = replace(THREE, input_range=(-1.0, 2.0))
    windows = np.array([[[-5.0, 0.5, 5.0]]], np.float32)
    assert clipped(windows, spec).tolist() == [[[-1.0, 0.5, 2.0]]]
