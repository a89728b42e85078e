"""`footfall bench`: what Footfall costs on this machine, here and now, each figure beside its floor.

Machines differ and are shared; the ratio of a figure to its floor, both taken in one run, is what can be compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.commands.replay import open_classifier
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.types import SampleBatch

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from edge.classifier import StepClassifier

SOURCE_HZ = 100.0
HOUR_S = 3600
ROUNDS = 3
STEP_HZ = 1.9
RSS_FLOOR = """
import sys, numpy
from edge.runtime import open_interpreter
open_interpreter(open(sys.argv[1], 'rb').read())
print(next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS')))
"""
RSS_PIPELINE = """
import sys
from edge.commands.bench import run_pipeline
from edge.classifier import StepClassifier
run_pipeline(StepClassifier(sys.argv[1]), 10, seconds=60)
print(next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS')))
"""


@dataclass(frozen=True)
class Row:
    """One figure, its floor, and what the floor is."""

    what: str
    value: float
    floor: float
    unit: str
    floor_is: str

    @property
    def ratio(self) -> float:
        """How many times the floor."""
        return self.value / self.floor


def command(arguments: Namespace) -> int:
    """Measure, then print the table or its JSON; returns 0."""
    classifier = open_classifier(arguments)
    rows = list(_measure(classifier))
    if arguments.json:
        print(json.dumps([asdict(row) | {"ratio": row.ratio} for row in rows]))
        return 0
    print(f"{'':44} {'measured':>10} {'floor':>10}        {'ratio':>6}  floor is")
    for row in rows:
        print(f"{row.what:44} {row.value:10.2f} {row.floor:10.2f} {row.unit:6} {row.ratio:6.1f}  {row.floor_is}")
    print(f"runtime {classifier.runtime}, model {classifier.path.name} sha256 {classifier.sha256[:12]}")
    return 0


def hour_of_walking(samples_per_batch: int, seconds: int) -> Iterator[SampleBatch]:
    """Yield a made-up walk at 100 Hz; only its length and its steps matter here, not its realism."""
    size = int(samples_per_batch)
    for first in range(0, int(seconds * SOURCE_HZ), size):
        time_s = np.arange(first, first + size) / SOURCE_HZ
        phase = 2 * np.pi * STEP_HZ * time_s
        imu = np.zeros((size, 6), np.float32)
        imu[:, 0] = 1.0 * np.sin(phase / 2)
        imu[:, 2] = 9.80665 + 3.0 * np.sin(phase) + 1.0 * np.sin(2 * phase)
        yield SampleBatch(time_s, imu)


def _measure(classifier: StepClassifier) -> Iterator[Row]:
    model = classifier.manifest
    windows = int(HOUR_S * model.sampling_rate_hz / model.hop_samples)
    live, replay, floor = [], [], []
    with Progress("one hour of samples, three times", 3 * ROUNDS) as progress:
        for _ in range(ROUNDS):
            floor.append(_cpu_s(lambda: _invoke(classifier, windows)))
            progress.advance(1)
            replay.append(_cpu_s(lambda: run_pipeline(classifier, 500)))
            progress.advance(1)
            live.append(_cpu_s(lambda: run_pipeline(classifier, 10)))
            progress.advance(1)
    bare = f"{windows} bare invoke()"
    yield Row("CPU per hour at 100 Hz, replayed", min(replay), min(floor), "s", bare)
    yield Row("CPU per hour at 100 Hz, in batches of 0.1 s", min(live), min(floor), "s", bare)
    rss_floor, rss = (_rss_mb(script, classifier) for script in (RSS_FLOOR, RSS_PIPELINE))
    yield Row("resident memory of the pipeline", rss, rss_floor, "MB", "numpy + runtime + model")


def run_pipeline(classifier: StepClassifier, samples_per_batch: int, seconds: int = HOUR_S) -> int:
    """Count the steps of a made-up walk."""
    pipeline = Pipeline(classifier, source_rate_hz=SOURCE_HZ)
    return sum(1 for batch in hour_of_walking(samples_per_batch, seconds) for _ in pipeline.push(batch))


def _invoke(classifier: StepClassifier, times: int) -> None:
    for _ in range(times):
        classifier.invoke_floor()


def _cpu_s(work: Callable[[], object]) -> float:
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def _rss_mb(script: str, classifier: StepClassifier) -> float:
    done = subprocess.run(
        [sys.executable, "-c", script, str(classifier.path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024
