"""Networks of many shapes, each from the command line to a proven file that the device runs like Keras."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.quantize import keras_answers
from converter.variants import VARIANTS, variant_path
from converter.verify import operators
from edge.classifier import StepClassifier
from edge.recording import load, save_npz
from emulator.gait import simulate_walk
from tests.converter.conftest import ROOT
from tests.converter.test_shipped import convert

if TYPE_CHECKING:
    from edge.types import FloatArray

pytestmark = [pytest.mark.tf, pytest.mark.slow]

NAMES = (
    "pointwise", "plain", "separable", "depthwise", "normalised", "max_pooling", "two_classes", "image_like",
    "residual", "dilated_causal", "start_end", "newest_frames", "attentive", "streaming",
)  # fmt: skip
WORKERS = 2


@dataclass(frozen=True)
class Zoo:
    """The folder, and how the conversion of each network ended."""

    folder: Path
    models: dict[str, Path]
    ended: dict[str, subprocess.CompletedProcess[str]]

    def output(self, name: str) -> Path:
        return self.folder / f"{name}.tflite"

    def walk(self) -> FloatArray:
        return load(self.folder / "recordings" / "hand-1.npz").imu


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Build every network in one process and convert each in its own."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "recordings").mkdir()
    for placement in ("waist", "hand", "wrist"):
        for seed in (1, 2):
            walk = simulate_walk(90, seed, placement=placement, sampling_rate_hz=50.0)
            save_npz(folder / "recordings" / f"{placement}-{seed}.npz", walk)
    command = [sys.executable, "-m", "tests.converter.zoo", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    listed = json.loads((folder / "zoo.json").read_text(encoding="utf-8"))

    def converted(name: str) -> subprocess.CompletedProcess[str]:
        options = ("--calibration", folder / "recordings", "--output", folder / f"{name}.tflite")
        return convert("--model", listed[name]["path"], *options, *listed[name]["options"])

    with ThreadPoolExecutor(WORKERS) as pool:
        ended = dict(zip(listed, pool.map(converted, listed), strict=True))
    return Zoo(folder, {name: Path(entry["path"]) for name, entry in listed.items()}, ended)


def test_the_whole_zoo_is_listed_here(zoo: Zoo) -> None:
    assert set(NAMES) == set(zoo.models)


@pytest.mark.parametrize("name", NAMES)
def test_it_converts_without_a_spec_and_says_what_it_assumed(zoo: Zoo, name: str) -> None:
    done = zoo.ended[name]
    assert done.returncode == 0, done.stderr
    assert "assumed: sampling_rate_hz 50.0 (that of the recordings)" in done.stdout
    assert f"{zoo.output(name)}  int8" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_no_operator_touches_a_float(zoo: Zoo, name: str) -> None:
    found = operators(zoo.output(name).read_bytes())
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(found)


@pytest.mark.parametrize("name", NAMES)
def test_the_device_runs_it_over_a_walk(zoo: Zoo, name: str) -> None:
    classifier = StepClassifier(zoo.output(name))
    manifest = classifier.manifest
    frames = zoo.walk()[:1000, manifest.columns]
    starts = range(0, len(frames) - manifest.window_samples, manifest.hop_samples)
    answers = [classifier.infer(frames[start : start + manifest.window_samples]).step for start in starts]
    assert {answer.shape for answer in answers} == {(manifest.answers_per_hop,)}
    assert np.min(answers) >= 0
    assert np.max(answers) <= 1
    assert np.ptp(answers) > 0.03, "it answers the same to everything"


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_like_keras(zoo: Zoo, name: str) -> None:
    facts = json.loads(zoo.output(name).with_suffix(".report.json").read_text(encoding="utf-8"))
    found = facts["deterministic"]["variants"]["int8"]["against_keras"]
    assert found["frames"] >= 200
    assert found["mean"] < 0.02
    assert found["disagreement"] < 0.03


@pytest.mark.parametrize("name", ["pointwise", "image_like", "dilated_causal", "start_end", "attentive"])
def test_the_device_agrees_with_keras_on_windows_it_was_not_calibrated_on(zoo: Zoo, name: str) -> None:
    classifier = StepClassifier(zoo.output(name))
    manifest = classifier.manifest
    window, hop = manifest.window_samples, manifest.hop_samples
    walk = simulate_walk(60, 9, placement="hand", sampling_rate_hz=50.0).imu[:, manifest.columns]
    windows = np.stack([walk[start : start + window] for start in range(0, 60 * hop, hop)])
    floats = keras_answers(zoo.models[name], windows.astype(np.float32))
    floats = floats.reshape(len(windows), -1, max(1, len(manifest.classes)))[..., manifest.step_class]
    if floats.shape[1] == window > 1:
        floats = floats[:, window - manifest.lookahead_samples - hop : window - manifest.lookahead_samples]
    int8 = np.stack([classifier.infer(one).step for one in windows])
    assert np.abs(int8 - floats).mean() < 0.03


def test_a_streaming_net_agrees_with_keras_while_its_state_is_fed_back(zoo: Zoo) -> None:
    classifier = StepClassifier(zoo.output("streaming"))
    hop = classifier.manifest.hop_samples
    walk = simulate_walk(60, 9, placement="hand", sampling_rate_hz=50.0).imu[:, classifier.manifest.columns]
    windows = walk[: 300 * hop].reshape(300, hop, -1).astype(np.float32)
    state = [("past_input", "past_input_next"), ("past_first", "past_first_next")]
    floats = keras_answers(zoo.models["streaming"], windows[None], state)[0, :, :, 0]
    int8 = np.stack([classifier.infer(one).step for one in windows])
    assert np.abs(int8 - floats).mean() < 0.01
    assert np.abs(int8[-50:] - floats[-50:]).mean() < 0.01, "it drifts"
    fresh = keras_answers(zoo.models["streaming"], windows[:, None], state)[:, 0, :, 0]
    assert np.abs(fresh - floats).mean() > 0.01, "the state makes no difference, so this test shows nothing"
    classifier.reset()
    assert np.array_equal(classifier.infer(windows[0]).step, int8[0])


def test_every_variant_is_written_and_labelled_and_only_int8_is_for_the_device(zoo: Zoo) -> None:
    for variant in VARIANTS:
        path = variant_path(zoo.output("plain"), variant)
        manifest: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert manifest["quantization"] == variant
        assert StepClassifier(path, int8_only=False).manifest.quantization == variant
        if variant != "int8":
            with pytest.raises(ValueError, match=f"is {variant}, not int8"):
                StepClassifier(path)


def test_what_the_shapes_say_is_in_the_manifest(zoo: Zoo) -> None:
    def manifest(name: str) -> Any:
        return StepClassifier(zoo.output(name)).manifest

    assert manifest("pointwise").classes == ("start", "end", "none")
    assert (manifest("pointwise").output, manifest("pointwise").window_samples) == ("start_end_classes", 1)
    assert (manifest("two_classes").output, manifest("two_classes").classes) == ("window_probability", ("none", "step"))
    assert (manifest("residual").output, manifest("residual").lookahead_samples) == ("per_sample_probability", 8)
    assert (manifest("dilated_causal").window_samples, manifest("dilated_causal").lookahead_samples) == (48, 0)
    assert manifest("newest_frames").hop_samples == 8
    assert manifest("max_pooling").scale == (9.80665,) * 3 + (1.0,) * 3
    assert len(manifest("streaming").state) == 2
