"""The data flow, top to bottom: samples -> frames -> windows -> probabilities -> steps.

Live and replay run this same code; only the source and its clock differ.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edge.detector import StepDetector
from edge.signal import Resampler
from edge.spikes import SpikeFilter
from edge.types import SampleBatch, StepEvent
from edge.windowing import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.classifier import Answer, StepClassifier
    from edge.imu import Imu
    from edge.manifest import Manifest
    from edge.types import Window

MIN_SEGMENT_SAMPLES = 2
REST_S = 1.0
"""How long a model with state is told of rest before a segment: its memory starts at 0 g, which looks like a knock."""


def rest_windows(model: Manifest) -> int:
    """Return how many windows of rest go in, unanswered, before the first of a segment."""
    return math.ceil(REST_S * model.sampling_rate_hz / model.hop_samples) if model.state else 0


class Pipeline:
    """From sample batches to step events.

    source_rate_hz: the nominal rate of the source; the samples' own times decide.
    observe: called with every window and the model's answers to it.
    The events depend on the samples alone, not on how they were cut into batches nor on when they were read.
    """

    def __init__(
        self,
        classifier: StepClassifier,
        *,
        source_rate_hz: float,
        observe: Callable[[Window, Answer], None] | None = None,
    ) -> None:
        model = classifier.manifest
        self._observe = observe
        self._classifier = classifier
        self._resampler = Resampler(
            sampling_rate_hz=model.sampling_rate_hz, source_rate_hz=source_rate_hz, columns=model.columns
        )
        self._windows = SlidingWindow(
            window_samples=model.window_samples, hop_samples=model.hop_samples, channels=len(model.channels)
        )
        self._detector = StepDetector(
            period_s=model.answer_period_s,
            lookahead_s=model.lookahead_samples / model.sampling_rate_hz,
            threshold=model.threshold,
            refractory_s=model.refractory_s,
            gate=model.gate,
        )
        self._source_rate_hz = source_rate_hz
        # What must follow the last sample before its own frame has been looked at from every side, and its bout judged.
        tail_frames = model.lookahead_samples + 2 * model.hop_samples + 1
        self._tail_s = tail_frames / model.sampling_rate_hz + 2 * self._resampler.half_width_s
        self._tail_s += 0.0 if model.gate is None else model.gate.backfill_s
        self._rest_windows = rest_windows(model)
        self._fresh = True
        self._spikes = SpikeFilter()
        self._segment: int | None = None
        self._last: SampleBatch | None = None

    def push(self, batch: SampleBatch, source_rate_hz: float | None = None) -> Iterator[StepEvent]:
        """Yield the steps that this batch reveals.

        source_rate_hz: the sensor's nominal rate, where another sensor may have taken its place with a new segment.
        """
        if len(batch.time_s) == 0:
            return
        if batch.segment != self._segment:
            yield from self.finish()
            self._segment = batch.segment
            if source_rate_hz is not None and source_rate_hz != self._source_rate_hz:
                self._source_rate_hz = source_rate_hz
                self._resampler.retune(source_rate_hz)
        batch = self._spikes.push(batch)
        if len(batch.time_s):
            self._last = batch
            yield from self._steps(batch)

    def finish(self) -> Iterator[StepEvent]:
        """Yield the steps still under way at the end of a segment, as if the device then rested; start afresh."""
        if self._last is not None:
            end_s = float(self._last.time_s[-1])
            for step in self._steps(self._rest_after(self._last)):
                if step.time_s <= end_s:
                    yield replace(step, emitted_s=min(step.emitted_s, end_s))
        for stage in (self._spikes, self._resampler, self._windows, self._classifier, self._detector):
            stage.reset()
        self._fresh = True
        self._last = None

    def _steps(self, batch: SampleBatch) -> Iterator[StepEvent]:
        for window in self._windows.push(self._resampler.push(batch)):
            if self._fresh:
                self._rest_before(window)
            answer = self._classifier.infer(window.data)
            if self._observe is not None:
                self._observe(window, answer)
            yield from self._detector.push(window, answer.step, answer.walking)

    def _rest_before(self, first: Window) -> None:
        """Let the model's memory be that of a device that has rested as it does in its first frame."""
        self._fresh = False
        rest = np.repeat(first.data[:1], len(first.data), axis=0)
        for _ in range(self._rest_windows):
            self._classifier.infer(rest)

    def _rest_after(self, batch: SampleBatch) -> SampleBatch:
        count = max(MIN_SEGMENT_SAMPLES, int(np.ceil(self._tail_s * self._source_rate_hz)))
        time_s = batch.time_s[-1] + np.arange(1, count + 1) / self._source_rate_hz
        return SampleBatch(time_s, np.repeat(batch.imu[-1:], count, axis=0), segment=batch.segment)


def detect(imu: Imu, pipeline: Pipeline) -> Iterator[tuple[SampleBatch | None, list[StepEvent]]]:
    """Yield every batch of a source, live or recorded, with the steps that it reveals; None for those at its end."""
    for batch in imu.batches():
        yield batch, list(pipeline.push(batch, imu.sampling_rate_hz))
    yield None, list(pipeline.finish())
