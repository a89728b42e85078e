"""Labelled recordings as the device would see them: frames at the model's rate, step times, and where labels hold.

Split and licences: ../shared/data/README.md. Subjects of the public test are never loaded here, nor are data sets whose
licence does not clearly allow shipping weights made from them (ipol_gait, sisfall_waist, adept_run).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edge.errors import RecordingError
from edge.recording import Recording, find_recordings, load
from edge.signal import Resampler
from edge.types import SampleBatch

if TYPE_CHECKING:
    from pathlib import Path

    from edge.types import FloatArray, TimeArray

    BoolArray = npt.NDArray[np.bool_]

SAMPLING_RATE_HZ = 25.0
STANDARD_GRAVITY = 9.80665
FIRST_TEST_WISDM_SUBJECT = 1636
AWINDA_TRAIN_SUBJECTS = ("person_2", "person_3", "person_4", "person_5")
UNCLEAR_LICENCE = ("ipol_gait", "sisfall_waist", "adept_run")
TRAIN_SETS = ("awinda_hand", "oxford_opt", "wisdm_watch", "wisdm_phone", "spsw_watch", "spsw_phone")
SLOW_RATE_HZ = 20.0
"""WISDM, the larger part of the negatives, has 20 Hz; walkers are given at that rate too, lest the rate tell them."""
LABEL_MARGIN_S = 0.1
SEATED = "SEATED"


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One recording, resampled.

    frames: [n, 3] acceleration in g at 25 Hz, frame k at k / 25 s. steps_s: labelled steps.
    known: [n] bool, where the absence of a label means that there is no step.
    """

    dataset: str
    subject: str
    placement: str
    frames: FloatArray
    steps_s: TimeArray
    known: BoolArray

    @property
    def walks(self) -> bool:
        """Whether it has labelled steps."""
        return len(self.steps_s) > 0

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return len(self.frames) / SAMPLING_RATE_HZ


def role(dataset: str, subject: str) -> str:
    """Return `train`, `test` (never seen while making a model) or `unclear licence`; a user's own data: `train`."""
    if dataset in UNCLEAR_LICENCE:
        return "unclear licence"
    if dataset == "awinda_hand":
        return "train" if subject in AWINDA_TRAIN_SUBJECTS else "test"
    if dataset.startswith("wisdm"):
        return "train" if int(subject) < FIRST_TEST_WISDM_SUBJECT else "test"
    return "test" if dataset == "oxford_val" else "train"


def resample(imu: FloatArray, fs_hz: float, columns: tuple[int, ...] = (0, 1, 2)) -> FloatArray:
    """Return [frames, columns] float32 in SI units at 25 Hz, made by the device's own resampler."""
    resampler = Resampler(sampling_rate_hz=SAMPLING_RATE_HZ, source_rate_hz=fs_hz, columns=columns)
    return resampler.push(SampleBatch(np.arange(len(imu)) / fs_hz, imu)).data


def load_tracks(root: Path) -> list[Track]:
    """Load every training recording under a folder; walkers come twice, as recorded and as from a 20 Hz sensor.

    Raises RecordingError when there are none.
    """
    files = [path for path in find_recordings([root]) if path.parent.name in TRAIN_SETS]
    tracks = [track for path in tqdm(files, "reading recordings") for track in _tracks(load(path))]
    if not any(track.walks for track in tracks):
        raise RecordingError(f"{root}: holds no recordings of {', '.join(TRAIN_SETS)}; fetch them with `make data`")
    return tracks


def _tracks(recording: Recording) -> list[Track]:
    if role(recording.dataset, recording.subject) != "train":
        return []
    rate_hz = recording.sampling_rate_hz
    tracks = [_track(recording, resample(recording.imu, rate_hz))]
    if tracks[0].walks and rate_hz > SLOW_RATE_HZ:
        slow, first_s = _slowed(recording.imu, rate_hz)
        tracks.append(_track(recording, resample(slow, SLOW_RATE_HZ), first_s))
    return tracks


def _slowed(imu: FloatArray, rate_hz: float) -> tuple[FloatArray, float]:
    """Return the recording as a 20 Hz sensor gives it (means of blocks) and the time of its first sample, s."""
    block = round(rate_hz / SLOW_RATE_HZ)
    whole = len(imu) // block * block
    return imu[:whole].reshape(-1, block, imu.shape[1]).mean(axis=1), (block - 1) / 2 / rate_hz


def _track(recording: Recording, frames_si: FloatArray, first_s: float = 0.0) -> Track:
    time_s = first_s + np.arange(len(frames_si)) / SAMPLING_RATE_HZ
    steps_s = np.empty(0) if recording.steps is None else recording.steps
    return Track(
        dataset=recording.dataset,
        subject=recording.subject,
        placement=recording.placement.lower(),
        frames=(frames_si / STANDARD_GRAVITY).astype(np.float32),
        steps_s=steps_s - first_s,
        known=_known(recording, time_s),
    )


def _known(recording: Recording, time_s: TimeArray) -> BoolArray:
    if recording.steps_known in ("all", "zero"):
        return np.ones(len(time_s), bool)
    known = np.zeros(len(time_s), bool)
    if recording.steps_known == "bouts" and recording.label_intervals is not None:
        for start_s, end_s in recording.label_intervals:
            known |= (time_s >= start_s - LABEL_MARGIN_S) & (time_s <= end_s + LABEL_MARGIN_S)
    if recording.activity is not None and recording.dataset.startswith("spsw"):
        index = np.minimum((time_s * recording.sampling_rate_hz).astype(int), len(recording.activity) - 1)
        known |= np.asarray(recording.activity_names)[recording.activity[index]] == SEATED
    return known
