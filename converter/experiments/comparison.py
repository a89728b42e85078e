"""Pruning and quantisation-aware training against neither, each converted and measured as the device would run it.

`python -m converter.experiments.comparison --work DIR`; what DIR already holds is not made again.
Its table is in docs/decisions/0004-pruning-and-quantisation-aware-training.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from converter.__main__ import main as convert
from converter.dataset import STANDARD_GRAVITY, Track, load_tracks, resample, role
from converter.experiments.comparison_table import SPLITS, table
from converter.experiments.compression import (
    Condition,
    exported_form,
    filter_masks,
    fine_tune,
    magnitude_masks,
    trainable_form,
)
from converter.network import RECEPTIVE_SAMPLES, exported_network
from converter.operating_point import THRESHOLDS, OperatingPoint, best, label_shift_s, steps_s
from converter.sampler import Sampler
from converter.spec import load_spec
from converter.train import (
    ANCHOR,
    CONTEXT,
    HELD_OUT,
    HOP_SAMPLES,
    INPUT_RANGE_G,
    LOOKAHEAD_SAMPLES,
    WINDOW_FRAMES,
    probabilities,
    train,
)
from edge.classifier import StepClassifier
from edge.evaluate import evaluate
from edge.recording import Recording, find_recordings, load
from edge.runtime import open_interpreter
from edge.scoring import SCORED

if TYPE_CHECKING:
    from edge.types import FloatArray

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "models" / "step.yaml"
CONDITIONS = (
    Condition("control"),
    Condition("pruned-50", magnitude_masks, 0.5),
    Condition("pruned-80", magnitude_masks, 0.8),
    Condition("filters-16-of-24", filter_masks, 1 / 3),
    Condition("quantisation-aware", quantised=True),
)
BASE_SEED = 1
"""That of the shipped model: the base is then the very network on which its threshold was chosen."""
ROUNDS, INVOKES = 60, 200


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A labelled recording, and its frames [n, 3] in g as the model receives them, clipped like an int8 input."""

    recording: Recording
    frames: FloatArray


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    options = _parser().parse_args(arguments)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    options.work.mkdir(parents=True, exist_ok=True)
    _train_all(options)
    models = [path for path in sorted(options.work.glob("*.keras")) if _convert(path, options.recordings)]
    _measure_all(models, options.recordings)
    results = {path.stem: json.loads(path.with_suffix(".result.json").read_text()) for path in models}
    timings = _microseconds([path.with_suffix(".tflite") for path in models])
    for name, microseconds in timings.items():
        results[name]["microseconds"] = microseconds
    (options.work / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    return 0


def _train_all(options: argparse.Namespace) -> None:
    """Write the base, trained without the held-out people, and each condition fine-tuned from it with each seed."""
    base = options.work / "base.keras"
    asked = [condition for condition in CONDITIONS if condition.name in options.only]
    todo = [(c, seed) for c in asked for seed in range(1, options.seeds + 1)]
    todo = [(c, seed) for c, seed in todo if not (options.work / f"{c.name}.{seed}.keras").exists()]
    if base.exists() and not todo:
        return
    tracks = [t for t in load_tracks(options.recordings) if t.subject not in HELD_OUT.get(t.dataset, ())]
    if not base.exists():
        run = train(tracks, steps=options.base_steps, seed=BASE_SEED, title="base")
        exported_network(run.network, hop_samples=HOP_SAMPLES).save(base)
    exported = keras.saving.load_model(base, compile=False)
    shift_s = _label_shift_s(trainable_form(exported), tracks)
    for condition, seed in tqdm(todo, "fine-tuning"):
        network = trainable_form(exported)
        losses = fine_tune(network, condition, _sampler(tracks, shift_s, seed), steps=options.steps)
        print(
            f"{condition.name}.{seed}: loss {np.mean(losses[:50]):.4f} -> {np.mean(losses[-50:]):.4f}", file=sys.stderr
        )
        tuned = exported_form(network, window_samples=exported.input_shape[1])
        tuned.save(options.work / f"{condition.name}.{seed}.keras")


def _label_shift_s(network: Any, tracks: list[Track]) -> dict[str, float]:
    walkers = [track for track in tracks if track.walks]
    return dict(label_shift_s(walkers, [probabilities(network, track) for track in walkers], ANCHOR))


def _sampler(tracks: list[Track], shift_s: dict[str, float], seed: int) -> Sampler:
    return Sampler(
        tracks,
        window_frames=WINDOW_FRAMES,
        context=CONTEXT,
        lookahead=LOOKAHEAD_SAMPLES,
        # Not the windows that the base was trained on in the same order, but the same for every condition.
        rng=np.random.default_rng(1000 + seed),
        shift_s=shift_s,
    )


def _convert(model: Path, recordings: Path) -> bool:
    output = model.with_suffix(".tflite")
    if output.exists():
        return True
    command = ["--model", model, "--spec", SPEC, "--calibration", recordings, "--output", output, "--force"]
    return convert([str(part) for part in command]) == 0


def _measure_all(models: list[Path], recordings: Path) -> None:
    todo = [path for path in models if not path.with_suffix(".result.json").exists()]
    if not todo:
        return
    heard = {split: _heard(recordings, split) for split in SPLITS}
    for path in tqdm(todo, "measuring"):
        facts = json.dumps(_measured(path, heard), indent=1)
        path.with_suffix(".result.json").write_text(facts + "\n", encoding="utf-8")


def _heard(root: Path, split: str) -> list[Heard]:
    heard = []
    for path in tqdm(find_recordings([root]), split):
        recording = load(path)
        if recording.steps_known in SCORED and _split(recording) == split:
            frames = resample(recording.imu, recording.sampling_rate_hz) / np.float32(STANDARD_GRAVITY)
            heard.append(Heard(recording, np.clip(frames, *INPUT_RANGE_G).astype(np.float32)))
    return heard


def _split(recording: Recording) -> str:
    if recording.subject in HELD_OUT.get(recording.dataset, ()):
        return "held_out"
    return role(recording.dataset, recording.subject)


def _measured(path: Path, heard: dict[str, list[Heard]]) -> dict[str, Any]:
    spec, data = load_spec(SPEC), path.with_suffix(".tflite").read_bytes()
    network = trainable_form(keras.saving.load_model(path, compile=False))
    classifier = StepClassifier(path.with_suffix(".tflite"))
    facts: dict[str, Any] = {"bytes": len(data), "gzip_bytes": len(gzip.compress(data, 9, mtime=0))}
    own = spec.threshold
    for split in SPLITS:
        recordings = [one.recording for one in heard[split]]
        int8 = [_int8_answers(classifier, one.frames) for one in heard[split]]
        floats = [_float_answers(network, one.frames) for one in heard[split]]
        score = partial(_score, recordings, refractory_s=spec.refractory_s)
        if split == "held_out":
            tried = [_point(score(int8, threshold), threshold, spec.refractory_s) for threshold in THRESHOLDS]
            own = best(tried).threshold
        facts[split] = {
            "int8": score(int8, spec.threshold),
            "float": score(floats, spec.threshold),
            "int8_own_threshold": {"threshold": own} | score(int8, own),
            "int8_minus_float": _difference(np.concatenate(int8), np.concatenate(floats), spec.threshold),
        }
    return facts


def _int8_answers(classifier: StepClassifier, frames: FloatArray) -> FloatArray:
    """Return the probability of every frame, [n]: a window per hop, as on the device."""
    hops = -(-(len(frames) + LOOKAHEAD_SAMPLES) // HOP_SAMPLES)
    padded = _padded(frames, hops * HOP_SAMPLES - len(frames)) * np.float32(STANDARD_GRAVITY)
    window_samples = RECEPTIVE_SAMPLES + HOP_SAMPLES - 1
    starts = range(0, hops * HOP_SAMPLES, HOP_SAMPLES)
    found = np.concatenate([classifier.probability(padded[start : start + window_samples]) for start in starts])
    return found[LOOKAHEAD_SAMPLES : LOOKAHEAD_SAMPLES + len(frames)]


def _float_answers(network: Any, frames: FloatArray) -> FloatArray:
    found: FloatArray = np.asarray(network(_padded(frames, LOOKAHEAD_SAMPLES)[None], training=False))[0, :, 0]
    return found[LOOKAHEAD_SAMPLES:]


def _padded(frames: FloatArray, after: int) -> FloatArray:
    return np.concatenate([np.repeat(frames[:1], CONTEXT, 0), frames, np.repeat(frames[-1:], after, 0)])


def _score(
    recordings: list[Recording], answers: list[FloatArray], threshold: float, *, refractory_s: float
) -> dict[str, float]:
    found = [(r, steps_s(answer, threshold, refractory_s)) for r, answer in zip(recordings, answers, strict=True)]
    # Where nobody walks every step is false: that is the rate's part, and would only blur F1.
    walks = evaluate((recording, found_s) for recording, found_s in found if recording.steps_known != "zero")["total"]
    rate = evaluate(found)["total"]["false_steps_per_hour"]
    f1 = {key: round(float(walks[key]), 5) for key in ("f1_250ms", "f1_100ms")}
    return f1 | {"false_steps_per_hour": round(float(rate), 2)}


def _point(score: dict[str, float], threshold: float, refractory_s: float) -> OperatingPoint:
    return OperatingPoint(threshold, refractory_s, score["f1_250ms"], score["false_steps_per_hour"])


def _difference(int8: FloatArray, floats: FloatArray, threshold: float) -> dict[str, float]:
    off = np.abs(int8 - floats)
    flips = np.mean((int8 >= threshold) != (floats >= threshold))
    return {"mean": round(float(off.mean()), 5), "max": round(float(off.max()), 5), "flips": round(float(flips), 6)}


def _microseconds(files: list[Path]) -> dict[str, float]:
    """Return the median time of one invoke of each file; the files take turns, so that all meet the same machine."""
    interpreters = {path.stem: open_interpreter(path.read_bytes())[0] for path in files}
    taken: dict[str, list[float]] = {name: [] for name in interpreters}
    for _ in range(ROUNDS):
        for name, interpreter in interpreters.items():
            began_s = time.perf_counter()
            for _ in range(INVOKES):
                interpreter.invoke()
            taken[name].append(1e6 * (time.perf_counter() - began_s) / INVOKES)
    return {name: round(float(np.median(values)), 2) for name, values in taken.items()}


def _parser() -> argparse.ArgumentParser:
    folders = (ROOT / "data" / "recordings", ROOT.parent / "shared" / "data" / "recordings")
    default = next((folder for folder in folders if folder.is_dir()), folders[0])
    parser = argparse.ArgumentParser(prog="python -m converter.experiments.comparison", description=__doc__)
    parser.add_argument("--recordings", type=Path, default=default, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="holds what is made: networks, results")
    parser.add_argument("--base-steps", type=int, default=6000, metavar="N", help="training steps of the base")
    parser.add_argument("--steps", type=int, default=800, metavar="N", help="steps of each fine-tuning")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each condition")
    names = [condition.name for condition in CONDITIONS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CONDITION", help=", ".join(names))
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    return parser


if __name__ == "__main__":
    sys.exit(main())
