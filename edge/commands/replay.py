"""`footfall replay`: recordings through the daemon's own pipeline, for people or for programs."""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge import config as configuration
from edge.classifier import StepClassifier
from edge.commands.readable import ReadableRecordings
from edge.errors import UsageError
from edge.imu.replay import ReplayImu
from edge.pipeline import Pipeline, detect
from edge.progress import Progress
from edge.recording import find_recordings
from edge.rules import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from pathlib import Path

    from edge.classifier import Answer
    from edge.recording import Recording
    from edge.types import StepEvent, Window

MIN_SPEED, MAX_SPEED = 0.01, 1000.0  # as sensor.speed
MAX_SPEED_BATCH_S = 5.0
SPARK = " ▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 30


def command(arguments: Namespace) -> int:
    """Replay each recording; returns 0, or 2 if one could not be read."""
    speed = parse_speed(arguments.speed)
    classifier = open_classifier(arguments)
    recordings = ReadableRecordings(find_recordings(arguments.recordings))
    report = _report_json if arguments.json else _report_text
    for path, recording in recordings:
        # In real time the steps themselves show the progress.
        report(Replay(path, recording, classifier, speed, progress=speed is None))
    return recordings.report("replay")


def parse_speed(text: str) -> float | None:
    """Return a factor of real time, None for `max`; raises UsageError for anything else."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not MIN_SPEED <= speed <= MAX_SPEED:
        allowed = f"max, or a factor of real time from {MIN_SPEED:g} to {MAX_SPEED:g}, such as 1.0"
        raise UsageError(f"--speed is {text!r}; allowed: {allowed}")
    return speed


def open_classifier(arguments: Namespace) -> StepClassifier:
    """Return the classifier that the command line or the config asks for."""
    if arguments.model is not None and not arguments.model.strip():
        raise UsageError("--model is empty; allowed: a .tflite file (leave it out for the config's model.path)")
    config = configuration.load(arguments.config, os.environ)
    return StepClassifier(arguments.model or config.model.path, int8_only=config.model.int8_only)


@dataclass
class Replay:
    """One recording on its way through the pipeline, and what that cost."""

    path: Path
    recording: Recording
    classifier: StepClassifier
    speed: float | None = None
    progress: bool = True
    gaps: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    steps: int = 0
    likeliest: tuple[float, float] = (0.0, 0.0)
    """How sure the model was of a step, and of a walk, at most; 0 of a walk where it does not say."""

    def events(self) -> Iterator[StepEvent]:
        """Yield every step, with times in seconds from the recording's start."""
        rate_hz = self.recording.sampling_rate_hz
        pipeline = Pipeline(self.classifier, source_rate_hz=rate_hz, observe=self._hear)
        segment: int | None = None
        cpu_s, wall_s = time.process_time(), time.monotonic()
        with Progress(printable(self.path.name), self.recording.duration_s, enabled=self.progress) as progress:
            for batch, events in detect(self._source(), pipeline):
                self.steps += len(events)
                yield from events
                if batch is not None:
                    self.gaps += segment is not None and batch.segment != segment
                    segment = batch.segment
                    progress.advance(len(batch.time_s) / rate_hz)
        self.cpu_s, self.wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s

    def _source(self) -> ReplayImu:
        # Events do not depend on the batching; at full speed large batches spare most of the work around it.
        samples = None if self.speed is not None else round(MAX_SPEED_BATCH_S * self.recording.sampling_rate_hz)
        return ReplayImu(self.recording, speed=self.speed, batch_samples=samples)

    def _hear(self, _: Window, answer: Answer) -> None:
        step, walking = self.likeliest
        self.likeliest = (max(step, float(answer.step.max())), max(walking, answer.walking or 0.0))

    def why_none(self) -> str:
        """Say what a recording without steps lacked, by the model."""
        model, (step, walking) = self.classifier.manifest, self.likeliest
        if step < model.threshold or model.gate is None:
            return f"the model was never surer of a step than {step:.2f}; it counts from {model.threshold:g}"
        if walking < model.gate.on:
            return f"the model was never surer of a walk than {walking:.2f}; steps count from {model.gate.on:g}"
        return f"no {max(1, model.gate.least)} steps in a row while the model was sure that somebody walks"

    def summary(self) -> dict[str, Any]:
        """Return the figures of the finished replay, as the contract names them."""
        return {
            "recording": str(self.path),
            "samples": len(self.recording.time_s),
            "hours": round(self.recording.duration_s / 3600, 6),
            "steps": self.steps,
            "gaps": self.gaps,
            "cpu_s": round(self.cpu_s, 4),
            "wall_s": round(self.wall_s, 4),
            "model_sha256": self.classifier.sha256,
        }


def event_json(path: Path, seq: int, event: StepEvent) -> dict[str, Any]:
    """Return one step as the contract's JSON object."""
    cadence = event.cadence_spm
    return {
        "recording": str(path),
        "seq": seq,
        # A step in the very first frame may be interpolated to a hair before the recording.
        "time_s": max(0.0, round(event.time_s, 4)),
        "emitted_s": round(event.emitted_s, 4),
        "confidence": round(event.confidence, 4),
        "cadence_spm": None if cadence is None else round(cadence, 1),
    }


def _report_json(replay: Replay) -> None:
    for seq, event in enumerate(replay.events(), 1):
        print(json.dumps(event_json(replay.path, seq, event)), flush=replay.speed is not None)
    print(json.dumps({"summary": replay.summary()}), flush=True)


def _report_text(replay: Replay) -> None:
    times_s = []
    for event in replay.events():
        times_s.append(event.time_s)
        if replay.speed is not None:
            cadence = "  –" if event.cadence_spm is None else f"{event.cadence_spm:3.0f}"
            print(f"{event.time_s:9.2f} s  step {len(times_s):6d}  {cadence} steps/min", flush=True)
    known = replay.recording.steps
    labelled = f" (labelled: {len(known)})" if known is not None and replay.recording.steps_known == "all" else ""
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    gaps = "1 gap" if replay.gaps == 1 else f"{replay.gaps} gaps"
    seconds = replay.recording.duration_s
    print(f"{printable(replay.path)}: {len(times_s)} steps{labelled} in {seconds:.1f} s, {gaps}")
    used = f"{replay.cpu_s:.2f} s of CPU, {memory_mb:.0f} MB of memory"
    print(f"  {sparkline(times_s, seconds)}  steps over time; {used}")
    if not times_s:
        print(f"  {replay.why_none()}")


def sparkline(times_s: list[float], seconds: float) -> str:
    """Return steps over time as a line of blocks, the fullest block being the busiest stretch."""
    counts = [0] * SPARK_COLUMNS
    for time_s in times_s:
        counts[min(SPARK_COLUMNS - 1, max(0, int(time_s / max(seconds, 1e-9) * SPARK_COLUMNS)))] += 1
    top = max(*counts, 1)
    return "".join(SPARK[-(-count * (len(SPARK) - 1) // top)] for count in counts)
