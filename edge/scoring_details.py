"""The finer figures of a row: latency, stairs, fast walking, activities, placements, and how sure they all are."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.scoring import BOUT_GAP_S, ScoredRecording, quiet_s, ratio, row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from edge.scoring import Times

    Flags = npt.NDArray[np.bool_]

FAST_CADENCE_HZ = 3.0
CADENCE_INTERVALS = 2
"""Local cadence: the median over that many intervals before and after a step, for labels miss and double steps too."""
STAIRS = "stairs"
UNKNOWN_ACTIVITY = "(not said)"
BOOTSTRAP_DRAWS = 2000
INTERVAL_PERCENT = (2.5, 97.5)
PLACEMENT_KEYS = (
    *("recordings", "hours", "true_steps", "predicted_steps", "f1_250ms", "f1_100ms", "worst_f1_250ms"),
    *("count_mape_percent", "count_bias_percent", "false_steps_per_hour", "non_walking_hours"),
)


def details(recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    """Return what a row of scoring.row leaves out, for the same aligned recordings; None where it has no meaning.

    latency_*: s from a step's own time stamp to its publication, over the steps that match a true one; those held back
    until their bout was confirmed are counted apart, as back-filled.
    *_interval: 95 %, bootstrap over the subjects of each data set; None where no set has two.
    """
    return (
        {"subjects": len({(r.dataset, r.subject) for r in recordings})}
        | _intervals(recordings)
        | _recall("stairs", ((r, [STAIRS in name for name in activities_at(r, r.true_s)]) for r in recordings))
        | _recall("fast_walking", ((r, local_cadence_hz(r.true_s) > FAST_CADENCE_HZ) for r in recordings))
        | _latency(recordings)
        | {"activities": _activities(recordings), "placements": _placements(recordings)}
    )


def local_cadence_hz(true_s: Times) -> Times:
    """Return the steps per second around each true step; 0 for one that stands alone."""
    intervals_s = np.diff(true_s)
    cadence_hz = np.zeros(len(true_s))
    for i in range(len(true_s)):
        around_s = intervals_s[max(0, i - CADENCE_INTERVALS) : i + CADENCE_INTERVALS]
        around_s = around_s[around_s <= BOUT_GAP_S]
        middle_s = float(np.median(around_s)) if len(around_s) else 0.0
        cadence_hz[i] = 1 / middle_s if middle_s > 0 else 0.0
    return cadence_hz


def activities_at(recording: ScoredRecording, times_s: Times) -> list[str]:
    """Return what was being done at each of the times."""
    if not recording.activities:
        return [UNKNOWN_ACTIVITY] * len(times_s)
    begins_s = [span.begin_s for span in recording.activities]
    return [recording.activities[max(0, bisect_right(begins_s, t) - 1)].activity for t in times_s.tolist()]


def live_latency_s(recording: ScoredRecording) -> tuple[Times, Times]:
    """Return the latencies, s, of the live and of the back-filled steps that match a true one."""
    if recording.latency_s is None:
        return np.empty(0), np.empty(0)
    matched = np.zeros(len(recording.latency_s), bool)
    held_back = np.zeros_like(matched) if recording.backfilled is None else recording.backfilled
    matched[[j for _, j in recording.pairs]] = True
    return recording.latency_s[matched & ~held_back], recording.latency_s[matched & held_back]


def _latency(recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    found = [live_latency_s(r) for r in recordings]
    live_s, held_s = (np.concatenate([np.empty(0), *(each[kind] for each in found)]) for kind in (0, 1))
    return {
        "latency_p50_s": _percentile(live_s, 50),
        "latency_p99_s": _percentile(live_s, 99),
        "backfilled_steps": len(held_s) if any(r.latency_s is not None for r in recordings) else None,
        "backfilled_latency_p50_s": _percentile(held_s, 50),
        "backfilled_latency_p99_s": _percentile(held_s, 99),
    }


def _percentile(values: Times, percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 4) if len(values) else None


def _recall(name: str, wanted: Iterable[tuple[ScoredRecording, Sequence[bool] | Flags]]) -> dict[str, Any]:
    found = total = 0
    for recording, flags in wanted:
        chosen = np.asarray(flags, bool)
        found += int(sum(chosen[i] for i, _ in recording.pairs))
        total += int(chosen.sum())
    return {f"{name}_steps": total, f"{name}_recall_250ms": ratio(found, total)}


def _activities(recordings: Sequence[ScoredRecording]) -> list[dict[str, Any]]:
    """One row per activity: true steps and how many were found, false steps and the hours in which they could occur."""
    tally: defaultdict[str, Times] = defaultdict(lambda: np.zeros(4))
    for r in recordings:
        found = {i for i, _ in r.pairs}
        for i, activity in enumerate(activities_at(r, r.true_s)):
            tally[activity] += (1, i in found, 0, 0)
        if r.steps_known != "bouts":
            _count_false(tally, r)
    return [
        {
            "activity": activity,
            "true_steps": int(true),
            "recall_250ms": ratio(float(hits), float(true)),
            "false_steps": int(false),
            "false_steps_per_hour": ratio(float(false), float(hours)),
            "non_walking_hours": float(hours),
        }
        for activity, (true, hits, false, hours) in sorted(tally.items())
    ]


def _count_false(tally: defaultdict[str, Times], r: ScoredRecording) -> None:
    for begin_s, end_s in quiet_s(r.true_s, r.duration_s):
        inside_s = r.predicted_s[(r.predicted_s >= begin_s) & (r.predicted_s <= end_s)]
        for activity in activities_at(r, inside_s):
            tally[activity] += (0, 0, 1, 0)
        for span in r.activities:
            hours = max(0.0, min(end_s, span.end_s) - max(begin_s, span.begin_s)) / 3600
            if hours:
                tally[span.activity] += (0, 0, 0, hours)
        if not r.activities:
            tally[UNKNOWN_ACTIVITY] += (0, 0, 0, (end_s - begin_s) / 3600)


def _placements(recordings: Sequence[ScoredRecording]) -> list[dict[str, Any]]:
    groups: defaultdict[str, list[ScoredRecording]] = defaultdict(list)
    for r in recordings:
        groups[r.placement.lower()].append(r)
    rows = []
    for placement in sorted(groups):
        figures = row(placement, groups[placement])
        rows.append({"placement": placement} | {key: figures[key] for key in PLACEMENT_KEYS})
    return rows


def _intervals(recordings: Sequence[ScoredRecording]) -> dict[str, Any]:
    """Return 95 % intervals: people, not steps, are what was drawn at random, within each data set."""
    people: defaultdict[str, defaultdict[str, list[ScoredRecording]]] = defaultdict(lambda: defaultdict(list))
    for r in recordings:
        people[r.dataset][r.subject].append(r)
    if all(len(subjects) < 2 for subjects in people.values()):
        return {"f1_250ms_interval": None, "false_steps_per_hour_interval": None}
    rng = np.random.default_rng(0)
    drawn = np.zeros((BOOTSTRAP_DRAWS, 4))
    for _, subjects in sorted(people.items()):
        sums = np.array([_sums(each) for _, each in sorted(subjects.items())])
        drawn += sums[rng.integers(0, len(sums), (BOOTSTRAP_DRAWS, len(sums)))].sum(axis=1)
    hits, steps, false, hours = drawn.T
    return {
        "f1_250ms_interval": _interval(2 * hits, steps) if any(len(r.true_s) for r in recordings) else None,
        "false_steps_per_hour_interval": _interval(false, hours),
    }


def _sums(recordings: Sequence[ScoredRecording]) -> tuple[float, float, float, float]:
    figures = row("", recordings)
    hits = sum(len(r.pairs) for r in recordings)
    steps = figures["true_steps"] + figures["predicted_steps"]
    return hits, steps, figures["false_steps"], figures["non_walking_hours"]


def _interval(part: Times, whole: Times) -> list[float] | None:
    some = whole > 0
    return np.percentile(part[some] / whole[some], INTERVAL_PERCENT).round(6).tolist() if some.any() else None
