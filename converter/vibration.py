"""Rhythm without steps: vehicles, machines, rails and shaken hands move up and down as often as feet do.

No recording of them may be learnt from, so they are made here, from their mechanics: a mass on a spring that a rough
road excites, the tone of an unbalanced drum or of a hand, and blows that ring down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter.dataset import SAMPLING_RATE_HZ

if TYPE_CHECKING:
    from edge.types import FloatArray, TimeArray

RHYTHM_HZ = (0.8, 4.0)
QUALITY = (0.7, 8.0)
RMS_G = (0.02, 0.3)
"""A good road in a soft car, to a hand that shakes a bottle; beyond that, a tone is no different from running."""
SWAY = (0.0, 0.7)
"""Rms of the motion across gravity, as a share of the one along it."""
RINGING_HZ = (2.0, 6.0)
PERIOD_JITTER = 0.15
PHASE_DRIFT = 0.08
"""Of a tone, radians per frame (SD): hands lose the beat by about one tenth a second."""
SUDDEN_SHARE = 0.4
"""So many begin or end within the window."""


def vibrations(count: int, frames: int, rng: np.random.Generator) -> FloatArray:
    """Return [count, frames, 2] in g: motion along gravity and across it, each window of another kind and strength."""
    kinds = (_road, _tone, _blows)
    along = np.stack([kinds[kind](frames, rng) for kind in rng.integers(len(kinds), size=count)])
    across = np.stack([_road(frames, rng) for _ in range(count)])
    weakest, strongest = RMS_G
    rms_g = np.exp(rng.uniform(np.log(weakest), np.log(strongest), count))
    made = np.stack([along, across * rng.uniform(*SWAY, count)[:, None]], axis=2) * rms_g[:, None, None]
    for window in np.flatnonzero(rng.random(count) < SUDDEN_SHARE):
        cut = rng.integers(frames)
        made[window, slice(0, cut) if rng.random() < 0.5 else slice(cut, frames)] = 0.0
    vibration: FloatArray = made.astype(np.float32)
    return vibration


def shaken(frames: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return windows [b, n, 3] in g with a vibration along their gravity; half of them lose all other motion."""
    count, length, _ = frames.shape
    resting = frames.mean(axis=1, keepdims=True)
    kept = rng.integers(2, size=(count, 1, 1))
    up = resting / np.maximum(np.linalg.norm(resting, axis=2, keepdims=True), 1e-6)
    aside = np.cross(up, rng.normal(0, 1, up.shape))
    aside /= np.maximum(np.linalg.norm(aside, axis=2, keepdims=True), 1e-6)
    made = vibrations(count, length, rng)
    moved = resting + kept * (frames - resting) + up * made[..., :1] + aside * made[..., 1:]
    windows: FloatArray = moved.astype(np.float32)
    return windows


def _unit(motion: TimeArray) -> TimeArray:
    motion = motion - motion.mean()
    return motion / max(float(motion.std()), 1e-9)


def _resonant(excitation: TimeArray, resonance_hz: float, quality: float) -> TimeArray:
    """Return what a mass on a damped spring makes of an excitation."""
    ratio = np.fft.rfftfreq(len(excitation), 1 / SAMPLING_RATE_HZ) / resonance_hz
    spectrum = np.fft.rfft(excitation) / (1 - ratio**2 + 1j * ratio / quality)
    return _unit(np.fft.irfft(spectrum, len(excitation)))


def _road(frames: int, rng: np.random.Generator) -> TimeArray:
    return _resonant(rng.normal(0, 1, frames), _log_uniform(RHYTHM_HZ, rng), _log_uniform(QUALITY, rng))


def _tone(frames: int, rng: np.random.Generator) -> TimeArray:
    drift = rng.choice((0.0, PHASE_DRIFT)) * rng.normal(0, 1, frames)
    phase = 2 * np.pi * (rng.random() + _log_uniform(RHYTHM_HZ, rng) * np.arange(frames) / SAMPLING_RATE_HZ)
    phase += np.cumsum(drift)
    overtone = rng.uniform(0, 0.5) * np.sin(2 * phase + rng.uniform(0, 2 * np.pi))
    return _unit(np.sin(phase) + overtone)


def _blows(frames: int, rng: np.random.Generator) -> TimeArray:
    period = SAMPLING_RATE_HZ / _log_uniform(RHYTHM_HZ, rng)
    periods = period * (1 + rng.normal(0, rng.uniform(0, PERIOD_JITTER), 1 + int(2 * frames / period)))
    at = np.cumsum(np.maximum(periods, 1.0)).astype(np.intp)
    at = at[at < frames]
    struck = np.zeros(frames)
    struck[at] = np.exp(rng.normal(0, 0.2, len(at)))
    return _resonant(struck, _log_uniform(RINGING_HZ, rng), _log_uniform((1.0, 5.0), rng))


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = np.log(limits)
    return float(np.exp(rng.uniform(low, high)))
