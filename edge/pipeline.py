"""The data flow, top to bottom: samples -> frames -> windows -> probabilities -> steps.

Live and replay run this same code; only the source and its clock differ.
"""

from __future__ import annotations

import math
from collections import deque
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
BRIDGE_S = 0.5
"""Across a shorter gap the model goes on: it hears a straight line, and no step is counted in it.

Not a guess at what was lost (no walker's steps are closer than 0.25 s, so at most one was), but without it a burst that
fails every two seconds, as on a loose wire, would forget a whole walk each time and count nothing.
"""
REST_S = 1.0
"""How long a model with state is told of rest before a segment: its memory starts at 0 g, which looks like a knock."""


def rest_windows(model: Manifest) -> int:
    """Return how many windows of rest go in, unanswered, before the first of a segment."""
    return math.ceil(REST_S * model.sampling_rate_hz / model.hop_samples) if model.state else 0


class Pipeline:
    """From sample batches to step events.

    source_rate_hz: the nominal rate of the source; the samples' own times decide.
    observe: called with every window and the model's answers to it.
    tail_s: how long after a foot has touched the samples still decide whether that is a step.
    The events depend on the samples alone, not on how they were cut into batches nor on when they were read. Once a
    segment is longer than the model's memory, its frames and hops are those that there were without the gap before it.
    A gap of up to BRIDGE_S is heard as a straight line: the walk goes on, and no step is counted inside the gap.
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
            sampling_rate_hz=model.sampling_rate_hz,
            source_rate_hz=source_rate_hz,
            columns=model.columns,
            block=model.hop_samples,
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
        # What must follow a sample before its own frame has been looked at from every side.
        tail_frames = model.lookahead_samples + 2 * model.hop_samples + 1
        seen_s = tail_frames / model.sampling_rate_hz + 2 * self._resampler.half_width_s
        # At rest a walk is sure soon or never: what may take longer is one that goes on.
        self._rest_s = seen_s + (0.0 if model.gate is None else model.gate.backfill_s)
        self.tail_s = seen_s + (0.0 if model.gate is None else model.gate.longest_wait_s)
        self._rest_windows = rest_windows(model)
        self._fresh = True
        self._spikes = SpikeFilter()
        self._segment: int | None = None
        self._last: SampleBatch | None = None
        self._holes: deque[tuple[float, float]] = deque()

    def push(self, batch: SampleBatch, source_rate_hz: float | None = None) -> Iterator[StepEvent]:
        """Yield the steps that this batch reveals.

        source_rate_hz: the sensor's nominal rate, where another sensor may have taken its place with a new segment.
        """
        if len(batch.time_s) == 0:
            return
        if batch.segment != self._segment:
            yield from self._new_segment(batch, source_rate_hz)
        batch = self._spikes.push(batch)
        if len(batch.time_s):
            self._last = batch
            yield from self._steps(batch)

    def _new_segment(self, batch: SampleBatch, source_rate_hz: float | None) -> Iterator[StepEvent]:
        """Start afresh before this batch, unless so little is missing that the model may go on."""
        self._segment = batch.segment
        self._spikes.reset()
        other_rate = source_rate_hz is not None and source_rate_hz != self._source_rate_hz
        if self._bridged(batch) and not other_rate:
            return
        yield from self.finish()
        if source_rate_hz is not None and other_rate:
            self._source_rate_hz = source_rate_hz
            self._resampler.retune(source_rate_hz)

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
        self._holes.clear()

    def _steps(self, batch: SampleBatch) -> Iterator[StepEvent]:
        for window in self._windows.push(self._resampler.push(batch)):
            if self._fresh:
                self._rest_before(window)
            answer = self._classifier.infer(window.data)
            if self._observe is not None:
                self._observe(window, answer)
            while self._holes and self._holes[0][1] < window.time_s - self.tail_s:
                self._holes.popleft()
            for step in self._detector.push(window, answer.step, answer.walking):
                if not self._was_lost(step.time_s):
                    yield step

    def _bridged(self, batch: SampleBatch) -> bool:
        """Say whether so little is missing before this batch that the model may go on with what it has heard."""
        if self._last is None:
            return False
        hole_s = float(self._last.time_s[-1]), float(batch.time_s[0])
        if not 0.0 < hole_s[1] - hole_s[0] <= BRIDGE_S:
            return False
        self._holes.append(hole_s)
        return True

    def _was_lost(self, step_s: float) -> bool:
        """Say whether a step lies where nothing was measured: whatever the model thinks of it, it is not known."""
        return any(begin_s < step_s < end_s for begin_s, end_s in self._holes)

    def _rest_before(self, first: Window) -> None:
        """Let the model's memory be that of a device that has rested as it does in its first frame."""
        self._fresh = False
        rest = np.repeat(first.data[:1], len(first.data), axis=0)
        for _ in range(self._rest_windows):
            self._classifier.infer(rest)

    def _rest_after(self, batch: SampleBatch) -> SampleBatch:
        count = max(MIN_SEGMENT_SAMPLES, int(np.ceil(self._rest_s * self._source_rate_hz)))
        time_s = batch.time_s[-1] + np.arange(1, count + 1) / self._source_rate_hz
        return SampleBatch(time_s, np.repeat(batch.imu[-1:], count, axis=0), segment=batch.segment)


def detect(imu: Imu, pipeline: Pipeline) -> Iterator[tuple[SampleBatch | None, list[StepEvent]]]:
    """Yield every batch of a source, live or recorded, with the steps that it reveals; None for those at its end."""
    for batch in imu.batches():
        yield batch, list(pipeline.push(batch, imu.sampling_rate_hz))
    yield None, list(pipeline.finish())
