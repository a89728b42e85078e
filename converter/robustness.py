"""`python -m converter.robustness MODEL…`: walks slower, faster and weaker than recorded, and rhythm without steps.

The walks are of training people: whoever changes a recipe may look at these figures, unlike at the public test.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.dataset import STANDARD_GRAVITY
from converter.train import default_recordings
from edge.classifier import StepClassifier
from edge.pipeline import Pipeline
from edge.recording import load
from edge.types import SampleBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.recording import Recording
    from edge.types import TimeArray

PACES = ((1.0, 0.0), (0.7, 0.0), (0.7, 2.0), (0.6, 0.0), (0.6, 2.0), (0.5, 0.0), (0.5, 2.0), (1.4, 1.0))
"""Pace, and the power of it that the motion is multiplied with."""
STRENGTHS = (0.5, 0.3)
VEHICLES = ((1.2, 2.0, 0.5), (1.5, 1.0, 0.8), (1.5, 3.0, 0.5), (1.8, 2.0, 0.8), (2.5, 2.0, 0.8), (1.5, 1.0, 1.5))
"""Of the body on its springs: resonance in Hz, quality, rms in m/s²."""
TONES = ((1.2, 1.0), (2.0, 1.0), (2.0, 3.0))
"""Hz, amplitude in m/s², vertical."""
BANDS = ((1.0, 2.5, 0.6), (1.0, 2.5, 1.2), (1.4, 1.8, 0.6), (1.4, 1.8, 1.2), (1.8, 2.2, 0.6), (1.8, 2.2, 1.2))
"""Of noise with sharp edges, harder than any car's body: Hz, Hz, rms in m/s², half as much aside."""
HANDS = ((1.5, 2.0), (2.0, 2.0), (2.0, 5.0), (3.0, 5.0))
"""A hand that shakes something to and fro, with an overtone and unevenly: Hz, amplitude in m/s²."""
RATE_HZ, SECONDS = 100.0, 120.0


@dataclass(frozen=True, slots=True)
class Counted:
    """How many steps were counted for how many, over all walks, and the worst walks either way as shares."""

    true: int
    counted: int
    fewest: float
    most: float


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of each model; returns 0."""
    shipped = Path(__file__).parents[1] / "models" / "step.tflite"
    names = sys.argv[1:] if arguments is None else arguments
    walks = [load(path) for path in _walks(default_recordings())]
    for model in [Path(name) for name in names] or [shipped]:
        classifier = StepClassifier(model)
        print(f"{model}\n{'':24}  count %  worst walks %")
        for pace, power in PACES:
            _print(f"pace {pace}, motion x pace^{power:.0f}", counted(walks, classifier, pace, pace**power))
        for strength in STRENGTHS:
            _print(f"motion x {strength}", counted(walks, classifier, 1.0, strength))
        for name, imu in chain(rhythms(), imitations()):
            per_hour = _steps(classifier, imu, RATE_HZ) * 3600 / SECONDS
            print(f"{name:24}  {per_hour:.0f} false steps/h", flush=True)
    return 0


def counted(walks: list[Recording], classifier: StepClassifier, pace: float, gain: float) -> Counted:
    """Count walks that go at another pace, with their motion beside gravity made stronger or weaker."""
    true, found = [], []
    for walk in walks:
        imu = walk.imu.copy()
        resting = np.nanmean(imu[:, :3], axis=0)
        imu[:, :3] = resting + gain * (imu[:, :3] - resting)
        true.append(len(np.asarray(walk.steps)))
        found.append(_steps(classifier, imu, walk.sampling_rate_hz * pace))
    shares = np.array(found) / np.array(true)
    return Counted(sum(true), sum(found), float(shares.min()), float(shares.max()))


def rhythms() -> Iterator[tuple[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]]]:
    """Yield name and [n, 6] of vehicles, with wheels and engine, and of pure tones; the gyroscope is missing."""
    random = np.random.default_rng(5)
    time_s = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    for resonance_hz, quality, rms_mps2 in VEHICLES:
        body = _resonant(random, resonance_hz, quality, rms_mps2) + _resonant(random, 11.0, 5.0, 0.5)
        sway = _resonant(random, 0.3, 1.0, 0.7), _resonant(random, 0.5, 1.0, 0.5)
        engine = 0.3 * np.sin(2 * np.pi * 25.0 * time_s)
        yield f"car {resonance_hz} Hz, Q {quality:.0f}, {rms_mps2} m/s²", _imu(*sway, body + engine)
    for tone_hz, amplitude_mps2 in TONES:
        tone = amplitude_mps2 * np.sin(2 * np.pi * tone_hz * time_s)
        yield f"tone {tone_hz} Hz, {amplitude_mps2} m/s²", _imu(0 * tone, 0 * tone, tone)


def imitations() -> Iterator[tuple[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]]]:
    """Yield name and [n, 6] of rhythms so like a walk that the model takes some for one: a limit, in MODEL_CARD.md."""
    random = np.random.default_rng(6)
    for low_hz, high_hz, rms_mps2 in BANDS:
        body, aside = (_band(random, low_hz, high_hz, share * rms_mps2) for share in (1.0, 0.5))
        yield f"noise {low_hz}-{high_hz} Hz, {rms_mps2} m/s²", _imu(aside, 0 * aside, body)
    for shake_hz, size_mps2 in HANDS:
        phase = 2 * np.pi * shake_hz * np.cumsum(1 + 0.03 * _band(random, 0.05, 0.3, 1.0)) / RATE_HZ
        along = size_mps2 * (np.sin(phase) + 0.2 * np.sin(2 * phase + 0.5))
        yield f"hand {shake_hz} Hz, {size_mps2} m/s²", _imu(0.4 * size_mps2 * np.sin(phase + 1.0), 0.3 * along, along)


def _resonant(random: np.random.Generator, resonance_hz: float, quality: float, rms: float) -> TimeArray:
    noise = random.normal(0, 1, int(SECONDS * RATE_HZ))
    ratio = np.fft.rfftfreq(len(noise), 1 / RATE_HZ) / resonance_hz
    motion = np.fft.irfft(np.fft.rfft(noise) / (1 - ratio**2 + 1j * ratio / quality), len(noise))
    scaled: TimeArray = rms * (motion - motion.mean()) / motion.std()
    return scaled


def _band(random: np.random.Generator, low_hz: float, high_hz: float, rms: float) -> TimeArray:
    noise = random.normal(0, 1, int(SECONDS * RATE_HZ))
    at_hz = np.fft.rfftfreq(len(noise), 1 / RATE_HZ)
    motion = np.fft.irfft(np.fft.rfft(noise) * ((at_hz >= low_hz) & (at_hz <= high_hz)), len(noise))
    scaled: TimeArray = rms * motion / motion.std()
    return scaled


def _imu(x: TimeArray, y: TimeArray, z: TimeArray) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    missing = np.full_like(x, np.nan)
    return np.stack([x, y, z + STANDARD_GRAVITY, missing, missing, missing], axis=1).astype(np.float32)


def _steps(classifier: StepClassifier, imu: np.ndarray[tuple[int, int], np.dtype[np.float32]], rate_hz: float) -> int:
    pipeline = Pipeline(classifier, source_rate_hz=rate_hz)
    batch = SampleBatch(np.arange(len(imu)) / rate_hz, imu)
    return len([*pipeline.push(batch), *pipeline.finish()])


def _walks(recordings: Path) -> list[Path]:
    awinda = sorted(recordings.glob("awinda_hand/person_5*"))[:1]
    oxford = sorted(recordings.glob("oxford_opt/*"))[1:12:4]
    return [*awinda, *oxford, *sorted(recordings.glob("ipol_gait/s0[7-9]*-1_lb.npz"))]


def _print(name: str, row: Counted) -> None:
    share = 100 * (row.counted / row.true - 1)
    print(f"{name:24}  {share:+7.1f}  {100 * (row.fewest - 1):+.0f} to {100 * (row.most - 1):+.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
