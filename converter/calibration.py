"""Representative windows for the quantiser: stratified over placements and activities, the same at every drawing."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.dataset import role
from converter.headings import scalars
from converter.rotation import random_rotations
from edge.errors import RecordingError
from edge.recording import Recording, find_recordings, load
from edge.recording_checks import RATE_RANGE_HZ
from edge.signal import Resampler
from edge.types import SampleBatch

if TYPE_CHECKING:
    from pathlib import Path

    from converter.spec import Spec
    from edge.types import FloatArray

WINDOWS = 200
"""More bring nothing: with 300 to 1000 the shipped model differs from Keras by 0.008 to 0.009, with 200 by 0.008."""
SEED = 20
MARGIN_S = 0.3
"""Raw time around a window, at least; `_margin_s` knows what the resampler's kernel needs."""
ATTEMPTS_PER_WINDOW = 4
UNNAMED = "recordings"
RECENT = 48


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was drawn.

    raw: [n, frames, channels] float32 in SI units. still: [n] bool, whether the device hardly moved.
    strata, activities: slices per "data set, placement" and per activity. lacking: recordings without a channel that
    the model reads. seconds: of the recordings drawn from. sha256: of the raw samples, the same on every machine.
    """

    raw: FloatArray
    still: np.ndarray[Any, np.dtype[np.bool_]]
    strata: dict[str, int]
    activities: dict[str, int]
    recordings: int
    lacking: int
    seconds: float
    sha256: str


@dataclass
class _Draw:
    """What a drawing collects."""

    slices: list[FloatArray] = field(default_factory=list)
    still: list[bool] = field(default_factory=list)
    strata: Counter[str] = field(default_factory=Counter)
    activities: Counter[str] = field(default_factory=Counter)
    digest: Any = field(default_factory=hashlib.sha256)
    seconds: dict[Path, float] = field(default_factory=dict)
    lacking: set[Path] = field(default_factory=set)


STILL_STD = 0.4
"""m/s²; below this standard deviation of |acc| over a slice nobody walks with the device."""


def draw(root: Path, spec: Spec, frames: int, count: int = WINDOWS) -> Calibration:
    """Draw slices of `frames` frames from a recording or the recordings under a folder.

    People of the public test are left out. Raises RecordingError when nothing is long enough or has the channels.
    """
    # Files may have changed since an earlier drawing.
    _load.cache_clear()
    by_stratum = strata(root)
    names = sorted(by_stratum)
    rng = np.random.default_rng(SEED)
    drawn = _Draw(strata=Counter(dict.fromkeys(names, 0)))
    for attempt in range(ATTEMPTS_PER_WINDOW * count):
        if len(drawn.slices) == count:
            break
        name = names[attempt % len(names)]
        path = by_stratum[name][rng.integers(len(by_stratum[name]))]
        drawn.strata[name] += _try(drawn, path, spec, frames, rng)
    if not drawn.slices:
        raise RecordingError(_why_none(root, spec, frames, drawn))
    return Calibration(
        raw=np.stack(drawn.slices),
        still=np.array(drawn.still),
        strata=dict(drawn.strata),
        activities=dict(sorted(drawn.activities.items())),
        recordings=len(drawn.seconds),
        lacking=len(drawn.lacking),
        seconds=sum(drawn.seconds.values()),
        sha256=drawn.digest.hexdigest(),
    )


def normalised(drawn: Calibration, spec: Spec) -> FloatArray:
    """Return [n, frames, channels] as the model wants them, turned at random if the spec allows any orientation."""
    windows = drawn.raw.copy()
    if spec.any_orientation:
        turn = random_rotations(len(windows), np.random.default_rng(SEED))
        for first in range(0, len(spec.channels), 3):
            windows[:, :, first : first + 3] = windows[:, :, first : first + 3] @ turn
    scaled: FloatArray = ((windows - np.asarray(spec.offset)) / np.asarray(spec.scale)).astype(np.float32)
    return scaled


def common_rate_hz(root: Path) -> float | None:
    """Return the sampling rate of the recordings if they all have the same one."""
    rates = {_rate_hz(path) for paths in strata(root).values() for path in paths[:20]}
    return rates.pop() if len(rates) == 1 else None


def strata(root: Path) -> dict[str, list[Path]]:
    """Return the recordings to calibrate on, by "data set, placement"; raises RecordingError when there are none."""
    found: dict[str, dict[str, list[Path]]] = {}
    for path in find_recordings([root]):
        dataset, subject, placement = _heading(path)
        name = ", ".join(part for part in (dataset, placement.lower()) if part) or UNNAMED
        found.setdefault(role(dataset, subject), {}).setdefault(name, []).append(path)
    # Ranges found on data of unclear licence are nobody's property, but other data goes first.
    usable = found.get("train") or found.get("unclear licence")
    if not usable:
        raise RecordingError(f"{root}: every recording belongs to the public test; calibrate on other people's")
    return usable


def _heading(path: Path) -> tuple[str, ...]:
    """Return data set, subject and placement."""
    keys = ("dataset", "subject", "placement")
    found = scalars(path, keys)
    if found is None:
        recording = _load(path)
        return recording.dataset, recording.subject, recording.placement
    return tuple(str(found.get(key, "")) for key in keys)


def _rate_hz(path: Path) -> float:
    low_hz, high_hz = RATE_RANGE_HZ
    found = (scalars(path, ("fs",)) or {}).get("fs")
    if isinstance(found, (int, float)) and low_hz <= found <= high_hz:
        return float(found)
    return _load(path).sampling_rate_hz


@lru_cache(maxsize=RECENT)
def _load(path: Path) -> Recording:
    return load(path)


def _try(drawn: _Draw, path: Path, spec: Spec, frames: int, rng: np.random.Generator) -> bool:
    """Draw one slice from a recording into `drawn`; False if it is too short or lacks a channel there."""
    recording = _load(path)
    rate_hz = recording.sampling_rate_hz
    margin_s = _margin_s(spec, rate_hz)
    needed = int(np.ceil((frames / spec.sampling_rate_hz + 2 * margin_s) * rate_hz))
    if len(recording.imu) < needed:
        return False
    start, activity = _place(recording, needed, margin_s, rng)
    raw = recording.imu[start : start + needed]
    if not np.isfinite(raw[:, spec.columns]).all():
        drawn.lacking.add(path)
        return False
    drawn.digest.update(f"{rate_hz} ".encode() + raw.astype("<f4").tobytes())
    drawn.slices.append(_frames(raw, rate_hz, spec, frames))
    drawn.still.append(bool(np.linalg.norm(raw[:, :3], axis=1).std() < STILL_STD))
    drawn.activities[activity] += 1
    drawn.seconds[path] = recording.duration_s
    return True


def _place(recording: Recording, needed: int, margin_s: float, rng: np.random.Generator) -> tuple[int, str]:
    """Return where a slice begins and the activity at its end; every activity of a recording is equally likely."""
    last = len(recording.imu) - needed
    if recording.activity is None:
        return int(rng.integers(last + 1)), "unknown"
    margin = int(margin_s * recording.sampling_rate_hz)
    codes = recording.activity[needed - 1 - margin : needed - margin + last]
    code = int(rng.choice(np.unique(codes)))
    known = 0 <= code < len(recording.activity_names)
    name = recording.activity_names[code].lower() if known else "unknown"
    return int(rng.choice(np.flatnonzero(codes == code))), name


def _frames(raw: FloatArray, rate_hz: float, spec: Spec, frames: int) -> FloatArray:
    return _resampler(spec, rate_hz).push(SampleBatch(np.arange(len(raw)) / rate_hz, raw)).data[-frames:]


def _resampler(spec: Spec, rate_hz: float) -> Resampler:
    return Resampler(sampling_rate_hz=spec.sampling_rate_hz, source_rate_hz=rate_hz, columns=spec.columns)


def _margin_s(spec: Spec, rate_hz: float) -> float:
    """Return the raw time needed on either side of a window: a slow model's kernel is wider than MARGIN_S."""
    return max(MARGIN_S, _resampler(spec, rate_hz).half_width_s + 1 / spec.sampling_rate_hz)


def _why_none(root: Path, spec: Spec, frames: int, drawn: _Draw) -> str:
    if drawn.lacking:
        wanted = ", ".join(spec.channels)
        return f"{root}: no recording has all of {wanted}; record with a gyroscope, or convert a model without gyr_x"
    seconds = frames / spec.sampling_rate_hz + 2 * _margin_s(spec, spec.sampling_rate_hz)
    return f"{root}: no recording is as long as {frames} frames ({seconds:.1f} s); record longer ones (footfall record)"
