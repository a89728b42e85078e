"""`python -m converter.gaps`: what short gaps in the samples cost, on people of the training split (decision 7)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.train import default_recordings
from edge.classifier import StepClassifier
from edge.pipeline import Pipeline
from edge.recording import load
from edge.types import SampleBatch

if TYPE_CHECKING:
    from edge.recording import Recording

GAPS_S = (
    (0.0, 2.0),
    (0.15, 2.0),
    (0.15, 5.0),
    (0.3, 2.0),
    (0.3, 5.0),
    (0.45, 2.0),
    (0.11, 1.0),
    (0.65, 10.0),
    (0.65, 20.0),
)
"""Length of the gaps, and from the start of one to that of the next."""
FIRST_S = 1.0
NEAR_S = 0.25
WALKS = ("awinda_hand/person_3__20230217125431.npz", "oxford_opt/*.npz", "ipol_gait/s0[1-6]*-1_lb.npz")
OXFORD_FILES = slice(0, 6, 2)


def main() -> int:
    """Print a row for each kind of gap; returns 0."""
    recordings = [load(path) for path in _walks(default_recordings())]
    classifier = StepClassifier(Path(__file__).parents[1] / "models" / "step.tflite")
    print("gap s  every s  steps outside  counted  recall outside %")
    for gap_s, every_s in GAPS_S:
        outside = counted = found_outside = 0
        for recording in recordings:
            found_s = counted_with_gaps(recording, classifier, gap_s, every_s)
            steps_s = np.asarray(recording.steps)
            there = steps_s[~_lost(steps_s, gap_s, every_s)]
            distance_s = np.abs(there[:, None] - np.append(found_s, np.inf)).min(axis=1)
            outside, counted = outside + len(there), counted + len(found_s)
            found_outside += int((distance_s <= NEAR_S).sum())
        print(
            f"{gap_s:5.2f}  {every_s:7.1f}  {outside:13d}  {counted:7d}  {100 * found_outside / outside:16.1f}",
            flush=True,
        )
    return 0


def counted_with_gaps(
    recording: Recording, classifier: StepClassifier, gap_s: float, every_s: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the instants of the steps that the pipeline finds when samples are missing at regular intervals."""
    pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz)
    lost = _lost(recording.time_s, gap_s, every_s)
    segment = np.cumsum(np.diff(lost.astype(np.intp), prepend=0) == -1)
    found_s: list[float] = []
    for number in range(int(segment[-1]) + 1):
        here = ~lost & (segment == number)
        found_s += [
            step.time_s for step in pipeline.push(SampleBatch(recording.time_s[here], recording.imu[here], number))
        ]
    return np.array([*found_s, *(step.time_s for step in pipeline.finish())])


def _lost(
    time_s: np.ndarray[tuple[int], np.dtype[np.float64]], gap_s: float, every_s: float
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return (time_s > FIRST_S) & ((time_s - FIRST_S) % every_s < gap_s)


def _walks(recordings: Path) -> list[Path]:
    awinda, oxford, ipol = (sorted(recordings.glob(pattern)) for pattern in WALKS)
    return [*awinda, *oxford[OXFORD_FILES], *ipol]


if __name__ == "__main__":
    sys.exit(main())
