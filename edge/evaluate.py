"""The report of `footfall evaluate`: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.scoring import SCORED, TOTAL, ScoredRecording, Span, align, is_inside, row
from edge.scoring_details import STAIRS, details

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from edge.recording import Recording

UNNAMED = "(unnamed)"
"""The data set of recordings that name none."""

_NONE: Mapping[str, str] = MappingProxyType({})
_MOST_NAMES = 5
_LEAST_HOURS = 0.1
"""One step in less time than this would be told as tens an hour; so the table tells the step and the seconds."""

_Column = tuple[str, str, float, int]
"""Heading, key of the row, factor, decimals."""

# Not all the figures of a row: the tables should fit a terminal.
_COLUMNS: tuple[_Column, ...] = (
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
_DETAILS: tuple[_Column, ...] = (
    ("F1 95 %", "f1_250ms_interval", 100, 1),
    ("false/h 95 %", "false_steps_per_hour_interval", 1, 0),
    ("first %", "first_step_recall_250ms", 100, 1),
    ("last %", "last_step_recall_250ms", 100, 1),
    ("stairs %", "stairs_recall_250ms", 100, 1),
    (">3 Hz %", "fast_walking_recall_250ms", 100, 1),
    ("offset ms", "offset_s", 1000, 0),
    ("bias ms", "timing_bias_s", 1000, 0),
    ("SD ms", "timing_sd_s", 1000, 0),
    ("p50 ms", "latency_p50_s", 1000, 0),
    ("p99 ms", "latency_p99_s", 1000, 0),
    ("held", "backfilled_steps", 1, 0),
    ("held p50 ms", "backfilled_latency_p50_s", 1000, 0),
)
_ACTIVITY_COLUMNS: tuple[_Column, ...] = (
    ("true", "true_steps", 1, 0),
    ("recall %", "recall_250ms", 100, 1),
    ("false", "false_steps", 1, 0),
    ("false/h", "false_steps_per_hour", 1, 1),
    ("of h", "non_walking_hours", 1, 2),
)
_NEEDS_STEPS = {"f1_250ms", "f1_100ms"}
LEGEND = """\
F1: steps found and true ones paired one to one within 0.25 s or 0.10 s, after one time offset per data set.
worst: the lowest F1@.25 of a recording. MAPE, bias: error of the count, mean over recordings.
false/h: steps found more than 2 s from any true one, per hour of such time (as N in S s where there is
little of it); of h: how many hours that was.
95 %: bootstrap over subjects. first, last: recall of the first and last steps of walking bouts; stairs, >3 Hz: recall
on stairs and at more than 3 steps/s. offset: that one time offset, mean over recordings: each person's is the one with
most matches of all others within 0.10 s, or of their own where nobody else was scored. bias, SD: the error it leaves.
p50, p99: from a step to the sample that made its live event known (a sensor is read about every 0.6 s besides);
held: steps that waited until their walk was sure, found and true, and for how long."""
"""What the columns mean."""


def evaluate(results: Iterable[tuple[Recording, Sequence[float] | npt.NDArray[np.float64]]]) -> dict[str, Any]:
    """Score predicted step times (s from the start) of labelled recordings; one recording is held at a time.

    Returns what `summary` does.
    """
    return summary(scored_recording(recording, predicted_s) for recording, predicted_s in results)


def summary(
    recordings: Iterable[ScoredRecording], unreadable: Mapping[str, str] = _NONE, trained_on: Sequence[str] = ()
) -> dict[str, Any]:
    """Return {"datasets": [row, …], "total": row, "not_scored": how many recordings had labels that cannot be scored}.

    A row holds the figures of scoring.row and of scoring_details.details. unreadable: the recordings that are in no
    figure because they could not be read, and why; they are under "unreadable". trained_on: what the model says it has
    learned from; what of it names a data set that was scored is under "trained_on".
    """
    recordings = list(recordings)
    sets = align(recordings)
    rows = [_full_row(name, shifted) for name, shifted in sets.items()]
    total = _full_row(TOTAL, [recording for shifted in sets.values() for recording in shifted])
    unscored = Counter(r.steps_known for r in recordings if r.steps_known not in SCORED)
    return {
        "datasets": rows,
        "total": total,
        "not_scored": dict(sorted(unscored.items())),
        "unreadable": dict(unreadable),
        "trained_on": [said for said in trained_on if any(name in said for name in sets)],
    }


def _full_row(name: str, recordings: list[ScoredRecording]) -> dict[str, Any]:
    return row(name, recordings) | details(recordings)


def scored_recording(
    recording: Recording,
    predicted_s: Sequence[float] | npt.NDArray[np.float64],
    emitted_s: Sequence[float] | npt.NDArray[np.float64] | None = None,
    backfilled: Sequence[bool] | None = None,
) -> ScoredRecording:
    """Pair a recording's labels with predictions; those outside the labelled intervals are neither right nor wrong.

    predicted_s: when the steps were; emitted_s: when each was published, and backfilled: whether it had been held back,
    if that is known.
    """
    predicted = np.asarray(predicted_s, dtype=np.float64)
    order = np.argsort(predicted, kind="stable")
    if recording.steps_known == "bouts" and recording.label_intervals is not None:
        order = order[is_inside(predicted[order], recording.label_intervals)]
    emitted = None if emitted_s is None else np.asarray(emitted_s, dtype=np.float64)
    return ScoredRecording(
        dataset=recording.dataset or UNNAMED,
        subject=recording.subject,
        name=recording.name,
        duration_s=recording.duration_s,
        steps_known=recording.steps_known,
        true_s=np.empty(0) if recording.steps is None else recording.steps,
        predicted_s=predicted[order],
        latency_s=None if emitted is None else (emitted - predicted)[order],
        backfilled=None if backfilled is None else np.asarray(backfilled, bool)[order],
        placement=recording.placement or UNNAMED,
        activities=_spans(recording),
    )


def _spans(recording: Recording) -> tuple[Span, ...]:
    """Return what was done when: the runs of equal activity codes."""
    codes, names = recording.activity, recording.activity_names
    if codes is None or not len(codes):
        return ()
    first = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
    begin_s = [0.0, *recording.time_s[first[1:]].tolist()]
    end_s = [*begin_s[1:], recording.duration_s]
    spoken = [names[code] if 0 <= code < len(names) else f"activity {code}" for code in codes[first].tolist()]
    return tuple(Span(*each) for each in zip(begin_s, end_s, spoken, strict=True))


def render_json(report: dict[str, Any]) -> str:
    """Return the report as one JSON document."""
    return json.dumps(report, indent=2, allow_nan=False)


def render_table(report: dict[str, Any]) -> str:
    """Return the report as plain, aligned tables: one row per data set, then per placement and per activity."""
    parts = [_text_table(title, grid) for title, grid in tables(report)]
    notes = [LEGEND, *_worst(report), *_not_scored(report["not_scored"])]
    return "\n\n".join([*incomplete(report), *parts, "\n".join(notes), *flattered(report)])


def incomplete(report: dict[str, Any]) -> list[str]:
    """Return the line that no partial score may be without; nothing for a full one."""
    count = len(report["unreadable"])
    names = ", ".join(list(report["unreadable"])[:_MOST_NAMES]) + (", …" if count > _MOST_NAMES else "")
    return [f"INCOMPLETE: {count} recordings could not be read and are in no figure: {names}."] if count else []


def flattered(report: dict[str, Any]) -> list[str]:
    """Return the line that a score on people of the training set should not be without."""
    said = "; ".join(report["trained_on"])
    return [f"The model has learned from {said}: whoever of them is scored here flatters it."] if said else []


def tables(report: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Return every table of the report as (title, lines of cells), the first line being the heading."""
    rows = [*report["datasets"], *([report["total"]] if len(report["datasets"]) > 1 else [])]
    found = [("", _grid("data set", "dataset", rows, _COLUMNS)), ("", _grid("data set", "dataset", rows, _DETAILS))]
    placements = _each(report, "placements")
    if len(placements) > len(report["datasets"]):
        found.append(("By placement", _grid("data set, placement", "placement", placements, _COLUMNS)))
    activities = [each for each in _each(report, "activities") if each["false_steps"] or STAIRS in each["activity"]]
    if activities:
        activities.sort(key=lambda each: -(each["false_steps_per_hour"] or 0.0))
        title = "By activity (stairs, and those with false steps)"
        found.append((title, _grid("data set, activity", "activity", activities, _ACTIVITY_COLUMNS)))
    return found


def _each(report: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the placements or activities of all data sets, each named together with its set."""
    name = key.removesuffix("s") if key == "placements" else "activity"
    return [each | {name: f"{row['dataset']}, {each[name]}"} for row in report["datasets"] for each in row[key]]


def _grid(heading: str, key: str, rows: list[dict[str, Any]], columns: Sequence[_Column]) -> list[list[str]]:
    head = [heading, *(title for title, *_ in columns)]
    return [head, *([row[key], *(_cell(row, *column[1:]) for column in columns)] for row in rows)]


def _text_table(title: str, cells: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    ]
    return "\n".join([*([title] if title else []), *lines])


def _cell(row: dict[str, Any], key: str, factor: float, decimals: int) -> str:
    value = row[key]
    if value is None or (key in _NEEDS_STEPS and not row["true_steps"]):
        return "–"
    if key == "false_steps_per_hour" and 0 < row["non_walking_hours"] < _LEAST_HOURS:
        return f"{value * row['non_walking_hours']:.0f} in {3600 * row['non_walking_hours']:.0f} s"
    if isinstance(value, list):
        return "–".join(f"{factor * each:.{decimals}f}" for each in value)
    return f"{round(factor * value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no "-0.00"


def _worst(report: dict[str, Any]) -> list[str]:
    named = [
        f"{row['dataset']} {row['worst_recording']} ({100 * row['worst_f1_250ms']:.1f} %)"
        for row in report["datasets"]
        if row["worst_recording"] is not None
    ]
    return [f"Worst recordings: {', '.join(named)}."] if named else []


def _not_scored(reasons: dict[str, int]) -> list[str]:
    if not reasons:
        return []
    details = ", ".join(f"{count} with steps_known={known}" for known, count in reasons.items())
    return [f"Not scored, for want of annotated steps: {details}."]
