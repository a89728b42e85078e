"""`python -m converter.leave_one_out`: how the recipe of `make train` does on people it has never seen, one at a time.

Each person of awinda in turn is left out of training; the net then goes through the real converter, and its int8 file
through the device's own pipeline hears that person's recordings. Threshold and gate are those of the shipped model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from converter.convert import unproven
from converter.dataset import LEFT_OUT_ONE_BY_ONE, load_tracks
from converter.operating_point import load_point
from converter.train import STEPS, default_recordings, export
from converter.training import train
from edge.classifier import StepClassifier
from edge.errors import FootfallError
from edge.evaluate import render_table, scored_recording, summary
from edge.pipeline import Pipeline
from edge.recording import find_recordings, load
from edge.types import SampleBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.dataset import Track
    from edge.scoring import ScoredRecording

FIGURES = (
    *("f1_250ms", "f1_100ms", "worst_f1_250ms", "count_mape_percent", "worst_count_error_percent"),
    *("first_step_recall_250ms", "last_step_recall_250ms", "false_steps_per_hour", "latency_p50_s", "latency_p99_s"),
)
RECIPE = ("dataset", "found", "network", "rotation", "sampler", "shape", "training", "vibration")
"""The modules that decide what a trained net is."""
MODELS = Path(__file__).parents[1] / "models"
FIGURES_FILE = "step.leave-one-out.json"


def main(arguments: list[str] | None = None) -> int:
    """Train and score every fold; returns 0, or 2 when there are no recordings."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except FootfallError as error:
        print(f"footfall leave-one-out: {error}", file=sys.stderr)
        return 2
    return 0


def fold(tracks: Sequence[Track], person: str, options: argparse.Namespace, seed: int) -> list[ScoredRecording]:
    """Train without one person and return their recordings, scored."""
    network = trained(tracks, person, options, seed)
    with tempfile.TemporaryDirectory(prefix="footfall-fold-") as folder:
        model = Path(folder, "fold.keras")
        export(network, load_point(options.train), model)
        file = model.with_suffix(".tflite")
        file.write_bytes(unproven(model, model.with_suffix(".yaml"), options.recordings))
        classifier = StepClassifier(file)
        paths = find_recordings([options.recordings / LEFT_OUT_ONE_BY_ONE])
        return [_scored(path, classifier) for path in paths if load(path).subject == person]


def trained(tracks: Sequence[Track], person: str, options: argparse.Namespace, seed: int) -> Any:
    """Return the net of one fold, from the work folder if an earlier run left it there."""
    path = options.work / recipe() / f"{options.steps}-steps-seed-{seed}-without-{person}.keras"
    if not path.exists():
        others = [track for track in tracks if (track.dataset, track.subject) != (LEFT_OUT_ONE_BY_ONE, person)]
        run = train(others, steps=options.steps, seed=seed, title=f"seed {seed}, without {person}")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{os.getpid()}-{path.name}")
        run.network.save(unfinished)
        unfinished.replace(path)
    return keras.saving.load_model(path)


def recipe() -> str:
    """Name the code that the nets are made by: those of another recipe are not taken for this one's."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    made_by = [path for path in sources if path.stem in RECIPE]
    return hashlib.sha256(b"".join(path.read_bytes() for path in made_by)).hexdigest()[:12]


def _scored(path: Path, classifier: StepClassifier) -> ScoredRecording:
    recording = load(path)
    pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz)
    events = [*pipeline.push(SampleBatch(recording.time_s, recording.imu)), *pipeline.finish()]
    return scored_recording(
        recording,
        [event.time_s for event in events],
        [event.emitted_s for event in events],
        [event.backfilled for event in events],
    )


def _run(options: argparse.Namespace) -> None:
    tf.config.experimental.enable_op_determinism()
    tracks = load_tracks(options.recordings, everybody_of=LEFT_OUT_ONE_BY_ONE)
    everybody = sorted({track.subject for track in tracks if track.dataset == LEFT_OUT_ONE_BY_ONE})
    people = options.people or everybody
    if unknown := sorted(set(people) - set(everybody)):
        raise FootfallError(
            f"--people {' '.join(unknown)}: not in {LEFT_OUT_ONE_BY_ONE}; take from {' '.join(everybody)}"
        )
    if set(people) != set(everybody) and options.output is None:
        raise FootfallError(f"--people leaves some out: name an --output, models/{FIGURES_FILE} is for all of them")
    output = options.output or MODELS / FIGURES_FILE
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        report = summary([each for person in people for each in fold(tracks, person, options, seed)])
        print(f"\nseed {seed}\n{render_table(report)}", flush=True)
        rows.append({"seed": seed, **{key: report["datasets"][0][key] for key in FIGURES}})
        facts = {"steps": options.steps, "people": people, "seeds": rows}
        output.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    work = MODELS.parent / "build" / "leave-one-out"
    parser = argparse.ArgumentParser(prog=".venv-converter/bin/python -m converter.leave_one_out", description=__doc__)
    parser.add_argument("--recordings", type=Path, default=default_recordings(), metavar="DIR")
    parser.add_argument(
        "--train", type=Path, default=MODELS / "step.train.json", metavar="X.json", help="of make train"
    )
    parser.add_argument("--output", type=Path, metavar="X.json", help=f"models/{FIGURES_FILE}, if all are left out")
    parser.add_argument("--work", type=Path, default=work, metavar="DIR", help="keeps trained nets, to go on from")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--people", nargs="+", metavar="NAME", help="leave out only these, one at a time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
