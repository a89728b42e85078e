"""The record of a training run: `NAME.train.json` for programs, a picture of the loss for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path


def write_train_report(model: Path, facts: dict[str, Any]) -> None:
    """Write the facts, and beside them the loss and the operating points that were tried as one picture."""
    model.with_suffix(".train.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, points in facts["loss"].items():
        left.plot(*zip(*points, strict=True), label=name.replace("_", " "))
    left.set(yscale="log", xlabel="training step", ylabel="loss", title="Loss")
    left.legend()
    _operating_points(right, facts)
    figure.savefig(model.with_suffix(".train.png"), dpi=120, metadata={"Software": None})
    plt.close(figure)


def _operating_points(axes: Any, facts: dict[str, Any]) -> None:
    for threshold in sorted({point["threshold"] for point in facts["tried"]}):
        points = [point for point in facts["tried"] if point["threshold"] == threshold]
        false = [point["false_steps_per_hour"] for point in points]
        axes.plot(false, [100 * point["f1_250ms"] for point in points], ".", label=f"threshold {threshold}")
    chosen = facts["chosen"]
    axes.plot(chosen["false_steps_per_hour"], 100 * chosen["f1_250ms"], "o", ms=10, mfc="none", color="black")
    axes.set(xlabel="false steps per hour", ylabel="F1 at 0.25 s, %", title="Held-out people: gates tried, one a dot")
    axes.legend()
