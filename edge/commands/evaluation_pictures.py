"""The pictures of an evaluation, as PNG bytes without a date in them. For hosts only: needs matplotlib."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from edge.recording_checks import brief
from edge.scoring_details import live_latency_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.commands.evaluation_report import Stretch
    from edge.scoring import ScoredRecording, Times

    Sets = dict[str, list[ScoredRecording]]

BLUE, ORANGE, GREY, RED = "#1f77b4", "#ff7f0e", "#8c8c8c", "#c23b22"
DPI = 110
MOST_BARS = 24
NAMED_LINES = 3
LATENCY_BIN_S, HELD_BIN_S = 0.02, 0.2
NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture and what to say about it."""

    file_name: str
    title: str
    caption: str
    png: bytes


def draw(sets: Sets, figures: dict[str, Any], stretches: list[Stretch]) -> list[Picture]:
    """Return every picture that there is something to draw for."""
    mpl.use("Agg")
    walks = {name: rows for name, kept in sets.items() if (rows := [r for r in kept if r.f1 is not None])}
    bars = _bars(figures)
    pictures = []
    for number, stretch in enumerate(stretches):
        pictures.append(_picture(f"walk-{number + 1}.png", f"A walk, {stretch.title}", _WALK, _walk, stretch))
    if walks:
        pictures.append(_picture("errors.png", "Errors of time and of count", _ERRORS, _errors, walks))
        pictures.append(_picture("recordings.png", "F1 of each recording", _RECORDINGS, _recordings, walks))
    if bars:
        pictures.append(_picture("activities.png", "False steps by activity", _ACTIVITIES, _activities, bars))
    if any(len(live_latency_s(r)[0]) for r in chain(*walks.values())):
        pictures.append(_picture("latency.png", "From a step to its event", _LATENCY, _latency, walks))
    return pictures


_WALK = (
    "Below the acceleration, true and published steps, in red those that match none of the others within 0.25 s (after "
    "the data set's offset, which is not drawn), grey where nothing is labelled nor scored; below those, how likely a "
    "step is, with its threshold, and how likely somebody walks, as known at that time: a walk begins above the upper "
    "dotted line and ends below the lower one."
)
_ERRORS = (
    "Left: published minus true time of the steps that match within 0.25 s, after one offset per data set. Right: "
    "steps invented minus steps missed so far, a line for each recording; those that end farthest off have names."
)
_RECORDINGS = "One dot per recording, from the worst to the best of its data set; the worst of each has its name."
_ACTIVITIES = "Steps found more than 2 s from any true one, per hour of such time, and how many in how many hours."
_LATENCY = (
    "Published minus time stamp of the steps that match a true one. Right: those held back until their walk was sure, "
    "published together."
)


def _picture(file_name: str, title: str, caption: str, painter: Callable[..., None], subject: Any) -> Picture:
    figure = Figure(dpi=DPI, layout="constrained")
    painter(figure, subject)
    buffer = io.BytesIO()
    # Neither date nor version: the same figures give the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(file_name, title, caption, buffer.getvalue())


def _walk(figure: Any, stretch: Stretch) -> None:
    figure.set_size_inches(10, 4.5)
    above, marks, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 0.8, 2))
    above.plot(stretch.acceleration_s, stretch.acceleration, color=BLUE, linewidth=0.8)
    above.set(ylabel="|acc| in m/s²", title=stretch.title)
    rows = [stretch.true_s, stretch.predicted_s, stretch.missed_s, stretch.invented_s]
    marks.eventplot(rows, lineoffsets=[1, 0, 1, 0], colors=["black", ORANGE, RED, RED], linelengths=0.8, linewidths=1.8)
    marks.set_yticks([1, 0], [f"{len(stretch.true_s)} true", f"{len(stretch.predicted_s)} published"])
    marks.set_ylim(-0.6, 1.6)
    below.plot(stretch.probability_s, stretch.probability, color=ORANGE, linewidth=1, label="step")
    below.axhline(stretch.threshold, color=GREY, linestyle="--", linewidth=0.8)
    if stretch.gate is not None:
        below.plot(stretch.walking_s, stretch.walking, color=BLUE, linewidth=1, label="walking")
        for level in (stretch.gate.on, stretch.gate.off):
            below.axhline(level, color=BLUE, linestyle=":", linewidth=0.8)
        below.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize="small", frameon=False, borderpad=0
        )
    below.set(ylabel="probability", xlabel="s", ylim=(-0.03, 1.05))
    for begin_s, end_s in stretch.unlabelled_s:
        marks.axvspan(begin_s, end_s, color="#e4e4e4", linewidth=0)
    if len(stretch.acceleration_s):
        below.set_xlim(stretch.acceleration_s[0], stretch.acceleration_s[-1])


def _errors(figure: Any, walks: Sets) -> None:
    figure.set_size_inches(11, 4.2)
    left, right = figure.subplots(1, 2)
    edges = np.linspace(-0.25, 0.25, 51)
    for name, recordings in walks.items():
        late_s = np.array([r.predicted_s[j] - r.true_s[i] for r in recordings for i, j in r.pairs])
        if len(late_s):
            share = np.full(len(late_s), 100 / len(late_s))
            label = f"{name}: {1000 * late_s.mean():+.0f} ± {1000 * late_s.std():.0f} ms"
            left.hist(late_s, edges, weights=share, histtype="step", linewidth=1.5, label=label)
    left.axvline(0, color=GREY, linewidth=0.8)
    left.set(xlabel="published minus true, s", ylabel="% of the matched steps")
    if left.patches:
        left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small", frameon=False)
    else:
        left.text(0.5, 0.5, "no step found within 0.25 s of a true one", transform=left.transAxes, ha="center")
    every = sorted(chain(*walks.values()), key=lambda r: -abs(len(r.predicted_s) - len(r.true_s)))
    for rank, r in reversed(list(enumerate(every))):
        time_s, error = _count_error(r)
        style: dict[str, Any] = {"color": "#c8c8c8", "linewidth": 0.8}
        if rank < NAMED_LINES and len(every) > 1:
            style = {"label": brief(f"{r.dataset} {r.name}", NAME_LENGTH), "linewidth": 1.5}
        right.step(time_s, error, where="post", **style)
    right.axhline(0, color=GREY, linewidth=0.8)
    right.set(xlabel="s from the start of the recording", ylabel="steps invented minus steps missed so far")
    if len(every) > 1:
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small", frameon=False)


def _count_error(r: ScoredRecording) -> tuple[Times, Times]:
    missed_s, invented_s = r.unmatched_s
    time_s = np.concatenate([invented_s, missed_s])
    change = np.concatenate([np.ones(len(invented_s)), -np.ones(len(missed_s))])
    order = np.argsort(time_s, kind="stable")
    return np.concatenate([[0.0], time_s[order], [r.duration_s]]), np.append(
        0.0, np.cumsum(np.append(change[order], 0.0))
    )


def _recordings(figure: Any, walks: Sets) -> None:
    figure.set_size_inches(9, 1.2 + 0.9 * len(walks))
    axis = figure.subplots()
    lowest = 100 * min(r.f1 or 0.0 for r in chain(*walks.values()))
    for place, recordings in enumerate(reversed(walks.values())):
        ranked = sorted(recordings, key=lambda r: (r.f1, r.name))
        f1 = 100 * np.array([r.f1 for r in ranked])
        # Dots of one set rise from the worst to the best, so that equal ones do not hide each other.
        height = place + (np.linspace(-0.3, 0.3, len(f1)) if len(f1) > 1 else np.zeros(1))
        axis.plot(f1, height, "o", markersize=4, color=BLUE, alpha=0.7, clip_on=False)
        # Towards the middle of the picture, whose left end is the worst recording of all.
        side = "left" if f1[0] < (lowest + 100) / 2 else "right"
        below = {"xytext": (-3, -5), "textcoords": "offset points", "va": "top", "ha": side}
        axis.annotate(brief(ranked[0].name, NAME_LENGTH), (f1[0], height[0]), fontsize=7, **below)
        axis.plot([np.median(f1)] * 2, [place - 0.36, place + 0.36], color=ORANGE, linewidth=1.5)
        axis.annotate(
            f"{np.median(f1):.1f}", (np.median(f1), place + 0.37), ha="center", va="bottom", fontsize=7, color=ORANGE
        )
    axis.set_yticks(range(len(walks)), list(reversed(walks)))
    axis.set_ylim(-0.6, len(walks) - 0.35)
    axis.set_xlabel("F1 at ±0.25 s, % (line: median)")
    axis.grid(axis="x", alpha=0.3)


def _bars(figures: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [
        (f"{row['dataset']}, {each['activity']}", each)
        for row in figures["datasets"]
        for each in row["activities"]
        if each["false_steps_per_hour"]
    ]
    return sorted(found, key=lambda each: -float(each[1]["false_steps_per_hour"]))[:MOST_BARS]


def _activities(figure: Any, bars: list[tuple[str, dict[str, Any]]]) -> None:
    figure.set_size_inches(8, 1.0 + 0.28 * len(bars))
    axis = figure.subplots()
    place = np.arange(len(bars))[::-1]
    height = [each["false_steps_per_hour"] for _, each in bars]
    drawn = axis.barh(place, height, height=0.7, color=RED)
    labels = [f" {each['false_steps']} in {each['non_walking_hours']:.2f} h" for _, each in bars]
    axis.bar_label(drawn, labels, fontsize=7)
    axis.set_yticks(place, [name for name, _ in bars], fontsize=8)
    axis.set_xlim(0, 1.2 * max(height))
    axis.set_xlabel("false steps per hour")


def _latency(figure: Any, walks: Sets) -> None:
    figure.set_size_inches(10, 3.8)
    found = [live_latency_s(r) for r in chain(*walks.values())]
    live_s, held_s = (np.concatenate([each[kind] for each in found]) for kind in (0, 1))
    axis, *others = figure.subplots(1, 2 if len(held_s) else 1, squeeze=False)[0]
    axis.hist(live_s, _edges(live_s, LATENCY_BIN_S), color=BLUE)
    for percent, style in ((50, "-"), (99, "--")):
        value_s = float(np.percentile(live_s, percent))
        axis.axvline(value_s, color="black", linestyle=style, linewidth=1, label=f"p{percent}: {value_s:.2f} s")
    axis.set(title=f"{len(live_s)} live", xlabel="published minus time stamp, s", ylabel="steps")
    axis.legend()
    for other in others:
        other.hist(held_s, _edges(held_s, HELD_BIN_S), color=ORANGE)
        median_s = float(np.median(held_s))
        other.axvline(median_s, color="black", linewidth=1, label=f"p50: {median_s:.2f} s")
        other.set(title=f"{len(held_s)} back-filled, at the ends of walks", xlabel="published minus time stamp, s")
        other.legend()


def _edges(values: Times, bin_s: float) -> Times:
    edges: Times = np.arange(min(0.0, float(values.min())), float(values.max()) + 2 * bin_s, bin_s)
    return edges
