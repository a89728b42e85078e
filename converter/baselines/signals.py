"""What all baselines start from: the magnitude of the acceleration at one rate, and causal filters for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge.signal import Resampler
from edge.types import SampleBatch

if TYPE_CHECKING:
    from edge.recording import Recording

Signal = npt.NDArray[np.float64]

RATE_HZ = 50.0
IMPULSE_S = 10.0
"""Where an impulse response is cut off; at 0.4 Hz it has decayed to 1e-7 of its start by then."""
WALKING_HZ = 2.0
"""The cadence whose delay through a filter is taken off its time stamps."""
_BUTTERWORTH_Q = 2**-0.5


def magnitude(recording: Recording) -> Signal:
    """Return |acc| [n] in m/s² at RATE_HZ, frame k at k / RATE_HZ, through the device's own resampler."""
    resampler = Resampler(sampling_rate_hz=RATE_HZ, source_rate_hz=recording.sampling_rate_hz)
    frames = resampler.push(SampleBatch(recording.time_s, recording.imu)).data
    size: Signal = np.linalg.norm(frames.astype(np.float64), axis=1)
    return size


def band_pass(signal: Signal, low_hz: float, high_hz: float, order: int = 2) -> tuple[Signal, float]:
    """Filter [n] causally, a Butterworth high-pass and low-pass of this even order; returns it and its delay, s.

    The device is taken to have rested in the state of the first frame.
    """
    response = np.zeros(int(IMPULSE_S * RATE_HZ))
    response[0] = 1.0
    for _ in range(order // 2):
        response = _biquad(response, low_hz, high=True)
        response = _biquad(response, high_hz, high=False)
    # A frame of nothing before the first keeps np.convolve from refusing an empty signal.
    swing = np.concatenate([[0.0], signal - signal[:1]])
    return np.convolve(swing, response)[1 : len(swing)], delay_s(response, WALKING_HZ)


def delay_s(response: Signal, at_hz: float) -> float:
    """Return by how much, s, an impulse response [n] delays a steady swing; up to half a period either way."""
    phase = np.exp(-2j * np.pi * at_hz / RATE_HZ * np.arange(len(response))) @ response
    return float(-np.angle(phase) / (2 * np.pi * at_hz))


def moving(signal: Signal, width_s: float, reduce: Any) -> Signal:
    """Return reduce(windows, axis=1) over windows centred on each of the [n] frames, the ends repeated."""
    if not len(signal):
        return signal
    half = round(width_s * RATE_HZ / 2)
    padded = np.pad(signal, half, mode="edge")
    reduced: Signal = reduce(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return reduced


def _biquad(signal: Signal, cutoff_hz: float, *, high: bool) -> Signal:
    """Apply a second-order Butterworth section (bilinear transform; Bristow-Johnson's cookbook)."""
    w = 2 * np.pi * cutoff_hz / RATE_HZ
    alpha, cosine = np.sin(w) / (2 * _BUTTERWORTH_Q), np.cos(w)
    outer = (1 + cosine) / 2 if high else (1 - cosine) / 2
    b = (outer, -2 * outer if high else 2 * outer, outer)
    a = (1 + alpha, -2 * cosine, 1 - alpha)
    result = []
    x1 = x2 = y1 = y2 = 0.0
    for x in signal.tolist():
        y = (b[0] * x + b[1] * x1 + b[2] * x2 - a[1] * y1 - a[2] * y2) / a[0]
        x1, x2, y1, y2 = x, x1, y, y1
        result.append(y)
    return np.array(result)
