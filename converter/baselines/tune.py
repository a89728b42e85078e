"""`python -m converter.baselines.tune`: chooses the parameters on the training people, by a small grid."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.baselines.detectors import BandPassPeaks, BoutGate, Detector, FirmwareCounter, WindowedPeaks
from converter.baselines.parameters import FILE, as_json
from converter.baselines.people import Sample, is_training, samples
from edge.errors import FootfallError
from edge.evaluate import scored_recording
from edge.progress import Progress
from edge.scoring import score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.baselines.signals import Signal

F1_SLACK = 0.003
"""Differences below 0.3 points mean nothing with so few people; within them fewer false steps decide."""
GRIDS: dict[str, list[Detector]] = {
    "band-pass peaks": [
        BandPassPeaks(*point)
        for point in product((0.4, 0.7, 1.0), (2.0, 2.5, 3.0), (0.3, 0.5, 0.8, 1.2), (0.30, 0.35, 0.40))
    ],
    "Brajdic & Harle": [
        WindowedPeaks(*point) for point in product((0.12, 0.20, 0.31), (0.45, 0.52, 0.59), (0.4, 0.6, 0.9, 1.2))
    ],
    "firmware counter": [
        FirmwareCounter(*point) for point in product((0.9, 1.2, 1.5), (2.4, 2.8, 3.2), (0.15, 0.3, 0.5, 0.8))
    ],
}
GATES = [BoutGate(*point) for point in product((3, 4, 6, 8, 10), (0.2, 0.3, 0.5), (1.0, 1.5))]


@dataclass(frozen=True, slots=True)
class Tried:
    """A point of a grid; f1: mean over the data sets with steps."""

    point: Any
    f1: float
    false_steps_per_hour: float


def tune(recordings: Sequence[Sample]) -> dict[str, Any]:
    """Return what parameters.json holds: the best detector of each kind, then the best gate for that."""
    found = {}
    with Progress("tuning", sum(map(len, GRIDS.values())) + len(GRIDS) * len(GATES)) as progress:
        for name, grid in GRIDS.items():
            tried = []
            for detector in grid:
                tried.append(_tried(detector, recordings, [detector.steps_s(r.magnitude) for r in recordings]))
                progress.advance(1)
            plain = best(tried)
            steps_s = [plain.point.steps_s(r.magnitude) for r in recordings]
            gated = []
            for gate in GATES:
                gated.append(_tried(gate, recordings, [gate.passed_s(each) for each in steps_s]))
                progress.advance(1)
            found[name] = as_json(plain.point, best(gated).point, _figures(plain, best(gated)))
    return found


def best(tried: Sequence[Tried]) -> Tried:
    """Return the point with the fewest false steps of those at most F1_SLACK below the top."""
    top = max(each.f1 for each in tried)
    good = [each for each in tried if each.f1 >= top - F1_SLACK]
    return min(good, key=lambda each: (each.false_steps_per_hour, -each.f1))


def _tried(point: Any, recordings: Sequence[Sample], steps_s: Sequence[Signal]) -> Tried:
    report = score(scored_recording(r.labels, found) for r, found in zip(recordings, steps_s, strict=True))
    f1 = float(np.mean([row["f1_250ms"] for row in report["datasets"] if row["true_steps"]]))
    return Tried(point, f1, report["total"]["false_steps_per_hour"])


def _figures(plain: Tried, gated: Tried) -> dict[str, float]:
    return {
        "f1_250ms": round(plain.f1, 4),
        "false_steps_per_hour": round(plain.false_steps_per_hour, 1),
        "gated_f1_250ms": round(gated.f1, 4),
        "gated_false_steps_per_hour": round(gated.false_steps_per_hour, 1),
    }


def main() -> int:
    """Write parameters.json; returns 0, or 2 when there is nothing to tune on."""
    parser = argparse.ArgumentParser(prog=".venv-converter/bin/python -m converter.baselines.tune", description=__doc__)
    parser.add_argument("recordings", type=Path, help="the folder of the public recordings")
    parser.add_argument("--output", type=Path, default=FILE, help="default: beside the code")
    arguments = parser.parse_args()
    try:
        found = tune(samples(arguments.recordings, is_training))
    except FootfallError as error:
        print(f"tune: {error}", file=sys.stderr)
        return 2
    arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
