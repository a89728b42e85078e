"""Which recordings may train, and what becomes of their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.dataset import NOBODY, SOMEBODY, Track, gentler, load_tracks, resample, role

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("dataset", "subject", "expected"),
    [
        ("awinda_hand", "person_2", "train"),
        ("awinda_hand", "person_7", "test"),
        ("awinda_hand", "person_8", "test"),
        ("wisdm_watch", "1634", "train"),
        ("wisdm_watch", "1636", "test"),
        ("wisdm_phone", "1640", "test"),
        ("oxford_opt", "Jamie", "train"),
        ("oxford_val", "user1", "test"),
        ("ipol_gait", "s01", "unclear licence"),
        ("sisfall_waist", "SA01", "unclear licence"),
        ("mine", "me", "train"),
    ],
)
def test_role(dataset: str, subject: str, expected: str) -> None:
    assert role(dataset, subject) == expected


def test_frames_are_the_device_s_own() -> None:
    time_s = np.arange(800) / 80
    imu = np.zeros((800, 6), np.float32)
    imu[:, 0], imu[:, 2] = np.sin(2 * np.pi * 2 * time_s), 9.80665
    frames = resample(imu, 80.0)
    expected = np.sin(2 * np.pi * 2 * np.arange(len(frames)) / 25)
    assert len(frames) == pytest.approx(250, abs=4)
    np.testing.assert_allclose(frames[5:-5, 0], expected[5:-5], atol=0.05)
    np.testing.assert_allclose(frames[:, 2], 9.80665, rtol=1e-5)


@pytest.fixture(scope="module")
def tracks(recordings_dir: Path) -> list[Track]:
    return load_tracks(recordings_dir)


@pytest.mark.data
def test_nobody_of_the_public_test_is_loaded(tracks: list[Track]) -> None:
    assert len(tracks) > 900
    assert {role(track.dataset, track.subject) for track in tracks} == {"train"}


@pytest.mark.data
def test_walkers_come_as_recorded_and_as_from_a_slow_sensor(tracks: list[Track]) -> None:
    native, slow = [track for track in tracks if track.dataset == "awinda_hand"][:2]
    assert len(native.steps_s) == len(slow.steps_s) > 0
    lag_s = native.steps_s[0] - slow.steps_s[0]
    assert 0 < lag_s < 0.025
    strength, other = (np.linalg.norm(track.frames, axis=1)[:5000] for track in (native, slow))
    assert np.corrcoef(strength, other)[0, 1] > 0.95


@pytest.mark.data
def test_labels_hold_only_where_they_are_complete(tracks: list[Track]) -> None:
    for track in tracks:
        share = track.known.mean()
        assert share == 1 or track.dataset.startswith("spsw"), track.dataset
        assert len(track.steps_s) == 0 or track.dataset in ("awinda_hand", "oxford_opt")
    seated = [track.known.mean() for track in tracks if track.dataset.startswith("spsw")]
    assert 0.1 < np.mean(seated) < 0.9


def test_a_gentler_walk_takes_its_labels_along() -> None:
    frames = np.tile(np.array([0.0, 0.0, 1.0], np.float32), (100, 1))
    frames[50, 2] = 3.0
    walking = np.where(np.arange(100) < 60, SOMEBODY, NOBODY).astype(np.int8)
    track = Track("set", "one", "hand", frames, np.array([2.0]), np.arange(100) < 80, walking)
    slow = gentler(track, "slow", pace=0.5, gain=0.25)
    assert (slow.dataset, slow.subject, slow.seconds) == ("slow", "one", 8.0)
    assert slow.steps_s.tolist() == [4.0]
    assert np.argmax(slow.frames[:, 2]) == 100
    assert np.ptp(slow.frames[:, 2]) == pytest.approx(0.5)
    assert slow.frames.mean(axis=0) == pytest.approx(frames.mean(axis=0), abs=0.01)
    assert abs(np.count_nonzero(slow.walking == SOMEBODY) - 120) <= 1
    assert abs(np.count_nonzero(slow.known) - 160) <= 1
