"""`make train`: trains the shipped network from the public recordings and writes it with its spec and report.

Twice: first for half as long without some people, on whom threshold and gate are then chosen; then on all of them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from converter.dataset import SAMPLING_RATE_HZ, STANDARD_GRAVITY, Track, gentler, load_tracks
from converter.network import exported_network, state
from converter.operating_point import LOOKAHEAD, SHAKEN, OperatingPoint, choose
from converter.shape import CLASSES, HOP_SAMPLES, LOOKAHEADS, LOOKBACKS
from converter.spec import Spec, save_spec
from converter.train_report import write_train_report
from converter.training import BATCH, answers, shifted, train
from converter.vibration import shaken
from edge.errors import FootfallError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = "0.6.0"
STEPS = 12000
TRIAL_SHARE = 0.5
"""Where threshold and gate belong shows long before the last tenth of a point."""
INPUT_RANGE_G = (-4.0, 4.0)
"""After the 8 Hz low-pass, walking stays within 4 g wherever a sensor is worn; 1 LSB is then 0.31 m/s²."""
HELD_OUT = {
    "awinda_hand": ("person_5",),
    "oxford_opt": ("Dario",),
    "wisdm_watch": ("1604", "1612", "1620", "1628"),
    "wisdm_phone": ("1604", "1612", "1620", "1628"),
}
GENTLE = {"slow": (0.6, 0.6), "weak": (1.0, 0.4)}
"""Pace and strength at which the walks of people held out are heard again: nobody here is old, ill or small."""
SHAKEN_SEED = 1
TRAINED_ON = (
    {
        "dataset": "awinda_hand, persons 2-5",
        "licence": "CC BY-SA 4.0",
        "source": "simpleLoc/SIMUL-dataset; github:rizzojr01/Step-Detection-using-AI-Deep-Learning@20ae2a1ffd24",
    },
    {
        "dataset": "oxford_opt",
        "licence": "CC BY 4.0",
        "source": "github:Oxford-step-counter/DataSet@922cc0d8511a",
    },
    {
        "dataset": "wisdm_watch, wisdm_phone, subjects below 1636, without walking",
        "licence": "CC BY 4.0",
        "source": "UCI 507 (Weiss 2019); github:tiefseezeitung/har-sensor-cls@2979b176425b",
    },
    {
        "dataset": "spsw_watch, spsw_phone",
        "licence": "CC BY 4.0",
        "source": "github:GeoTecINIT/sp-sw-har-dataset@1408d85a512a",
    },
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, or 2 when there are no recordings."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except FootfallError as error:
        print(f"footfall train: {error}", file=sys.stderr)
        return 2
    return 0


def held_out(tracks: Sequence[Track]) -> tuple[list[Track], list[Track]]:
    """Return the tracks to learn from and those of the people kept apart to choose the operating point on."""
    apart = [track.subject in HELD_OUT.get(track.dataset, ()) for track in tracks]
    return (
        [track for track, kept in zip(tracks, apart, strict=True) if not kept],
        [track for track, kept in zip(tracks, apart, strict=True) if kept],
    )


def chosen(
    network: Any, unseen: Sequence[Track], shift_s: Mapping[str, float]
) -> tuple[OperatingPoint, list[OperatingPoint]]:
    """Return the operating point that suits people a net has never seen, and all that were tried."""
    scored = shifted([track for track in unseen if track.kind != "walking"], shift_s)
    scored += [
        gentler(track, name, pace=pace, gain=gain)
        for name, (pace, gain) in GENTLE.items()
        for track in scored
        if track.walks
    ]
    scored += _shaken(scored)
    said = [answers(network, track) for track in tqdm(scored, "listening to people left out", mininterval=2.0)]
    return choose(scored, said, HOP_SAMPLES / SAMPLING_RATE_HZ)


def export(network: Any, point: OperatingPoint, output: Path) -> None:
    """Write a trained network in streaming form, and its spec beside it."""
    exported_network(
        network, step_answer=LOOKAHEADS.index(LOOKAHEAD), walking_answer=LOOKBACKS.index(point.lookback)
    ).save(output)
    save_spec(_spec(point), output.with_suffix(".yaml"))


def _shaken(tracks: Sequence[Track]) -> list[Track]:
    """Return those who do not walk again, in a vehicle or on a machine: a gate that opens there counts for hours."""
    rng = np.random.default_rng(SHAKEN_SEED)
    still = [track for track in tracks if track.dataset == "wisdm_watch" and track.kind == "nobody"]
    return [replace(track, dataset=SHAKEN, frames=shaken(track.frames[None], rng)[0]) for track in still]


def _run(options: argparse.Namespace) -> None:
    # Slower by a little, but `make train` twice gives the same weights twice.
    tf.config.experimental.enable_op_determinism()
    roles = ("train", "unclear licence") if options.unclear_licences else ("train",)
    tracks = load_tracks(options.recordings, roles)
    seen, unseen = held_out(tracks)
    # To choose by, not to learn from: no weight is made of them.
    unseen += [] if options.unclear_licences else load_tracks(options.recordings, ("unclear licence",))
    trial = train(seen, steps=int(TRIAL_SHARE * options.steps), seed=options.seed, title="training without some people")
    final = train(tracks, steps=options.steps, seed=options.seed, title="training on all")
    # How labels differ between placements says nothing about a person, and all people together tell it best.
    point, tried = chosen(trial.network, unseen, final.shift_s)
    print(f"chosen on people held out: {point}")
    options.work.mkdir(parents=True, exist_ok=True)
    for name, run in (("trial", trial), ("final", final)):
        run.network.save(options.work / f"{name}.keras")
    export(final.network, point, options.output)
    facts = {
        "steps": options.steps,
        "seed": options.seed,
        "batch": BATCH,
        "parameters": int(final.network.count_params()),
        "held_out": {dataset: list(people) for dataset, people in HELD_OUT.items()},
        "chosen": asdict(point) | {"wrong_per_day": round(point.wrong_per_day, 1)},
        "tried": [asdict(other) | {"wrong_per_day": round(other.wrong_per_day, 1)} for other in tried],
        "label_shift_s": {placement: round(value, 4) for placement, value in final.shift_s.items()},
        "loss": {"without_held_out": trial.loss, "all": final.loss},
    }
    write_train_report(options.output, facts)


def _spec(point: OperatingPoint) -> Spec:
    return Spec(
        name="step",
        version=VERSION,
        sampling_rate_hz=SAMPLING_RATE_HZ,
        hop_samples=HOP_SAMPLES,
        lookahead_samples=LOOKAHEAD,
        channels=("acc_x", "acc_y", "acc_z"),
        offset=(0.0, 0.0, 0.0),
        scale=(STANDARD_GRAVITY, STANDARD_GRAVITY, STANDARD_GRAVITY),
        input_range=INPUT_RANGE_G,
        output="per_sample_probability",
        threshold=point.threshold,
        refractory_s=point.refractory_s,
        any_orientation=True,
        trained_on=TRAINED_ON,
        metrics={
            "held_out_people_f1_250ms": point.f1_250ms,
            "held_out_people_false_steps_per_hour": point.false_steps_per_hour,
        },
        classes=CLASSES,
        state=state(),
        gate=point.gate,
    )


def default_recordings() -> Path:
    """Return the folder of recordings that `make data` provides, whether it is there or not."""
    root = Path(__file__).parents[1]
    folders = (root / "data" / "recordings", root.parent / "shared" / "data" / "recordings")
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _parser() -> argparse.ArgumentParser:
    output, work = (Path(__file__).parents[1] / path for path in ("models/step.keras", "build/train"))
    parser = argparse.ArgumentParser(prog="python -m converter.train", description=__doc__)
    parser.add_argument("--recordings", type=Path, default=default_recordings(), metavar="DIR")
    parser.add_argument("--output", type=Path, default=output, metavar="X.keras")
    parser.add_argument("--work", type=Path, default=work, metavar="DIR", help="gets the nets of both runs, unexported")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help="training steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--unclear-licences", action="store_true", help="learn from ipol_gait and sisfall_waist too, to compare"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
