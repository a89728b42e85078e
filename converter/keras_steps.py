"""The float side of the comparison at the level of steps: Keras behind the device's pipeline, in a process of its own.

`keras_steps()` starts this module as a program; only that program imports Keras.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.child import last_words, lasting_as_long_as_this
from converter.errors import ConversionError
from converter.steps_level import Replayer, collected, step_probabilities, steps_of
from edge.manifest import parse_manifest
from edge.recording import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from converter.spec import Spec
    from converter.steps_level import Collector
    from edge.manifest import Manifest
    from edge.types import FloatArray, TimeArray

TIMEOUT_S = 3600
BATCH = 256
WALK_STEPS = 20
"""The first recording with so many labelled steps is drawn in the report."""


@dataclass(frozen=True, slots=True, eq=False)
class KerasSteps:
    """steps: times, s, per recording. walk: index of the recording to draw, or None, and its answers per window."""

    steps: list[TimeArray]
    walk: int | None
    walk_answers: FloatArray


def keras_steps(model: Path, spec: Spec, manifest: dict[str, Any], recordings: Sequence[Path]) -> KerasSteps:
    """Let the Keras model find the steps in each recording; raises ConversionError if it dies."""
    with tempfile.TemporaryDirectory(prefix="footfall-keras-") as scratch:
        job, outcome = Path(scratch, "job.json"), Path(scratch, "steps.npz")
        order = {
            "model": str(model.resolve()),
            "state": [list(pair) for pair in spec.state],
            "manifest": manifest,
            "outcome": str(outcome),
            "recordings": [str(path.resolve()) for path in recordings],
        }
        job.write_text(json.dumps(order), encoding="utf-8")
        _run(model, job)
        with np.load(outcome) as found:
            steps = [found[str(number)] for number in range(len(recordings))]
            walk = int(found["walk"])
            return KerasSteps(steps, walk if walk >= 0 else None, found["walk_answers"])


def _run(model: Path, job: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, *lasting_as_long_as_this("converter.keras_steps"), str(job)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"{model}: Keras took more than {TIMEOUT_S} s on the recordings; give fewer") from error
    if done.returncode:
        said = last_words(done.stderr.decode(errors="replace"))
        raise ConversionError(f"{model}: Keras could not run on the recordings: {said}")


def _main(job_path: str) -> None:
    order = json.loads(Path(job_path).read_text(encoding="utf-8"))
    manifest = parse_manifest(order["manifest"])
    ask = _asker(Path(order["model"]), manifest, tuple((given, answer) for given, answer in order["state"]))
    steps: dict[str, Any] = {}
    walk, walk_answers = -1, np.empty((0, 1), np.float32)
    for number, path in enumerate(order["recordings"]):
        recording = load(path)
        windows = collected(recording, manifest)
        raw = ask(windows) if windows.windows else np.empty((0, 1, max(1, len(manifest.classes))), np.float32)
        steps[str(number)] = np.array(steps_of(recording, Replayer(manifest, raw)))
        if walk < 0 and recording.steps is not None and len(recording.steps) >= WALK_STEPS:
            walk, walk_answers = number, step_probabilities(raw, manifest)
    np.savez(order["outcome"], walk=walk, walk_answers=walk_answers, **steps)


def _asker(path: Path, manifest: Manifest, state: tuple[tuple[str, str], ...]) -> Callable[[Collector], FloatArray]:
    """Return a function from collected windows to the model's raw answers [n, …]."""
    # The parent imports this module too, and must stay free of TensorFlow.
    import tensorflow as tf  # noqa: PLC0415

    from converter import keras_model  # noqa: PLC0415
    from converter.sources import kind  # noqa: PLC0415

    loaded = keras_model.load(path, kind(path))
    fixed = keras_model.fix(loaded, window_samples=manifest.window_samples, state=state)
    if fixed.state:
        stream = tf.function(fixed.model, reduce_retracing=True)
        return lambda collector: _streamed(stream, fixed, collector)
    shape = fixed.shapes[fixed.signal][1:]
    # One graph for all recordings: tracing it anew for each would take longer than running it.
    graph = tf.function(loaded.model, reduce_retracing=True)
    return lambda collector: _batched(graph, np.stack(collector.windows).reshape(-1, *shape))


def _batched(graph: Any, windows: FloatArray) -> FloatArray:
    found = [graph(windows[first : first + BATCH]) for first in range(0, len(windows), BATCH)]
    # A SavedModel, and a Keras model that was made with a dict of outputs, answer by name; a list may hold the one.
    return np.concatenate([np.asarray(next(iter(each.values())) if isinstance(each, dict) else each) for each in found])


def _streamed(graph: Any, fixed: Any, collector: Collector) -> FloatArray:
    memory = fixed.rest()
    answers = []
    for window, fresh in zip(collector.windows, collector.fresh, strict=True):
        feed = fixed.feed(window, fixed.rest() if fresh else memory)
        found = graph([feed[name] for name in fixed.inputs])
        memory = {given: np.asarray(found[answer]) for given, answer in fixed.state}
        answers.append(np.asarray(found[fixed.answer])[0])
    return np.stack(answers)


if __name__ == "__main__":
    _main(sys.argv[1])
