"""The report of `footfall evaluate`: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.scoring import SCORED, ScoredRecording, inside_intervals, score

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from edge.recording import Recording

UNNAMED = "(unnamed)"
"""The data set of recordings that name none."""

# Not all the figures of a row: the table should fit 100 columns.
_COLUMNS: tuple[tuple[str, str, float, int], ...] = (
    # heading, key of the row, factor, decimals
    ("files", "recordings", 1, 0),
    ("hours", "hours", 1, 2),
    ("true", "true_steps", 1, 0),
    ("found", "predicted_steps", 1, 0),
    ("F1@.25 %", "f1_250ms", 100, 2),
    ("F1@.10 %", "f1_100ms", 100, 2),
    ("worst %", "worst_f1_250ms", 100, 1),
    ("MAPE %", "count_mape_percent", 1, 2),
    ("bias %", "count_bias_percent", 1, 2),
    ("false/h", "false_steps_per_hour", 1, 1),
    ("of h", "non_walking_hours", 1, 2),
)
_NEEDS_STEPS = {"f1_250ms", "f1_100ms"}
_NOTES = """\
F1: steps found and true ones paired one to one within 0.25 s or 0.10 s, after one time offset per data set.
worst: the lowest F1@.25 of a recording. MAPE, bias: error of the count, mean over recordings.
false/h: steps found more than 2 s from any true one, per hour of such time; of h: how many hours that was."""


def evaluate(results: Iterable[tuple[Recording, Sequence[float] | npt.NDArray[np.float64]]]) -> dict[str, Any]:
    """Score predicted step times (s from the start) of labelled recordings; one recording is held at a time.

    Returns the report of scoring.score, and under "not_scored" how many recordings had labels that cannot be scored.
    """
    scored = []
    unscored: Counter[str] = Counter()
    for recording, predicted_s in results:
        if recording.steps_known in SCORED:
            scored.append(scored_recording(recording, predicted_s))
        else:
            unscored[recording.steps_known] += 1
    return score(scored) | {"not_scored": dict(sorted(unscored.items()))}


def scored_recording(recording: Recording, predicted_s: Sequence[float] | npt.NDArray[np.float64]) -> ScoredRecording:
    """Pair a recording's labels with predictions; those outside the labelled intervals are neither right nor wrong."""
    predicted = np.sort(np.asarray(predicted_s, dtype=np.float64))
    if recording.steps_known == "bouts" and recording.label_intervals is not None:
        predicted = inside_intervals(predicted, recording.label_intervals)
    return ScoredRecording(
        dataset=recording.dataset or UNNAMED,
        subject=recording.subject,
        name=recording.name,
        duration_s=recording.duration_s,
        steps_known=recording.steps_known,
        true_s=np.empty(0) if recording.steps is None else recording.steps,
        predicted_s=predicted,
    )


def render_json(report: dict[str, Any]) -> str:
    """Return the report as one JSON document."""
    return json.dumps(report, indent=2, allow_nan=False)


def render_table(report: dict[str, Any]) -> str:
    """Return the report as a plain, aligned table with one row per data set."""
    rows = [*report["datasets"], *([report["total"]] if len(report["datasets"]) > 1 else [])]
    cells = [["data set", *(heading for heading, *_ in _COLUMNS)]]
    cells += [
        [row["dataset"], *(_cell(row, key, factor, decimals) for _, key, factor, decimals in _COLUMNS)] for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    ]
    return "\n".join([*lines, "", _NOTES, *_not_scored(report["not_scored"])])


def _cell(row: dict[str, Any], key: str, factor: float, decimals: int) -> str:
    meaningless = key in _NEEDS_STEPS and not row["true_steps"]
    return "–" if row[key] is None or meaningless else f"{factor * row[key]:.{decimals}f}"


def _not_scored(reasons: dict[str, int]) -> list[str]:
    if not reasons:
        return []
    details = ", ".join(f"{count} with steps_known={known}" for known, count in reasons.items())
    return [f"Not scored, for want of annotated steps: {details}."]
