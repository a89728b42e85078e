"""The converted file and its Keras model at the level of steps: the same recordings through the device's own pipeline.

Both go through edge.pipeline (resampler, windows, detector) and are scored by edge.scoring. Beside them stand two
baselines that need no model: never a step, which is right in most frames and finds nothing, and a peak counter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from converter.dataset import CLEAR_LICENCE, role
from converter.headings import scalars
from converter.verify import Int8Model
from edge.classifier import Answer, StepClassifier
from edge.errors import RecordingError
from edge.evaluate import evaluate
from edge.manifest import embedded_manifest, parse_manifest
from edge.pipeline import Pipeline
from edge.progress import Progress
from edge.recording import Recording, find_recordings, load
from edge.scoring import SCORED
from edge.signal import Resampler
from edge.types import SampleBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edge.manifest import Manifest
    from edge.types import FloatArray, TimeArray

ALLOWED_F1_LOSS = 0.005
"""What int8 may lose against Keras at 0.25 s: half a point; the shipped model loses 0.1."""
KERAS = "Keras float32"
NEVER = "always 'no step'"
PEAKS = "peak counter"
PEAK_M_S2, PEAK_DISTANCE_S, PEAK_RATE_HZ = 1.2, 0.3, 25.0
"""A step of the peak counter: acceleration that far above its mean over two seconds, at least that long apart."""
ROW_KEYS = (
    "true_steps",
    "predicted_steps",
    "f1_250ms",
    "f1_100ms",
    "precision_250ms",
    "recall_250ms",
    "count_mape_percent",
    "false_steps_per_hour",
    "non_walking_hours",
)


class Classifier(Protocol):
    """What the pipeline asks of a model."""

    manifest: Manifest

    def infer(self, window: FloatArray) -> Answer:
        """Return what the model says of a window in SI units."""


class Collector:
    """Stands in for a model to collect, normalised, the windows that the pipeline would ask it about."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.windows: list[FloatArray] = []
        self.fresh: list[bool] = []
        self._silence = Answer(np.zeros(manifest.answers_per_hop, np.float32))
        self._starts = True

    def reset(self) -> None:
        """Note that the next window starts a new segment."""
        self._starts = True

    def infer(self, window: FloatArray) -> Answer:
        """Keep the window; answer that there is no step."""
        self.windows.append(normalised(window, self.manifest))
        self.fresh.append(self._starts)
        self._starts = False
        return self._silence


class Replayer:
    """Gives the pipeline a model's raw outputs [n, …], computed beforehand, in the order of the windows."""

    def __init__(self, manifest: Manifest, raw: FloatArray) -> None:
        self.manifest = manifest
        self._answers = zip(step_probabilities(raw, manifest), _walking(raw, manifest), strict=True)

    def reset(self) -> None:
        """Do nothing: the answers know where segments start."""

    def infer(self, window: FloatArray) -> Answer:
        """Return the next answer, whatever the window."""
        del window
        return Answer(*next(self._answers))


def normalised(window: FloatArray, manifest: Manifest) -> FloatArray:
    """Return a window in SI units as the float model wants it."""
    scaled: FloatArray = ((window - np.asarray(manifest.offset)) / np.asarray(manifest.scale)).astype(np.float32)
    return scaled


def step_probabilities(raw: FloatArray, manifest: Manifest) -> FloatArray:
    """Return [n, hop] (or [n, 1] for a window head) probabilities of a step from a model's raw outputs [n, …]."""
    return _column(raw, manifest, manifest.step_class)


def _walking(raw: FloatArray, manifest: Manifest) -> Iterable[float | None]:
    if manifest.walking_class is None:
        return [None] * len(raw)
    walking: list[float] = _column(raw, manifest, manifest.walking_class)[:, -1].tolist()
    return walking


def _column(raw: FloatArray, manifest: Manifest, column: int) -> FloatArray:
    if manifest.classes:
        raw = raw[..., column]
    flat = raw.reshape(len(raw), -1)
    if flat.shape[1] in (1, manifest.hop_samples):
        return flat
    end = manifest.window_samples - manifest.lookahead_samples
    return flat[:, end - manifest.hop_samples : end]


def steps_of(recording: Recording, classifier: Classifier) -> list[float]:
    """Return the step times, s, that the device's pipeline finds in a recording with this classifier."""
    pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz)  # type: ignore[arg-type]
    batch = SampleBatch(recording.time_s, recording.imu)
    return [step.time_s for step in (*pipeline.push(batch), *pipeline.finish())]


def collected(recording: Recording, manifest: Manifest) -> Collector:
    """Return the windows, normalised, that the pipeline makes of a recording."""
    collector = Collector(manifest)
    steps_of(recording, collector)
    return collector


def labelled(folder: Path) -> tuple[list[Path], int]:
    """Return the recordings that can be scored, and how many were left out.

    Those left out are the public ones that `make train` learns from, unless no others remain. Raises RecordingError
    when none can be scored.
    """
    paths: list[Path] = []
    trained_on: list[Path] = []
    for path in find_recordings([folder]):
        known, dataset, subject = _heading(path)
        if known in SCORED:
            public_training = dataset in CLEAR_LICENCE and role(dataset, subject) == "train"
            (trained_on if public_training else paths).append(path)
    if not paths and not trained_on:
        raise RecordingError(f"{folder}: no recording has annotated steps; give --evaluate labelled ones (see README)")
    return (paths, len(trained_on)) if paths else (trained_on, 0)


def peaks(recording: Recording) -> TimeArray:
    """Return the steps, s, of the simplest counter: peaks of the acceleration's magnitude."""
    resampler = Resampler(sampling_rate_hz=PEAK_RATE_HZ, source_rate_hz=recording.sampling_rate_hz)
    frames = resampler.push(SampleBatch(recording.time_s, recording.imu))
    if len(frames.data) < 3:
        return np.empty(0)
    size = np.linalg.norm(frames.data, axis=1)
    around = np.ones(int(2 * PEAK_RATE_HZ) + 1)
    size = size - np.convolve(size, around, "same") / np.convolve(np.ones_like(size), around, "same")
    top = (size[1:-1] >= size[:-2]) & (size[1:-1] > size[2:]) & (size[1:-1] > PEAK_M_S2)
    kept_s: list[float] = []
    for time_s in frames.time_s[1:-1][top].tolist():
        if not kept_s or time_s - kept_s[-1] >= PEAK_DISTANCE_S:
            kept_s.append(time_s)
    return np.array(kept_s)


def compare(
    flatbuffers: dict[str, bytes], paths: Sequence[Path], keras_steps: Sequence[TimeArray]
) -> dict[str, dict[str, Any]]:
    """Score every variant of a model, its Keras original and the baselines on labelled recordings; a row for each.

    flatbuffers: by variant, `int8` run by the device's own classifier. keras_steps: what the float model finds.
    """
    found: dict[str, list[Any]] = {name: [] for name in (KERAS, *flatbuffers, NEVER, PEAKS)}
    with tempfile.TemporaryDirectory(prefix="footfall-prove-") as scratch, Progress("scoring", len(paths)) as bar:
        finders = {name: _finder(name, data, Path(scratch)) for name, data in flatbuffers.items()}
        for path, float_steps in zip(paths, keras_steps, strict=True):
            recording = load(path)
            bare = _without_samples(recording)
            found[KERAS].append((bare, float_steps))
            for name, finder in finders.items():
                found[name].append((bare, finder(recording)))
            found[NEVER].append((bare, []))
            found[PEAKS].append((bare, peaks(recording)))
            bar.advance(1)
    frames = _frames(flatbuffers, found[NEVER])
    return {name: _row(evaluate(results), frames) for name, results in found.items()}


def objections(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return why the int8 file should not be used: worse than saying nothing, or too much lost in quantisation."""
    found = []
    int8, keras, never = rows.get("int8"), rows[KERAS], rows[NEVER]
    if int8 is None or not int8["true_steps"]:
        return []
    if int8["frame_accuracy"] <= never["frame_accuracy"]:
        found.append(
            f"int8 is no better than the majority baseline: right in {100 * int8['frame_accuracy']:.2f} % of frames, "
            f"always answering 'no step' in {100 * never['frame_accuracy']:.2f} %; its F1 is {int8['f1_250ms']:.3f}; "
            "check the spec's channels, units and threshold, then train longer"
        )
    loss = (keras["f1_250ms"] or 0.0) - (int8["f1_250ms"] or 0.0)
    if loss > ALLOWED_F1_LOSS:
        found.append(
            f"int8 loses {100 * loss:.2f} points of F1 against Keras ({int8['f1_250ms']:.4f}, "
            f"{keras['f1_250ms']:.4f}); allowed: {100 * ALLOWED_F1_LOSS:g}; calibrate on recordings like these"
        )
    return found


def frame_accuracy(row: dict[str, Any], frames: int) -> float:
    """Return the share of frames that a step detector answers rightly, if each step is one frame.

    This is the figure that flatters: never finding a step scores 1 - steps / frames. A model beats that exactly when
    more than half of the steps it finds are true.
    """
    hits = (row["recall_250ms"] or 0.0) * row["true_steps"]
    wrong = row["true_steps"] + row["predicted_steps"] - 2 * hits
    return float(1 - wrong / frames)


def _row(report: dict[str, Any], frames: int) -> dict[str, Any]:
    total = report["total"]
    row = {key: _rounded(total[key]) for key in ROW_KEYS}
    row["frame_accuracy"] = round(frame_accuracy(total, frames), 5)
    names = ("f1_250ms", "false_steps_per_hour", "true_steps")
    row["datasets"] = {each["dataset"]: {key: _rounded(each[key]) for key in names} for each in report["datasets"]}
    return row


def _rounded(value: Any) -> Any:
    return round(value, 5) if isinstance(value, float) else value


def _frames(flatbuffers: dict[str, bytes], results: list[Any]) -> int:
    manifest = parse_manifest(embedded_manifest(next(iter(flatbuffers.values()))))
    seconds = sum(float(recording.duration_s) for recording, _ in results)
    return max(1, round(seconds * manifest.sampling_rate_hz))


def _finder(variant: str, flatbuffer: bytes, scratch: Path) -> Callable[[Recording], list[float]]:
    """Return what finds steps in a recording: the device's own classifier for int8, a look-alike for other variants."""
    if variant == "int8":
        path = scratch / "int8.tflite"
        path.write_bytes(flatbuffer)
        classifier = StepClassifier(path)
        return lambda recording: steps_of(recording, classifier)
    document = embedded_manifest(flatbuffer)
    manifest = parse_manifest(document)
    model = Int8Model(flatbuffer, [(pair["input"], pair["output"]) for pair in document.get("state") or []])

    def find(recording: Recording) -> list[float]:
        windows = collected(recording, manifest)
        raw = list(raw_answers(model, windows))
        if not raw:
            return []
        return steps_of(recording, Replayer(manifest, np.stack(raw)))

    return find


def raw_answers(model: Int8Model, collector: Collector) -> Iterator[FloatArray]:
    """Yield the model's raw output for each window, the state carried over within a segment."""
    for window, starts in zip(collector.windows, collector.fresh, strict=True):
        if starts:
            model.reset()
        yield model.dequantised(model.invoke(model.quantised(window)))[0]


def _heading(path: Path) -> tuple[str, str, str]:
    """Return steps_known, data set and subject."""
    keys = ("steps_known", "dataset", "subject")
    found = scalars(path, keys)
    if found is None or set(found) != set(keys):
        recording = load(path)
        return recording.steps_known, recording.dataset, recording.subject
    known, dataset, subject = (str(found[key]) for key in keys)
    return known, dataset, subject


def _without_samples(recording: Recording) -> Recording:
    """Return the labels of a recording alone: hundreds of them are kept until all are scored."""
    ends_s = recording.time_s[[0, -1]]
    return Recording(
        name=recording.name,
        time_s=ends_s,
        imu=recording.imu[[0, -1]],
        sampling_rate_hz=recording.sampling_rate_hz,
        steps=recording.steps,
        steps_known=recording.steps_known,
        dataset=recording.dataset,
        subject=recording.subject,
        placement=recording.placement,
        label_intervals=recording.label_intervals,
    )
