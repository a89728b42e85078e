"""Ten seconds of the real sensor through the real driver: noise, bias, rate, losses, range, and which way is up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.doctor.finding import Finding, fail, ok, warn
from edge.imu import open_imu

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from edge.doctor.finding import Context
    from edge.imu import Imu

AREA = "sensor"
START_LIMIT_S = 10.0
GRAVITY = 9.80665
DEGREE = np.pi / 180.0
STILL_ACC, STILL_GYR = 0.35, 0.06
"""m/s² and rad/s, standard deviation of any axis: what a cheap chip stays below on a table, and no wearer does."""
TYPICAL_ACC_MG, TYPICAL_GYR_DPS = 15.0, 0.5
BIAS_DPS = 20.0
"""Zero-rate output of the cheapest part of all (MPU-6050 product specification, table 6.1: ±20 °/s)."""
GRAVITY_OK, GRAVITY_WARN = 0.05, 0.15
RATE_WARN = 0.05
UPRIGHT_DEG = 20.0
FLAT_SAMPLES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What came out of the sensor: imu [n, 6] m/s² and rad/s; rate_hz by the host's clock, None if unknown."""

    imu: npt.NDArray[np.float32]
    seconds: float
    rate_hz: float | None
    nominal_hz: float
    counters: dict[str, int]
    temperature_c: float | None = None


def check(context: Context) -> Iterator[Finding]:
    """Watch the sensor for context.measure_s seconds and judge what it says."""
    if not context.sensor_ready or context.measure_s <= 0:
        return
    imu = open_imu(context.config.sensor)
    try:
        watched = watch(imu, context)
    finally:
        imu.close()
    if context.cancelled.is_set():
        return
    if not len(watched.imu):
        yield fail(
            AREA,
            f"{imu.name} starts but gave no sample in {watched.seconds:.0f} s ({_told(watched.counters)})",
            "power the sensor off and on; check its supply voltage",
        )
        return
    yield from judge(watched, imu.name)


def watch(imu: Imu, context: Context) -> Watched:
    """Take samples until the time is over."""
    blocks: list[npt.NDArray[np.float32]] = []
    reads: list[tuple[float, int]] = []
    temperature_c = None
    began_s = time.monotonic()
    for batch in imu.batches():
        now_s = time.monotonic()
        if len(batch.imu):
            blocks.append(batch.imu)
            reads.append((now_s, batch.sequence + len(batch.imu)))
            temperature_c = batch.temperature_c
        context.progress(min(1.0, (now_s - began_s) / context.measure_s))
        if now_s - began_s >= context.measure_s or context.cancelled.is_set():
            break
    data = np.concatenate(blocks) if blocks else np.empty((0, 6), np.float32)
    counters = imu.counters()
    rate_hz = None if counters.get("gap_samples") else true_rate_hz(reads)
    return Watched(data, time.monotonic() - began_s, rate_hz, imu.sampling_rate_hz, counters, temperature_c)


def true_rate_hz(reads: list[tuple[float, int]]) -> float | None:
    """Return samples a second by the host's clock: least squares of the sample count over (host time, count) pairs."""
    if len(reads) < 10:
        return None
    times_s, counts = np.array(reads).T
    return float(np.polyfit(times_s - times_s[0], counts, 1)[0])


def judge(watched: Watched, name: str) -> Iterator[Finding]:
    """Say what the samples show."""
    yield from _rate(watched, name)
    yield from _losses(watched)
    yield from _saturation(watched.imu)
    spread = watched.imu.std(axis=0, dtype=np.float64)
    if not spread[:3].any() or not spread[3:].any():
        what = "accelerometer" if not spread[:3].any() else "gyroscope"
        yield fail(
            AREA,
            f"the {what} gives the same value all the time, without any noise",
            "the chip hangs or is damaged: power it off and on; if that does not help, replace it",
        )
        return
    if spread[:3].max() > STILL_ACC or spread[3:].max() > STILL_GYR:
        yield warn(
            AREA,
            f"the sensor moved (acceleration varies by {spread[:3].max():.2f} m/s², "
            f"rotation by {spread[3:].max() / DEGREE:.1f} °/s): noise and bias were not judged",
            "lay it on a table, keep your hands off, and run doctor again",
        )
    else:
        yield _noise(spread)
        yield _bias(watched.imu)
    yield _gravity(watched.imu, name)
    yield _up(watched.imu)


def _rate(watched: Watched, name: str) -> Iterator[Finding]:
    count, nominal_hz = len(watched.imu), watched.nominal_hz
    heat = "" if watched.temperature_c is None else f", the chip is at {watched.temperature_c:.0f} °C"
    text = f"{name}: {count} samples in {watched.seconds:.1f} s{heat}"
    if watched.rate_hz is None:
        yield ok(AREA, text)
        return
    error = watched.rate_hz / nominal_hz - 1.0
    text += f"; true rate {watched.rate_hz:.2f} Hz, {100 * error:+.1f} % of the nominal {nominal_hz:g} Hz"
    if abs(error) > RATE_WARN:
        yield warn(AREA, text, "steps are still timed right (the rate is tracked); a clone often runs that far off")
    else:
        yield ok(AREA, text)


def _losses(watched: Watched) -> Iterator[Finding]:
    bad = {key: value for key, value in watched.counters.items() if value and key != "fifo_empty"}
    if not bad:
        yield ok(AREA, "no sample lost, no bus error")
    elif bad.get("gap_samples") or bad.get("reinit") or bad.get("fifo_reset"):
        yield fail(
            AREA,
            f"samples were lost ({_told(bad)})",
            "check plugs and solder joints, shorten the wires, keep them from motors; look at the supply voltage",
        )
    else:
        yield warn(AREA, f"the bus had errors that could be repaired ({_told(bad)})", "shorten the wires, check plugs")


def _saturation(imu: npt.NDArray[np.float32]) -> Iterator[Finding]:
    """Find a sensor at the end of its range: it gives the very same extreme value again and again."""
    for what, columns, least in (("accelerometer", slice(0, 3), 15.0), ("gyroscope", slice(3, 6), 4.0)):
        values = np.abs(imu[:, columns])
        top = float(values.max())
        flat = int((values == values.max()).any(axis=1).sum())
        if top > least and flat >= FLAT_SAMPLES:
            yield fail(
                AREA,
                f"the {what} is at the end of its range ({top:.3g}) in {flat} of {len(imu)} samples",
                "at rest: the chip is damaged, or no such part; shaken: run doctor again with it at rest",
            )


def _noise(spread: npt.NDArray[np.float64]) -> Finding:
    acc_mg = 1000.0 * float(spread[:3].max()) / GRAVITY
    gyr_dps = float(spread[3:].max()) / DEGREE
    text = f"noise at rest: accelerometer {acc_mg:.1f} mg, gyroscope {gyr_dps:.2f} °/s (the worst axis)"
    if acc_mg > TYPICAL_ACC_MG or gyr_dps > TYPICAL_GYR_DPS:
        return warn(
            AREA, f"{text}: more than usual", "was the table still? a bad supply or a clone is the next suspect"
        )
    return ok(AREA, text)


def _bias(imu: npt.NDArray[np.float32]) -> Finding:
    bias = imu[:, 3:].mean(axis=0, dtype=np.float64) / DEGREE
    text = "gyroscope bias " + ", ".join(f"{value:+.2f}" for value in bias) + " °/s (x, y, z)"
    if np.abs(bias).max() > BIAS_DPS:
        return warn(AREA, text, f"more than ±{BIAS_DPS:g} °/s is out of every data sheet: the chip may be damaged")
    return ok(AREA, text)


def _gravity(imu: npt.NDArray[np.float32], name: str) -> Finding:
    length = float(np.linalg.norm(imu[:, :3].mean(axis=0, dtype=np.float64)))
    off = length / GRAVITY - 1.0
    text = f"gravity reads {length:.2f} m/s² ({100 * off:+.1f} % of 9.81)"
    if abs(off) <= GRAVITY_OK:
        return ok(AREA, text)
    if name == "LSM6DSOX" and abs(length / GRAVITY - 0.5) <= GRAVITY_WARN / 2.0:
        # The one part that its WHO_AM_I does not tell from this one, see edge.imu.chips.lsm6dsox.
        return fail(AREA, f"{text}: about half", "an LSM6DSO32? then set sensor.type: lsm6dso32")
    advice = "a clone may have another scale, a cheap chip a large offset: turn the board over and compare"
    return warn(AREA, text, advice) if abs(off) <= GRAVITY_WARN else fail(AREA, text, advice)


def _up(imu: npt.NDArray[np.float32]) -> Finding:
    mean = imu[:, :3].mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1.0:
        return fail(AREA, "no direction is up: gravity is missing", "the accelerometer does not work; replace the chip")
    return ok(AREA, which_way_is_up(mean / length))


def which_way_is_up(up: npt.NDArray[np.float64]) -> str:
    """Name the axis of the device that points up; up: unit vector, an accelerometer at rest shows +g upwards."""
    axis = int(np.argmax(np.abs(up)))
    angle_deg = float(np.degrees(np.arccos(min(1.0, abs(float(up[axis]))))))
    name = f"{'+' if up[axis] > 0 else '-'}{'XYZ'[axis]}"
    if angle_deg <= UPRIGHT_DEG:
        return f"{name} points up (within {angle_deg:.0f}°), after sensor.mount_matrix"
    others = ", ".join(f"{value:+.2f}" for value in up)
    return (
        f"tilted: {name} is nearest to up, {angle_deg:.0f}° off (up is {others} in x, y, z), after sensor.mount_matrix"
    )


def _told(counters: dict[str, int]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in counters.items() if value)
    return told or "no error counted"
