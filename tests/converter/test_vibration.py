"""Vibrations: as strong and as fast as they say, along gravity, and never the labels of a walk."""

from __future__ import annotations

import numpy as np
import pytest

from converter.dataset import SAMPLING_RATE_HZ
from converter.vibration import RHYTHM_HZ, RINGING_HZ, RMS_G, SWAY, shaken, vibrations

FRAMES = 320


def test_strength_and_rhythm_are_in_range() -> None:
    made = vibrations(200, FRAMES, np.random.default_rng(1))
    assert made.shape == (200, FRAMES, 2)
    along = made[..., 0]
    whole = np.abs(along[:, [0, -1]]).min(axis=1) > 0  # neither begins nor ends within the window
    rms_g = along[whole].std(axis=1)
    assert np.all((rms_g > 0.9 * RMS_G[0]) & (rms_g < 1.1 * RMS_G[1]))
    assert np.all(made[..., 1].std(axis=1) <= 1.01 * SWAY[1] * RMS_G[1])
    spectrum = np.abs(np.fft.rfft(along[whole] - along[whole].mean(axis=1, keepdims=True), axis=1)) ** 2
    frequency_hz = np.fft.rfftfreq(FRAMES, 1 / SAMPLING_RATE_HZ)
    centre_hz = (spectrum * frequency_hz).sum(axis=1) / spectrum.sum(axis=1)
    assert np.median(centre_hz) == pytest.approx(2.5, abs=1.0)
    assert np.all(centre_hz < 1.5 * RINGING_HZ[1])
    assert np.all(centre_hz > 0.5 * RHYTHM_HZ[0])


def test_it_goes_along_gravity_and_some_other_motion_stays() -> None:
    random = np.random.default_rng(2)
    down = np.array([0.6, 0.0, 0.8])
    frames = (down + random.normal(0, 0.01, (100, FRAMES, 3))).astype(np.float32)
    moved = shaken(frames, random)
    assert moved.dtype == np.float32
    assert np.allclose(moved.mean(axis=(0, 1)), down, atol=0.02)
    deviation = moved - moved.mean(axis=1, keepdims=True)
    along = (deviation @ down).std(axis=1)
    across = np.sqrt(np.maximum((deviation**2).sum(axis=2).mean(axis=1) - along**2, 0))
    assert np.median(along) > np.median(across)
    still = np.array([np.abs(window - window[:1]).max() < 1e-6 for window in moved[:, :5]])
    assert not still.all()


def test_the_same_seed_shakes_the_same_way() -> None:
    one, other = (vibrations(5, FRAMES, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, other)
