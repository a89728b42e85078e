"""Frames in, overlapping model windows out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge.types import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.signal import Frames


class SlidingWindow:
    """Yields the newest `window_samples` frames after every `hop_samples` new ones, whatever the batching.

    Before the first frame the device is taken to have rested as it does in that frame, so the first window comes
    after one hop and the first step of a recording is not swallowed.
    """

    def __init__(self, *, window_samples: int, hop_samples: int, channels: int) -> None:
        if not 0 < hop_samples <= window_samples:
            raise ValueError(f"hop_samples is {hop_samples}; allowed: 1 to window_samples ({window_samples})")
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self._data = np.zeros((window_samples, channels), np.float32)
        self.reset()

    def reset(self) -> None:
        """Drop what was collected: the next frame starts a new segment."""
        self._pending = 0
        self._empty = True

    def push(self, frames: Frames) -> Iterator[Window]:
        """Yield each window that these frames complete; its data is overwritten by the next one."""
        start = 0
        if self._empty and len(frames.data):
            self._data[:] = frames.data[0]
            self._empty = False
        while start < len(frames.data):
            taken = min(self.hop_samples - self._pending, len(frames.data) - start)
            self._append(frames.data[start : start + taken])
            start += taken
            self._pending += taken
            if self._pending == self.hop_samples:
                self._pending = 0
                yield Window(float(frames.time_s[start - 1]), float(frames.known_s[start - 1]), self._data)

    def _append(self, data: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self._data[: -len(data)] = self._data[len(data) :]
        self._data[-len(data) :] = data
