"""A model that finds no step, or nothing but steps: every proof passes, for int8 is as dead as the Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converter.spec import Spec
    from edge.types import FloatArray

MIN_SPREAD = 0.01
"""Answers that differ by less over all calibration windows say nothing about them; that is three levels of int8."""


def lifeless(spec: Spec, floats: FloatArray) -> list[str]:
    """Return a warning if the Keras model's answers [n, …] to the calibration windows tell no step from none."""
    steps = spec.column(floats, spec.step_class)
    low, high = float(steps.min()), float(steps.max())
    if high - low >= MIN_SPREAD and low < spec.threshold <= high:
        return []
    said = f"the Keras model answers {low:.2f} to {high:.2f} on every calibration window"
    if low >= spec.threshold and high - low >= MIN_SPREAD:
        return [f"{said}, never below the threshold {spec.threshold:g}: all is a step to it; look at its training"]
    cause = f", never the threshold {spec.threshold:g}" if high < spec.threshold else ""
    advice = "check units and channels, calibrate on recordings with steps, or train it longer"
    return [f"{said}{cause}: it finds no step; {advice}"]
