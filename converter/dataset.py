"""Labelled recordings as the device would see them: frames at the model's rate, step times, and where labels hold.

Split and licences: ../shared/data/README.md. Subjects of the public test are never loaded here; data sets whose licence
does not clearly allow shipping weights made from them (ipol_gait, sisfall_waist) only to learn what leaving them out
costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edge.errors import RecordingError
from edge.recording import Recording, find_recordings, load
from edge.signal import Resampler
from edge.types import SampleBatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge.types import FloatArray, TimeArray

    BoolArray = npt.NDArray[np.bool_]

SAMPLING_RATE_HZ = 25.0
STANDARD_GRAVITY = 9.80665
FIRST_TEST_WISDM_SUBJECT = 1636
AWINDA_TRAIN_SUBJECTS = ("person_2", "person_3", "person_4", "person_5")
LEFT_OUT_ONE_BY_ONE = "awinda_hand"
"""The set whose people are left out one by one (converter.leave_one_out)."""
LAST_TRAIN_IPOL_SUBJECT = 13
CLEAR_LICENCE = ("awinda_hand", "oxford_opt", "wisdm_watch", "wisdm_phone", "spsw_watch", "spsw_phone")
UNCLEAR_LICENCE = ("ipol_gait", "sisfall_waist")
SLOW_RATE_HZ = 20.0
"""WISDM, the larger part of the negatives, has 20 Hz; walkers are given at that rate too, lest the rate tell them."""
LABEL_MARGIN_S = 0.1
SEATED = "SEATED"
WALKING = ("WALKING", "TURNING")
MAX_STEP_INTERVAL_S = 1.6
"""Between two steps closer than this, somebody walks; the slowest walkers need that long for one."""
NEAR_STEP_S, FAR_FROM_STEP_S = 0.3, 1.0
"""Closer to a step than the first somebody walks, farther than the second nobody; between them nobody can say."""
EDGE_S = 1.5
"""How much of both ends of a recording that is all walking may be something else."""
NOBODY, SOMEBODY, UNKNOWN = 0, 1, -1


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One recording, resampled.

    frames: [n, 3] acceleration in g at 25 Hz, frame k at k / 25 s. steps_s: labelled steps.
    known: [n] bool, where the absence of a label means that there is no step.
    walking: [n] int8, SOMEBODY walks, NOBODY does, or UNKNOWN.
    pseudo: the steps are not labels but what a net found, where it can be trusted (converter.training).
    """

    dataset: str
    subject: str
    placement: str
    frames: FloatArray
    steps_s: TimeArray
    known: BoolArray
    walking: npt.NDArray[np.int8]
    pseudo: bool = False

    @property
    def walks(self) -> bool:
        """Whether it has labelled steps."""
        return len(self.steps_s) > 0 and not self.pseudo

    @property
    def kind(self) -> str:
        """What its labels can teach: `steps`, only where somebody is `walking`, or that `nobody` walks."""
        if self.walks:
            return "steps"
        return "walking" if (self.walking == SOMEBODY).any() else "nobody"

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return len(self.frames) / SAMPLING_RATE_HZ


def role(dataset: str, subject: str) -> str:
    """Return `train`, `test` (never seen while making a model) or `unclear licence`; a user's own data: `train`."""
    if dataset == "ipol_gait":
        return "unclear licence" if int(subject.lstrip("s")) <= LAST_TRAIN_IPOL_SUBJECT else "test"
    if dataset == "sisfall_waist":
        return "unclear licence" if subject.startswith("SA") else "test"
    if dataset == "adept_run":
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


def load_tracks(root: Path, roles: Sequence[str] = ("train",), everybody_of: str = "") -> list[Track]:
    """Load every recording of the given roles under a folder; walkers come twice, the second time as from 20 Hz.

    everybody_of: a data set to load whole, the public test too, for a leave-one-out. Raises RecordingError when there
    are no labelled steps.
    """
    files = [path for path in find_recordings([root]) if path.parent.name in CLEAR_LICENCE + UNCLEAR_LICENCE]
    wanted = {path: (*roles, "test") if path.parent.name == everybody_of else roles for path in files}
    tracks = [track for path in tqdm(files, "reading recordings") for track in _tracks(path, wanted[path])]
    if not any(track.walks for track in tracks):
        raise RecordingError(f"{root}: holds no recordings of {', '.join(CLEAR_LICENCE)}; fetch them with `make data`")
    return tracks


def gentler(track: Track, name: str, *, pace: float, gain: float) -> Track:
    """Return a walk at another pace, its motion beside gravity weaker, as one of the data set `name`.

    pace: 0 to 1 of the recorded one. gain: of the motion.
    """
    at = np.arange(int(len(track.frames) / pace)) * pace
    nearest = np.minimum(np.round(at).astype(np.intp), len(track.frames) - 1)
    resting = track.frames.mean(axis=0)
    stretched = np.stack([np.interp(at, np.arange(len(track.frames)), axis) for axis in track.frames.T], axis=1)
    return replace(
        track,
        dataset=name,
        frames=(resting + gain * (stretched - resting)).astype(np.float32),
        steps_s=track.steps_s / pace,
        known=track.known[nearest],
        walking=track.walking[nearest],
    )


def _tracks(path: Path, roles: Sequence[str]) -> list[Track]:
    recording = load(path)
    if role(recording.dataset, recording.subject) not in roles:
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
    # `quasi` steps were computed from the signal: they can tell where somebody walks, not when a foot touches.
    labelled = recording.steps if recording.steps_known in ("all", "bouts") else None
    steps_s = np.empty(0) if labelled is None else labelled
    known = _known(recording, time_s)
    return Track(
        dataset=recording.dataset,
        subject=recording.subject,
        placement=recording.placement.lower(),
        frames=(frames_si / STANDARD_GRAVITY).astype(np.float32),
        steps_s=steps_s - first_s,
        known=known,
        walking=_walking(recording, time_s, steps_s, known),
    )


def _known(recording: Recording, time_s: TimeArray) -> BoolArray:
    if recording.steps_known in ("all", "zero"):
        return np.ones(len(time_s), bool)
    known = np.zeros(len(time_s), bool)
    if recording.steps_known == "bouts" and recording.label_intervals is not None:
        for start_s, end_s in recording.label_intervals:
            known |= (time_s >= start_s - LABEL_MARGIN_S) & (time_s <= end_s + LABEL_MARGIN_S)
    return known | np.isin(_activities(recording, time_s), [SEATED])


def _walking(recording: Recording, time_s: TimeArray, steps_s: TimeArray, known: BoolArray) -> npt.NDArray[np.int8]:
    if recording.steps_known == "zero":
        return np.full(len(time_s), NOBODY, np.int8)
    walking = np.full(len(time_s), UNKNOWN, np.int8)
    if len(steps_s):
        around_s = np.concatenate([[-np.inf], steps_s, [np.inf]])
        after = np.searchsorted(around_s, time_s, side="right")
        since_s, until_s = time_s - around_s[after - 1], around_s[after] - time_s
        near_s = np.minimum(since_s, until_s)
        walking[known & (near_s > FAR_FROM_STEP_S)] = NOBODY
        walking[known & ((since_s + until_s < MAX_STEP_INTERVAL_S) | (near_s < NEAR_STEP_S))] = SOMEBODY
    elif recording.steps_known == "quasi":
        walking[(time_s > EDGE_S) & (time_s < time_s[-1] - EDGE_S)] = SOMEBODY
    else:
        activities = _activities(recording, time_s)
        walking[np.isin(activities, WALKING)] = SOMEBODY
        walking[np.isin(activities, [SEATED])] = NOBODY
    return walking


def _activities(recording: Recording, time_s: TimeArray) -> npt.NDArray[np.str_]:
    """Return the name of the activity at each instant, of those sets that name it for every sample."""
    if recording.activity is None or not recording.dataset.startswith("spsw"):
        return np.full(len(time_s), "")
    index = np.minimum((time_s * recording.sampling_rate_hz).astype(int), len(recording.activity) - 1)
    names: npt.NDArray[np.str_] = np.asarray(recording.activity_names)[recording.activity[index]]
    return names
