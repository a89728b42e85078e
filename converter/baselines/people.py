"""Which recordings baselines are tuned on and which they are judged by: the split of the recordings' own README."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from converter.baselines.signals import magnitude
from converter.dataset import CLEAR_LICENCE, role
from edge.errors import RecordingError
from edge.evaluate import scored_recording
from edge.progress import Progress
from edge.recording import find_recordings, load
from edge.scoring import SCORED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from converter.baselines.detectors import Detector
    from converter.baselines.signals import Signal
    from edge.recording import Recording
    from edge.scoring import ScoredRecording


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A recording without its samples, ready to be found steps in: |acc| [n] as signals.magnitude gives it."""

    path: Path
    labels: Recording
    magnitude: Signal

    def scored(self, detector: Detector) -> ScoredRecording:
        """Return what a detector finds beside the labels."""
        return scored_recording(self.labels, detector.steps_s(self.magnitude))


def is_training(dataset: str, subject: str) -> bool:
    """Say whether the shipped model learned from this person too; baselines get the very same people."""
    return dataset in CLEAR_LICENCE and role(dataset, subject) == "train"


def is_test(dataset: str, subject: str) -> bool:
    """Say whether this person belongs to the public test."""
    return role(dataset, subject) == "test"


def samples(folder: Path, wanted: Callable[[str, str], bool]) -> list[Sample]:
    """Load every recording whose labels can be scored and whose data set and subject are wanted.

    Raises RecordingError when there are none.
    """
    found = []
    paths = find_recordings([folder])
    with Progress("reading recordings", len(paths)) as progress:
        for path in paths:
            recording = load(path)
            if recording.steps_known in SCORED and wanted(recording.dataset, recording.subject):
                found.append(Sample(path, _without_samples(recording), magnitude(recording)))
            progress.advance(1)
    if not found:
        raise RecordingError(f"{folder}: holds none of the public recordings; fetch them with `make data`")
    return found


def scored(samples: Iterable[Sample], detector: Detector) -> Sequence[ScoredRecording]:
    """Return what a detector finds in each of the recordings."""
    return [sample.scored(detector) for sample in samples]


def _without_samples(recording: Recording) -> Recording:
    """Return the labels alone: hundreds of recordings are kept at once."""
    ends = [0, -1]
    return replace(recording, time_s=recording.time_s[ends], imu=recording.imu[ends], activity=None)
