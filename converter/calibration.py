"""Representative windows for the quantiser: stratified over data sets and placements, drawn the same way every time."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from converter.dataset import role
from converter.rotation import random_rotations
from edge.errors import RecordingError
from edge.recording import Recording, find_recordings, load
from edge.signal import Resampler
from edge.types import IMU_CHANNELS, SampleBatch

if TYPE_CHECKING:
    from pathlib import Path

    from converter.spec import Spec
    from edge.types import FloatArray

WINDOWS = 200
"""More bring nothing: with 300 to 1000 the shipped model differs from Keras by 0.008 to 0.009, with 200 by 0.008."""
SEED = 20
MARGIN_S = 0.3
"""Raw time around a window that the resampler's kernel needs."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """windows: [n, window_samples, channels] float32, normalised and clipped to the spec's input range.

    strata: windows per "data set, placement". sha256: of the raw samples they come from, the same on every machine.
    """

    windows: FloatArray
    strata: dict[str, int]
    sha256: str


def calibration_windows(root: Path, spec: Spec, window_samples: int, count: int = WINDOWS) -> Calibration:
    """Draw windows from the recordings under a folder, leaving out people of the public test.

    Raises RecordingError when the folder holds nothing long enough.
    """
    by_stratum = _by_stratum(root)
    rng = np.random.default_rng(SEED)
    digest = hashlib.sha256()
    windows: list[FloatArray] = []
    strata = dict.fromkeys(sorted(by_stratum), 0)
    names = list(strata)
    for attempt in range(4 * count):
        if len(windows) == count:
            break
        name = names[attempt % len(names)]
        recording = load(by_stratum[name][rng.integers(len(by_stratum[name]))])
        raw = _slice(recording, spec, window_samples, float(rng.random()))
        if raw is None:
            continue
        digest.update(f"{recording.sampling_rate_hz} ".encode() + raw.astype("<f4").tobytes())
        windows.append(_frames(raw, recording.sampling_rate_hz, spec, window_samples))
        strata[name] += 1
    if not windows:
        raise RecordingError(f"{root}: no recording is as long as one window ({window_samples} frames)")
    return Calibration(_normalised(np.stack(windows), spec, rng), strata, digest.hexdigest())


def _by_stratum(root: Path) -> dict[str, list[Path]]:
    strata: dict[str, list[Path]] = {}
    for path in find_recordings([root]):
        dataset, subject, placement = _heading(path)
        if role(dataset, subject) == "train":
            strata.setdefault(f"{dataset}, {placement.lower()}", []).append(path)
    if not strata:
        raise RecordingError(f"{root}: every recording belongs to the public test; calibrate on other people's")
    return strata


def _heading(path: Path) -> tuple[str, ...]:
    """Return data set, subject and placement, without reading the samples where the format allows."""
    keys = ("dataset", "subject", "placement")
    if path.suffix != ".npz":
        recording = load(path)
        return recording.dataset, recording.subject, recording.placement
    try:
        with np.load(path, allow_pickle=False) as archive:
            return tuple(str(archive[key]) if key in archive.files else "" for key in keys)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path}: cannot be read as .npz ({error}); fetch it again (make data)") from error


def _slice(recording: Recording, spec: Spec, window_samples: int, where: float) -> FloatArray | None:
    """Raw samples for one window at a share `where` of the recording; None if too short or a channel is absent."""
    rate_hz = recording.sampling_rate_hz
    needed = int(np.ceil((window_samples / spec.sampling_rate_hz + 2 * MARGIN_S) * rate_hz))
    if len(recording.imu) < needed:
        return None
    start = int(where * (len(recording.imu) - needed + 1))
    raw = recording.imu[start : start + needed]
    columns = [IMU_CHANNELS.index(name) for name in spec.channels]
    return raw if np.isfinite(raw[:, columns]).all() else None


def _frames(raw: FloatArray, rate_hz: float, spec: Spec, window_samples: int) -> FloatArray:
    columns = [IMU_CHANNELS.index(name) for name in spec.channels]
    resampler = Resampler(sampling_rate_hz=spec.sampling_rate_hz, source_rate_hz=rate_hz, columns=columns)
    return resampler.push(SampleBatch(np.arange(len(raw)) / rate_hz, raw)).data[-window_samples:]


def _normalised(windows: FloatArray, spec: Spec, rng: np.random.Generator) -> FloatArray:
    if spec.any_orientation:
        turn = random_rotations(len(windows), rng)
        for first in range(0, len(spec.channels), 3):
            windows[:, :, first : first + 3] = windows[:, :, first : first + 3] @ turn
    scaled = (windows - np.asarray(spec.offset)) / np.asarray(spec.scale)
    # One knock would otherwise set the range of every layer.
    low, high = spec.input_range
    clipped: FloatArray = np.clip(scaled, low, high).astype(np.float32)
    return clipped
