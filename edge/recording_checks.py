"""Could these numbers be an IMU recording in SI units? Every refusal says where, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import RecordingError
from edge.types import IMU_CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Locate = Callable[[int], str]
    """Where the reader of a message finds sample i: `line 17` of a CSV, `sample 15` of an `.npz`."""

MIN_SAMPLES = 10
MAX_SAMPLES = 2**25
"""More would not fit the memory of a small board; at 100 Hz it is close to four days."""

LARGEST = 1e9
"""Beyond, a number comes from no sensor in any unit, not even as raw counts."""

RATE_RANGE_HZ = (10.0, 8000.0)
"""Below, two steps a second cannot be told apart; above lies no IMU that measures people."""

STANDARD_GRAVITY = 9.80665

ACC_MEDIAN_RANGE = (0.5 * STANDARD_GRAVITY, 3.0 * STANDARD_GRAVITY)
"""m/s². Public recordings have medians of |acc| from 7.6 (a chip with 2 m/s² bias) to 17.8 (the ankle of a runner)."""

GYR_LIMIT = 35.0
"""rad/s that 99 % of the samples stay below: 2000 °/s, full scale of nearly every chip."""

_STEP_MARGIN_S = 2.0


def brief(text: object, characters: int = 120) -> str:
    """Return the first line of a text that somebody else wrote, short enough for a message."""
    line = " ".join(str(text)[: 4 * characters].split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def check_intervals(path: Path, value: npt.NDArray[Any] | None, last_s: float) -> npt.NDArray[np.float64] | None:
    """Labelled intervals as float64 [M, 2] s; raise RecordingError unless each begins before it ends.

    last_s: the recording's last sample; an interval that lies wholly outside is on another clock.
    """
    if value is None or value.size == 0:
        return None
    pairs = np.atleast_2d(value)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "fiu":
        raise RecordingError(f"{path}: 'label_intervals' has shape {list(value.shape)}; allowed is [M, 2] in seconds")
    good = np.isfinite(pairs).all(axis=1) & (pairs[:, 0] < pairs[:, 1])
    if not good.all():
        first = int(np.argmin(good))
        begin, end = pairs[first]
        raise RecordingError(
            f"{path}: label interval {first} is from {begin:g} to {end:g} s; each must begin before it ends"
        )
    outside = (pairs[:, 0] > last_s) | (pairs[:, 1] < 0)
    if outside.any():
        first = int(np.argmax(outside))
        begin, end = pairs[first]
        raise RecordingError(
            f"{path}: label interval {first} is from {begin:g} to {end:g} s, the recording is from 0 to {last_s:g} s; "
            "labels are seconds on the clock of the recording"
        )
    return pairs.astype(np.float64)


def check_activity(path: Path, value: npt.NDArray[Any] | None, samples: int) -> npt.NDArray[np.int64] | None:
    """Activity codes as int64 [N]; raise RecordingError unless there is a whole number for each sample."""
    if value is None:
        return None
    if value.shape != (samples,):
        raise RecordingError(f"{path}: 'activity' has shape {list(value.shape)}; allowed is [{samples}], as 'imu'")
    if value.dtype.kind not in "biuf" or not (np.abs(value) < LARGEST).all() or (value % 1).any():
        raise RecordingError(
            f"{path}: 'activity' is {value.dtype}, not whole numbers; save codes, and their meaning as 'activity_names'"
        )
    return value.astype(np.int64)


def check_names(path: Path, value: npt.NDArray[Any] | None) -> tuple[str, ...]:
    """Names of the activity codes; raise RecordingError unless they are a list of texts."""
    if value is None:
        return ()
    if value.ndim != 1 or value.dtype.kind != "U":
        shape = list(value.shape)
        raise RecordingError(f"{path}: 'activity_names' is {value.dtype} {shape}; allowed is a list of texts")
    return tuple(map(str, value))


def check_samples(path: Path, time_s: npt.NDArray[np.float64], imu: npt.NDArray[np.float32], locate: Locate) -> None:
    """Raise RecordingError unless these are enough samples in time order and in SI units."""
    if len(time_s) < MIN_SAMPLES:
        raise RecordingError(f"{path}: {len(time_s)} samples; at least {MIN_SAMPLES} are needed: record for longer")
    _check_time(path, time_s, locate)
    _check_present(path, imu, locate)
    _check_acc_unit(path, imu)
    _check_gyr_unit(path, imu, locate)


def check_steps(
    path: Path, steps: npt.NDArray[Any] | None, steps_known: str, last_s: float
) -> npt.NDArray[np.float64] | None:
    """Step labels as sorted float64 s; raise RecordingError unless they fit a recording that ends at last_s."""
    if steps is None:
        if steps_known in ("all", "bouts", "quasi"):
            raise RecordingError(
                f"{path}: steps_known is {steps_known!r} but there are no steps; add them or say 'none'"
            )
        return np.empty(0) if steps_known == "zero" else None
    if steps.ndim != 1 or steps.dtype.kind not in "fiu":
        raise RecordingError(f"{path}: 'steps' is {steps.dtype} {list(steps.shape)}; allowed is [K] in seconds")
    if steps_known == "zero" and steps.size:
        raise RecordingError(
            f"{path}: steps_known is 'zero' but {steps.size} steps are labelled; say 'all' or remove them"
        )
    inside = (steps >= -_STEP_MARGIN_S) & (steps <= last_s + _STEP_MARGIN_S)
    if not inside.all():
        first = int(np.argmin(inside))
        raise RecordingError(
            f"{path}: step label {first} is at {steps[first]:g} s, the recording runs from 0 to {last_s:g} s; "
            "labels are seconds on the clock of the recording"
        )
    return np.sort(steps.astype(np.float64))


def _check_time(path: Path, time_s: npt.NDArray[np.float64], locate: Locate) -> None:
    bad = np.flatnonzero(~np.isfinite(time_s))
    if bad.size:
        raise RecordingError(f"{path}: {locate(int(bad[0]))}, column time_s: {time_s[bad[0]]} is not a time in seconds")
    period_s = np.diff(time_s)
    back = np.flatnonzero(period_s <= 0)
    if back.size:
        i = int(back[0]) + 1
        order = f"{_time(time_s[i])} follows {_time(time_s[i - 1])}"
        raise RecordingError(
            f"{path}: {locate(i)}, column time_s: {order}; times must increase: sort the rows and remove repeated ones"
        )
    rate_hz = 1.0 / float(np.median(period_s))
    low_hz, high_hz = RATE_RANGE_HZ
    if not low_hz <= rate_hz <= high_hz:
        thousandth = low_hz <= 1e3 * rate_hz <= high_hz
        hint = "it looks like milliseconds: divide by 1000" if thousandth else "time_s is in seconds"
        raise RecordingError(
            f"{path}: column time_s: {rate_hz:g} samples per second; allowed is {low_hz:g} to {high_hz:g}; {hint}"
        )


def _time(seconds: np.float64) -> str:
    return f"{seconds:.6f}" if abs(seconds) < LARGEST else f"{seconds:g}"


def _check_present(path: Path, imu: npt.NDArray[np.float32], locate: Locate) -> None:
    finite = np.isfinite(imu) & ~(np.abs(imu) > LARGEST)
    if finite.all():
        return
    if not finite[:, :3].any():
        raise RecordingError(f"{path}: columns acc_x to acc_z hold no number at all; an accelerometer is needed")
    no_gyroscope = bool(np.isnan(imu[:, 3:]).all())
    allowed = finite[:, :3] if no_gyroscope else finite
    if allowed.all():
        return
    sample, channel = (int(i) for i in np.argwhere(~allowed)[0])
    if channel < 3:
        hint = "leave such rows out of a .csv: a gap in time_s is understood"
    else:
        hint = "a recording without gyroscope has nan in all of gyr_x to gyr_z, one with it has numbers everywhere"
    value = imu[sample, channel]
    what = "not a number" if not np.isfinite(value) else "no value of a sensor"
    raise RecordingError(f"{path}: {locate(sample)}, column {IMU_CHANNELS[channel]}: {value:g} is {what}; {hint}")


def _check_acc_unit(path: Path, imu: npt.NDArray[np.float32]) -> None:
    norm = np.linalg.norm(imu[:, :3], axis=1)
    median = float(np.median(norm))
    low, high = ACC_MEDIAN_RANGE
    if low <= median <= high:
        return
    raise RecordingError(
        f"{path}: columns acc_x to acc_z: median |acc| is {median:.4g}, gravity alone is 9.81 m/s² "
        f"(allowed {low:.1f} to {high:.1f}); {_acc_hint(median, float(np.percentile(norm, 10)))}"
    )


def _acc_hint(median: float, quiet: float) -> str:
    if 500.0 < median < 3000.0 and quiet > 0.4 * median:
        return "looks like thousandths of g: multiply by 0.00980665"
    if median > ACC_MEDIAN_RANGE[1]:
        return "looks like raw counts: multiply by the sensor's full scale in m/s² / 32768"
    no_gravity = "gravity is missing: record the raw accelerometer, not 'linear' or 'user' acceleration"
    if not 0.5 < median < 3.0:
        return no_gravity
    # A walker's |acc| seldom falls far below its median; without gravity it passes near zero twice a step.
    in_g = "looks like g: multiply by 9.80665"
    return in_g if quiet > 0.6 * median else f"{in_g}; or {no_gravity}"


def _check_gyr_unit(path: Path, imu: npt.NDArray[np.float32], locate: Locate) -> None:
    fastest = np.abs(imu[:, 3:]).max(axis=1)
    if not np.isfinite(fastest).any() or np.percentile(fastest, 99) <= GYR_LIMIT:
        return
    sample = int(np.argmax(fastest))
    channel = 3 + int(np.argmax(np.abs(imu[sample, 3:])))
    raise RecordingError(
        f"{path}: {locate(sample)}, column {IMU_CHANNELS[channel]}: {imu[sample, channel]:.4g} rad/s is more than any "
        f"gyroscope measures (99 % of |gyr| must stay below {GYR_LIMIT:g}); looks like °/s: multiply by 0.0174533"
    )
