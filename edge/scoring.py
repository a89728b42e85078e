"""How well predicted steps agree with labelled ones: matching, counts and false steps, one row per data set.

Predicted and true steps are paired one to one. One constant time offset per data set is removed first, because labels
mark another instant of the step in every set; it is chosen on other people than those it is applied to. A false step
is one found where nobody had walked for two seconds, or would within two.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Times = npt.NDArray[np.float64]

TOLERANCES_S = (0.10, 0.25, 0.50)
TOLERANCE_S = 0.25
"""The tolerance of every figure that names none."""

GUARD_S = 2.0
"""A prediction farther than this from every true step is a false step outside walking."""

BOUT_GAP_S = 2.0
"""A longer pause between two true steps ends a walking bout."""

INTERVAL_PAD_S = 0.3
TOTAL = "total"
"""The name of the row over all data sets."""

SCORED = ("all", "bouts", "zero")
"""The values of Recording.steps_known whose labels can be scored against."""

_OFFSET_TOLERANCE_S = 0.1
_OFFSETS_S: Times = np.arange(-0.5, 0.501, 0.02)
_ROUNDING_S = 1e-9


@dataclass(frozen=True, slots=True)
class Span:
    """What was done in [begin_s, end_s)."""

    begin_s: float
    end_s: float
    activity: str


@dataclass(frozen=True, eq=False)
class ScoredRecording:
    """One recording's labels and predictions: true_s [K] and predicted_s [P], both sorted, s from its start.

    offset_s: what was added to the predictions. latency_s: [P] s from each predicted instant to its publication, or
    None. backfilled: [P] whether it had been held back until its bout was confirmed; None means that none had been.
    activities: what was done when, in order of time, or empty.
    """

    dataset: str
    subject: str
    name: str
    duration_s: float
    steps_known: str
    true_s: Times
    predicted_s: Times
    offset_s: float = 0.0
    latency_s: Times | None = None
    backfilled: npt.NDArray[np.bool_] | None = None
    placement: str = ""
    activities: tuple[Span, ...] = ()

    def shifted(self, offset_s: float) -> ScoredRecording:
        """Add a constant to the predictions."""
        return replace(self, predicted_s=self.predicted_s + offset_s, offset_s=self.offset_s + offset_s)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Matches at TOLERANCE_S: (index of true, index of predicted) in time order."""
        return matched_pairs(self.true_s, self.predicted_s, TOLERANCE_S)

    @property
    def unmatched_s(self) -> tuple[Times, Times]:
        """The true steps that were missed and the predicted ones that were invented, s."""
        hit, right = ([pair[side] for pair in self.pairs] for side in (0, 1))
        return np.delete(self.true_s, hit), np.delete(self.predicted_s, right)

    @property
    def f1(self) -> float | None:
        """F1 at TOLERANCE_S, 0..1; None where there is nothing to find."""
        return 2 * len(self.pairs) / (len(self.true_s) + len(self.predicted_s)) if len(self.true_s) else None

    @cached_property
    def hits_by_offset(self) -> npt.NDArray[np.int64]:
        """Matches at 0.1 s for each candidate offset."""
        if not len(self.true_s):
            return np.zeros(len(_OFFSETS_S), np.int64)
        shifts = (matched_pairs(self.true_s, self.predicted_s + offset, _OFFSET_TOLERANCE_S) for offset in _OFFSETS_S)
        return np.array([len(pairs) for pairs in shifts])


def matched_pairs(true_s: Times, predicted_s: Times, tolerance_s: float) -> list[tuple[int, int]]:
    """Pair true and predicted steps one to one, as many as possible, each pair within the tolerance.

    Both sorted. A sweep in time order is a maximum matching, since all tolerances are equal.
    Returns (index of true, index of predicted) in time order.
    """
    true, predicted = true_s.tolist(), predicted_s.tolist()
    limit_s = tolerance_s + _ROUNDING_S
    pairs = []
    i = j = 0
    while i < len(true) and j < len(predicted):
        late_s = predicted[j] - true[i]
        if abs(late_s) <= limit_s:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif late_s < 0:
            j += 1
        else:
            i += 1
    return pairs


def best_offset_s(recordings: Iterable[ScoredRecording]) -> float:
    """Return the constant to add to the predictions so that most match at 0.1 s; the smallest of equals."""
    hits = sum((r.hits_by_offset for r in recordings), start=np.zeros(len(_OFFSETS_S), np.int64))
    return float(min(_OFFSETS_S[hits == hits.max()], key=abs))


def is_inside(
    times_s: Times, intervals_s: npt.NDArray[np.float64], pad_s: float = INTERVAL_PAD_S
) -> npt.NDArray[np.bool_]:
    """Say which times lie inside any of the [M, 2] intervals, each widened by the pad."""
    keep = np.zeros(len(times_s), bool)
    for begin_s, end_s in intervals_s:
        keep |= (times_s >= begin_s - pad_s) & (times_s <= end_s + pad_s)
    return keep


def false_steps(true_s: Times, predicted_s: Times, duration_s: float) -> tuple[int, float]:
    """Count predictions more than GUARD_S from any true step; returns them and the hours that such time lasted."""
    count = 0
    hours = 0.0
    for begin_s, end_s in quiet_s(true_s, duration_s):
        count += int(np.sum((predicted_s >= begin_s) & (predicted_s <= end_s)))
        hours += (end_s - begin_s) / 3600
    return count, hours


def quiet_s(true_s: Times, duration_s: float) -> list[tuple[float, float]]:
    """Return the stretches, s, that lie more than GUARD_S from any true step."""
    edges = np.concatenate([[-GUARD_S], true_s, [duration_s + GUARD_S]])
    pauses = np.flatnonzero(np.diff(edges) > 2 * GUARD_S)
    return [(float(edges[i] + GUARD_S), float(edges[i + 1] - GUARD_S)) for i in pauses]


def bout_edges(true_s: Times) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the indices of the first and of the last step of each walking bout."""
    if not len(true_s):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    pauses = np.flatnonzero(np.diff(true_s) > BOUT_GAP_S)
    return np.concatenate([[0], pauses + 1]), np.concatenate([pauses, [len(true_s) - 1]])


def score(recordings: Iterable[ScoredRecording]) -> dict[str, Any]:
    """Score every recording whose labels allow it.

    Returns {"datasets": [row, …], "total": row}; rows are the contract's, with None where a figure has no meaning.
    F1, precision and recall are 0..1, micro over all recordings of the row. Raises nothing; no recording, no rows.
    """
    aligned = align(recordings)
    everything = [recording for shifted in aligned.values() for recording in shifted]
    return {"datasets": [row(name, shifted) for name, shifted in aligned.items()], "total": row(TOTAL, everything)}


def align(recordings: Iterable[ScoredRecording]) -> dict[str, list[ScoredRecording]]:
    """Return the recordings that can be scored, by data set and subject, their predictions shifted by its offset.

    Each subject's is the one that suits all the others best, or itself where there are no others.
    """
    sets: dict[str, list[ScoredRecording]] = defaultdict(list)
    for recording in recordings:
        if recording.steps_known in SCORED:
            sets[recording.dataset].append(recording)
    return {name: _aligned(sets[name]) for name in sorted(sets)}


def _aligned(recordings: list[ScoredRecording]) -> list[ScoredRecording]:
    aligned: list[ScoredRecording] = []
    for subject in sorted({r.subject for r in recordings}):
        others = [r for r in recordings if r.subject != subject] or recordings
        offset_s = best_offset_s(others) if any(len(r.true_s) for r in others) else 0.0
        aligned += [r.shifted(offset_s) for r in recordings if r.subject == subject]
    return aligned


def row(name: str, recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    """Return the contract's figures of aligned recordings; `total` has no offset, for every set has its own."""
    true, predicted = (sum(len(getattr(r, key)) for r in recordings) for key in ("true_s", "predicted_s"))
    hits = {t: sum(len(matched_pairs(r.true_s, r.predicted_s, t)) for r in recordings) for t in TOLERANCES_S}
    return (
        {
            "dataset": name,
            "recordings": len(recordings),
            "hours": sum(r.duration_s for r in recordings) / 3600,
            "true_steps": true,
            "predicted_steps": predicted,
        }
        | {f"f1_{round(1000 * t)}ms": ratio(2 * hits[t], true + predicted) for t in TOLERANCES_S}
        | {"precision_250ms": ratio(hits[TOLERANCE_S], predicted), "recall_250ms": ratio(hits[TOLERANCE_S], true)}
        | _worst(recordings)
        | _counts(recordings)
        | _false_steps(recordings)
        | _timing(recordings)
        | {"offset_s": None if name == TOTAL or not true else _offset_s(recordings)}
    )


def _offset_s(recordings: Sequence[ScoredRecording]) -> float:
    return float(np.median(list({r.subject: r.offset_s for r in recordings}.values())))


def _worst(recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    found = [(r.f1, r.name) for r in recordings if r.f1 is not None]
    f1, name = min(found, key=lambda each: each[0], default=(None, None))
    return {"worst_f1_250ms": f1, "worst_recording": name}


def _counts(recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    errors = [100 * (len(r.predicted_s) - len(r.true_s)) / len(r.true_s) for r in recordings if len(r.true_s)]
    return {
        "count_mape_percent": float(np.mean(np.abs(errors))) if errors else None,
        "count_bias_percent": float(np.mean(errors)) if errors else None,
        "worst_count_error_percent": max(errors, key=abs) if errors else None,
    }


def _false_steps(recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    found = [false_steps(r.true_s, r.predicted_s, r.duration_s) for r in recordings if r.steps_known != "bouts"]
    hours = sum(h for _, h in found)
    return {
        "false_steps": sum(n for n, _ in found),
        "false_steps_per_hour": ratio(sum(n for n, _ in found), hours),
        "non_walking_hours": hours,
    }


def _timing(recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    """Error of the matched time stamps after the offset, and recall at both ends of the walking bouts."""
    late_s: list[float] = []
    edges = {"first": [0, 0], "last": [0, 0]}
    for r in recordings:
        late_s += [float(r.predicted_s[j] - r.true_s[i]) for i, j in r.pairs]
        found = {i for i, _ in r.pairs}
        for tally, indices in zip(edges.values(), bout_edges(r.true_s), strict=True):
            tally[0] += sum(int(i) in found for i in indices)
            tally[1] += len(indices)
    return {
        "timing_bias_s": float(np.mean(late_s)) if late_s else None,
        "timing_sd_s": float(np.std(late_s)) if late_s else None,
    } | {f"{end}_step_recall_250ms": ratio(*tally) for end, tally in edges.items()}


def ratio(part: float, whole: float) -> float | None:
    """Divide; None where there is nothing to divide by."""
    return part / whole if whole else None
