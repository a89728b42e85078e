"""The range of the int8 input: found in the calibration windows, and warned about when 8 bits are wasted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.spec import NO_RANGE

if TYPE_CHECKING:
    from converter.calibration import Calibration
    from converter.spec import Spec
    from edge.types import FloatArray

LEVELS = 255
QUANTILE = 0.999
HEADROOM = 1.5
"""A derived range goes this much beyond the 99.9 % quantile of the magnitudes: other people step harder."""
DIGITS = 2
MIN_WINDOWS = 100
MIN_SECONDS = 60.0
MAX_STILL = 0.9
COARSE = 3.0
"""A range this many times the 99.9 % quantile leaves fewer than 7 of the 8 bits to ordinary walking."""
MAX_CLIPPED = 0.01
MIN_LEVELS = 32
"""Fewer int8 levels than this for one sensor's usual values: 5 bits."""


@dataclass(frozen=True, slots=True)
class CalibrationSummary:
    """What the model was calibrated on, for the report; warnings: what is wrong with it, one sentence each."""

    windows: int
    recordings: int
    seconds: float
    still_share: float
    quantile_999: float
    largest: float
    clipped_share: float
    input_range: tuple[float, float]
    strata: dict[str, int]
    activities: dict[str, int]
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self) | {"input_range": list(self.input_range), "warnings": list(self.warnings)}


def found_range(windows: FloatArray) -> tuple[float, float]:
    """Return a symmetric (low, high) that holds nearly all values, so that one knock does not set the resolution."""
    edge = _usual(windows)
    reach = min(HEADROOM * edge, float(np.abs(windows).max())) or 1.0
    rounded = float(f"{reach:.{DIGITS}g}")
    return -rounded, rounded


def _usual(windows: FloatArray) -> float:
    """Return the 99.9 % quantile of the magnitudes in the channel where it is largest."""
    by_channel = np.abs(windows).reshape(-1, windows.shape[-1])
    return float(np.quantile(by_channel, QUANTILE, axis=0).max())


def summarise(drawn: Calibration, windows: FloatArray, spec: Spec, *, window_samples: int) -> CalibrationSummary:
    """Return the figures and the warnings. windows: normalised, not yet clipped; the spec's range is set."""
    low, high = spec.input_range
    magnitudes = np.abs(windows)
    summary = CalibrationSummary(
        windows=len(windows),
        recordings=drawn.recordings,
        seconds=round(drawn.seconds, 1),
        still_share=round(float(drawn.still.mean()), 3),
        quantile_999=round(_usual(windows), 3),
        largest=round(float(magnitudes.max()), 3),
        clipped_share=round(float(((windows < low) | (windows > high)).mean()), 6),
        input_range=spec.input_range,
        strata=drawn.strata,
        activities=drawn.activities,
        warnings=(),
    )
    warnings = (*_scarce(summary, spec, window_samples), *_lacking(drawn, spec), *_coarse(summary, windows, spec))
    return CalibrationSummary(**{**{key: getattr(summary, key) for key in asdict(summary)}, "warnings": warnings})


def clipped(windows: FloatArray, spec: Spec) -> FloatArray:
    """Return the windows as the int8 input will saturate them."""
    inside: FloatArray = np.clip(windows, *spec.input_range).astype(np.float32)
    return inside


def has_range(spec: Spec) -> bool:
    """Whether the spec says the input range itself."""
    return spec.input_range != NO_RANGE


def _scarce(summary: CalibrationSummary, spec: Spec, window_samples: int) -> list[str]:
    found = []
    separate = int(summary.seconds * spec.sampling_rate_hz / window_samples)
    if summary.seconds < MIN_SECONDS or min(separate, summary.windows) < MIN_WINDOWS:
        found.append(
            f"the calibration set is small: {summary.seconds:.0f} s in {summary.recordings} recordings, {separate} "
            f"separate windows; wanted: {MIN_SECONDS:.0f} s and {MIN_WINDOWS} windows; record more with footfall record"
        )
    if summary.still_share > MAX_STILL:
        found.append(
            f"the device hardly moves in {summary.still_share:.0%} of the calibration windows (at most {MAX_STILL:.0%} "
            "is fine): ranges found at rest saturate in a walk; add recordings of walking"
        )
    return found


def _lacking(drawn: Calibration, spec: Spec) -> list[str]:
    if not drawn.lacking:
        return []
    names = ", ".join(name for name in spec.channels if name.startswith("gyr")) or ", ".join(spec.channels)
    total = drawn.lacking + drawn.recordings
    return [f"{drawn.lacking} of {total} recordings drawn have no {names} and were left out"]


def _coarse(summary: CalibrationSummary, windows: FloatArray, spec: Spec) -> list[str]:
    low, high = spec.input_range
    reach = max(-low, high)
    found = []
    if reach > COARSE * summary.quantile_999:
        found.append(
            f"the input range {low:g} to {high:g} is {reach / max(summary.quantile_999, 1e-9):.1f} times the 99.9 % "
            f"quantile of the calibration, {summary.quantile_999:g}: one int8 step is {(high - low) / LEVELS:.3g}; "
            f"input_range [{-2 * summary.quantile_999:.3g}, {2 * summary.quantile_999:.3g}] would be finer"
        )
    elif summary.largest > 2 * reach:
        found.append(
            f"outliers up to {summary.largest:g} lie beyond the input range {low:g} to {high:g} and saturate "
            f"({summary.clipped_share:.2%} of the values); look at the recordings if that is more than a knock"
        )
    elif summary.clipped_share > MAX_CLIPPED:
        found.append(
            f"{summary.clipped_share:.0%} of the calibration values lie beyond the input range {low:g} to {high:g} and "
            f"saturate; allowed without a word: {MAX_CLIPPED:.0%}; say --input-range or leave it out"
        )
    for kind in ("acc", "gyr"):
        columns = [number for number, name in enumerate(spec.channels) if name.startswith(kind)]
        usual = float(np.quantile(np.abs(windows[:, :, columns]), QUANTILE)) if columns else reach
        levels = 2 * usual / (high - low) * LEVELS
        if levels < MIN_LEVELS:
            found.append(
                f"the {kind} channels use only {levels:.0f} of {LEVELS} int8 levels (99.9 % of their values within "
                f"{usual:.3g} of an input range {low:g} to {high:g}); train with inputs in g and rad/s (--units g)"
            )
    return found
