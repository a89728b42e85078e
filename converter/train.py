"""`make train`: trains the shipped network from the public recordings and writes it with its spec and report.

Twice: first without some people, on whom threshold and refractory time are then chosen; then on all training people.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from converter.dataset import SAMPLING_RATE_HZ, STANDARD_GRAVITY, Track, load_tracks
from converter.network import RECEPTIVE_SAMPLES, exported_network, trainable_network
from converter.operating_point import OperatingPoint, choose, label_shift_s
from converter.sampler import Sampler
from converter.spec import Spec, save_spec
from converter.train_report import write_train_report
from edge.errors import FootfallError

if TYPE_CHECKING:
    from edge.types import FloatArray

VERSION = "0.1.0"
HOP_SAMPLES = 5
LOOKAHEAD_SAMPLES = 5
INPUT_RANGE_G = (-4.0, 4.0)
"""After the 8 Hz low-pass, walking stays within 4 g wherever a sensor is worn; 1 LSB is then 0.31 m/s²."""
CONTEXT = RECEPTIVE_SAMPLES - 1
WINDOW_FRAMES = CONTEXT + 256
BATCH = 64
PEAK_RATE = 6e-3
WEIGHT_DECAY = 1e-3
WARM_UP_SHARE, ALIGN_SHARE = 0.1, 0.4
ANCHOR = "awinda_hand"
"""Labels of the other sets are shifted to mark the instant that this set's labels mark."""
HELD_OUT = {
    "awinda_hand": ("person_5",),
    "oxford_opt": ("Dario",),
    "wisdm_watch": ("1604", "1612", "1620", "1628"),
    "wisdm_phone": ("1604", "1612", "1620", "1628"),
}
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
        "dataset": "spsw_watch, spsw_phone, seated",
        "licence": "CC BY 4.0",
        "source": "github:GeoTecINIT/sp-sw-har-dataset@1408d85a512a",
    },
)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A trained network, its loss every so many steps, and the label shift it settled on, s per placement."""

    network: Any
    loss: list[tuple[int, float]]
    shift_s: dict[str, float]


def train(tracks: list[Track], *, steps: int, seed: int, title: str) -> Run:
    """Train a network from scratch; the same seed gives the same network on the same machine."""
    keras.utils.set_random_seed(seed)
    network = trainable_network()
    optimizer = keras.optimizers.AdamW(_schedule(steps), weight_decay=WEIGHT_DECAY, clipnorm=1.0)
    learn = _learner(network, optimizer)
    sampler = _sampler(tracks, seed, {})
    shift_s: dict[str, float] = {}
    losses: list[tuple[int, float]] = []
    recent: list[float] = []
    for step in tqdm(range(steps), title, mininterval=2.0):
        if step == int(ALIGN_SHARE * steps):
            shift_s = _aligned(network, tracks)
            sampler = _sampler(tracks, seed + 1, shift_s)
        batch = sampler.batch(BATCH)
        loss = learn(batch.inputs, batch.target, batch.weight).numpy()
        sampler.remember(batch, loss)
        recent.append(float(loss.mean()))
        if len(recent) == max(1, steps // 100):
            losses.append((step + 1, round(float(np.mean(recent)), 5)))
            recent.clear()
    return Run(network, losses, shift_s)


def probabilities(network: Any, track: Track) -> FloatArray:
    """Return the step probability of every frame of a track, as the device would find it in float arithmetic."""
    first, last = track.frames[:1], track.frames[-1:]
    padded = np.concatenate([np.repeat(first, CONTEXT, 0), track.frames, np.repeat(last, LOOKAHEAD_SAMPLES, 0)])
    answer: FloatArray = np.asarray(network(padded[None], training=False))[0, LOOKAHEAD_SAMPLES:, 0]
    return answer


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, or 2 when there are no recordings."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except FootfallError as error:
        print(f"footfall train: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    # Slower by a little, but `make train` twice gives the same weights twice.
    tf.config.experimental.enable_op_determinism()
    tracks = load_tracks(options.recordings)
    unseen = [track for track in tracks if track.subject in HELD_OUT.get(track.dataset, ())]
    seen = [track for track in tracks if track not in unseen]
    trial = train(seen, steps=options.steps, seed=options.seed, title="training without some people")
    point, tried = choose(*_shifted(trial, unseen))
    print(f"chosen on people held out: {point}")
    final = train(tracks, steps=options.steps, seed=options.seed, title="training on all")
    exported_network(final.network, hop_samples=HOP_SAMPLES).save(options.output)
    save_spec(_spec(point), options.output.with_suffix(".yaml"))
    facts = {
        "steps": options.steps,
        "seed": options.seed,
        "batch": BATCH,
        "parameters": int(final.network.count_params()),
        "held_out": {dataset: list(people) for dataset, people in HELD_OUT.items()},
        "chosen": asdict(point),
        "tried": [asdict(other) for other in tried],
        "label_shift_s": {placement: round(value, 4) for placement, value in final.shift_s.items()},
        "loss": {"without_held_out": trial.loss, "all": final.loss},
    }
    write_train_report(options.output, facts)


def _shifted(run: Run, tracks: list[Track]) -> tuple[list[Track], list[FloatArray]]:
    """Return the tracks with labels at the instant the run was trained for, and its probabilities."""
    shifted = [replace(track, steps_s=track.steps_s + run.shift_s.get(track.placement, 0.0)) for track in tracks]
    return shifted, [probabilities(run.network, track) for track in tracks]


def _sampler(tracks: list[Track], seed: int, shift_s: dict[str, float]) -> Sampler:
    return Sampler(
        tracks,
        window_frames=WINDOW_FRAMES,
        context=CONTEXT,
        lookahead=LOOKAHEAD_SAMPLES,
        rng=np.random.default_rng(seed),
        shift_s=shift_s,
    )


def _aligned(network: Any, tracks: list[Track]) -> dict[str, float]:
    walkers = [track for track in tracks if track.walks]
    return dict(label_shift_s(walkers, [probabilities(network, track) for track in walkers], ANCHOR))


def _schedule(steps: int) -> Any:
    warm_up = int(WARM_UP_SHARE * steps)
    return keras.optimizers.schedules.CosineDecay(
        PEAK_RATE / 10, steps - warm_up, alpha=0.005, warmup_target=PEAK_RATE, warmup_steps=warm_up
    )


def _learner(network: Any, optimizer: Any) -> Any:
    """Return a compiled function (inputs, target, weight) -> mean loss of each window [b]; it updates the network."""
    optimizer.build(network.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def learn(inputs: Any, target: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            answer = network(inputs, training=True)
            each = keras.losses.binary_crossentropy(target, answer) * weight[..., 0]
            loss = tf.reduce_sum(each) / (tf.reduce_sum(weight) + 1.0)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return tf.reduce_sum(each, 1) / (tf.reduce_sum(weight, (1, 2)) + 1.0)

    return learn


def _spec(point: OperatingPoint) -> Spec:
    return Spec(
        name="step",
        version=VERSION,
        sampling_rate_hz=SAMPLING_RATE_HZ,
        hop_samples=HOP_SAMPLES,
        lookahead_samples=LOOKAHEAD_SAMPLES,
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
    )


def _parser() -> argparse.ArgumentParser:
    root = Path(__file__).parents[1]
    folders = (root / "data" / "recordings", root.parent / "shared" / "data" / "recordings")
    default = next((folder for folder in folders if folder.is_dir()), folders[0])
    parser = argparse.ArgumentParser(prog="python -m converter.train", description=__doc__)
    parser.add_argument("--recordings", type=Path, default=default, metavar="DIR")
    parser.add_argument("--output", type=Path, default=root / "models" / "step.keras", metavar="X.keras")
    parser.add_argument("--steps", type=int, default=6000, metavar="N", help="training steps of each of the two runs")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main())
