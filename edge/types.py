"""The three values that flow through the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]
    TimeArray = npt.NDArray[np.float64]

IMU_CHANNELS = ("acc_x", "acc_y", "acc_z", "gyr_x", "gyr_y", "gyr_z")
"""Columns of every `imu` array: m/s² and rad/s, in the axes of the mounted device."""


class BatchFlag(IntFlag):
    """What the source noticed while it read a batch."""

    NONE = 0
    GAP_BEFORE = 1
    """Samples were lost right before this batch; its segment differs from the previous one."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleBatch:
    """A block of consecutive samples, at the sensor's own rate.

    time_s: [n] host-monotonic seconds, strictly increasing within a segment.
    imu: [n, 6] float32 in the order of IMU_CHANNELS; NaN where the source lacks a channel.
    segment: grows by one at every gap; nothing may be interpolated or windowed across two segments.
    sequence: index of the first sample among all samples delivered since the source was opened.
    An empty batch (n = 0) is a heartbeat: the source is alive and has nothing to say.
    """

    time_s: TimeArray
    imu: FloatArray
    segment: int = 0
    sequence: int = 0
    temperature_c: float | None = None
    flags: BatchFlag = BatchFlag.NONE


@dataclass(frozen=True, slots=True)
class Window:
    """One model input: the newest `window_samples` frames at the model's rate.

    time_s: instant of the newest frame; data: [window_samples, channels] float32 in SI units, a view that is reused.
    known_s: time of the sample whose arrival completed the window, the earliest instant anything could know it.
    """

    time_s: float
    known_s: float
    data: FloatArray


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One step.

    time_s: when the foot touched, emitted_s: when the pipeline knew; both on the source's clock.
    confidence: 0..1. cadence_spm: steps per minute over the last few steps, None before it can be known.
    backfilled: it had waited for its walking bout to be confirmed (edge.bouts).
    """

    time_s: float
    emitted_s: float
    confidence: float
    cadence_spm: float | None
    backfilled: bool = False
