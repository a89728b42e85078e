"""Threshold and gate: chosen on people held out of training, by how many steps a day would be counted wrongly."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from converter.found import Decision, steps_s
from converter.shape import LOOKBACKS
from edge.bouts import Gate
from edge.scoring import ScoredRecording, align, bout_edges, row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.dataset import Track
    from converter.found import Answers
    from edge.types import TimeArray

LOOKAHEAD = 5
"""Frames; of LOOKAHEADS the one that the device waits: 0.2 s. On people left out, 0.12 s counts
who runs down stairs 4 % short, 0.24 s loses last steps (docs/experiments.md)."""
THRESHOLDS = (0.4, 0.45, 0.5)
"""0.55 counts who goes down stairs up to 6 % short (docs/experiments.md)."""
FIRSTS, LASTS = (None, 0.1, 0.2), (None, 0.4)
"""What a walk's first and last step may do with (edge.bouts). A last one of 0.35 is often somebody who stops: MAPE of
people left out 1.5 instead of 1.4 % (docs/experiments.md)."""
REFRACTORY_S = 0.24
"""No longer: runners take up to four steps per second. Shorter brings nothing (docs/experiments.md)."""
ONS = (0.9, 0.95, 0.97)
OFF = 0.2
BACKFILL_S = 4.0
"""How much of a bout's start may be released, beyond the time that the walking head looks back."""
PATIENCE_S = 20.0
"""How much of it while a walk has been possible: 12 s lose steps of who goes down stairs, 30 s gain none
(docs/experiments.md)."""
LEAST = 4
"""Strong steps that a walk begins with: fewer are mostly somebody who sits down or bends (docs/experiments.md)."""
DAY_STEPS, DAY_BOUTS, DAY_STILL_H, DAY_SHAKEN_H = 5000, 250, 8, 0.5
"""An ordinary day, to weigh kinds of errors against each other: steps, walks of 20 on average (an assumption: most
walks are short, few are long), hours of busy hands, hours in a vehicle or at a machine (an assumption too)."""
SHAKEN = "shaken"
"""The data set of people who do not walk but are shaken (converter.vibration)."""
ALIKE = 1.03
"""Points whose days differ by less than this factor are alike: another seed moves F1 alone by as much."""
MAX_WAIT_S = 2.0
"""How long the walking head may look back: so late is the start of a walk published."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A choice and what it gave on the people it was chosen on: means over data sets, so that none outweighs another.

    lookback: hops, of LOOKBACKS. missed_inside: share of the steps that neither begin nor end a walk; invented: steps
    that match none, as a share of the true ones. shaken_steps_per_hour: false ones of people who are shaken.
    """

    threshold: float
    refractory_s: float
    gate: Gate
    lookback: int
    f1_250ms: float
    missed_inside: float
    invented: float
    first_step_recall: float
    last_step_recall: float
    false_steps_per_hour: float
    shaken_steps_per_hour: float

    @property
    def wrong_per_day(self) -> float:
        """Expected number of wrong steps in an ordinary day, each counted once."""
        inside = (DAY_STEPS - 2 * DAY_BOUTS) * self.missed_inside + DAY_STEPS * self.invented
        ends = DAY_BOUTS * (2 - self.first_step_recall - self.last_step_recall)
        return inside + ends + DAY_STILL_H * self.false_steps_per_hour + DAY_SHAKEN_H * self.shaken_steps_per_hour


def load_point(path: Path) -> OperatingPoint:
    """Return the point that a training run chose, from its `.train.json`."""
    found = json.loads(path.read_text(encoding="utf-8"))["chosen"]
    names = {entry.name for entry in fields(OperatingPoint)}
    return OperatingPoint(**{key: found[key] for key in names} | {"gate": Gate(**found["gate"])})


def choose(
    tracks: Sequence[Track], answers: Sequence[Answers], hop_s: float
) -> tuple[OperatingPoint, list[OperatingPoint]]:
    """Return the best point and all that were tried. hop_s: seconds between two walking probabilities."""
    tried = []
    waits = [lookback for lookback in LOOKBACKS if 0 < lookback * hop_s <= MAX_WAIT_S]
    grid = list(product(THRESHOLDS, ONS, waits, FIRSTS, LASTS))
    for threshold, on, lookback, first, last in tqdm(grid, "trying thresholds and gates", mininterval=2.0):
        gate = Gate(on, OFF, round(lookback * hop_s + BACKFILL_S, 2), first, LEAST, last, PATIENCE_S)
        tried.append(measure(tracks, answers, threshold, gate, lookback))
    return best(tried), tried


def best(tried: Sequence[OperatingPoint]) -> OperatingPoint:
    """Return the point with the fewest wrong steps; of those that are alike the one with the highest threshold.

    A missed half-step is forgiven, an invented one is not.
    """
    limit = ALIKE * min(point.wrong_per_day for point in tried)
    alike = [point for point in tried if point.wrong_per_day <= limit]
    return min(alike, key=lambda point: (-point.threshold, point.wrong_per_day))


def measure(
    tracks: Sequence[Track], answers: Sequence[Answers], threshold: float, gate: Gate, lookback: int
) -> OperatingPoint:
    """Score one choice on tracks whose labels tell steps, or that there are none."""
    decision = Decision(threshold, REFRACTORY_S, gate, LOOKAHEAD, lookback)
    scored = [_scored(track, steps_s(said, decision)) for track, said in zip(tracks, answers, strict=True)]
    aligned = align(scored)
    table = {name: row(name, shifted) | _wrong_inside(shifted) for name, shifted in aligned.items()}
    shaken = table.pop(SHAKEN, {"false_steps_per_hour": 0.0})
    rows = [*table.values()]
    return OperatingPoint(
        threshold=threshold,
        refractory_s=REFRACTORY_S,
        gate=gate,
        lookback=lookback,
        f1_250ms=_mean(rows, "f1_250ms"),
        missed_inside=_mean(rows, "missed_inside"),
        invented=_mean(rows, "invented"),
        first_step_recall=_mean(rows, "first_step_recall_250ms"),
        last_step_recall=_mean(rows, "last_step_recall_250ms"),
        false_steps_per_hour=_mean([row for row in rows if not row["true_steps"]], "false_steps_per_hour"),
        shaken_steps_per_hour=round(shaken["false_steps_per_hour"], 2),
    )


def _wrong_inside(recordings: Sequence[ScoredRecording]) -> dict[str, float]:
    """Return the shares of steps missed inside walks and of steps invented."""
    missed = inside = invented = true = 0
    for recording in recordings:
        ends = {int(index) for indices in bout_edges(recording.true_s) for index in indices}
        found = {index for index, _ in recording.pairs}
        missed += len(set(range(len(recording.true_s))) - ends - found)
        inside += len(recording.true_s) - len(ends)
        invented += len(recording.predicted_s) - len(found)
        true += len(recording.true_s)
    return {"missed_inside": missed / max(inside, 1), "invented": invented / max(true, 1)}


def _mean(rows: Sequence[dict[str, Any]], figure: str) -> float:
    """Return the mean size of a figure over the data sets that have it; 0 if none has."""
    sizes = [abs(row[figure]) for row in rows if row[figure] is not None and (row["true_steps"] or "false" in figure)]
    return round(float(np.mean(sizes)), 5) if sizes else 0.0


def _scored(track: Track, found_s: TimeArray) -> ScoredRecording:
    """Pair a track with what was found; an instant whose label is unknown counts neither way."""
    known = track.known[np.minimum((found_s * len(track.known) / track.seconds).astype(int), len(track.known) - 1)]
    whole = bool(track.known.all())
    return ScoredRecording(
        dataset=track.dataset,
        subject=track.subject,
        name="",
        duration_s=track.seconds,
        steps_known=("all" if track.walks else "zero") if whole else "bouts",
        true_s=track.steps_s,
        predicted_s=found_s[known & (found_s <= track.seconds)],
    )
