"""The shipped model is what its Keras file, its manifest and the contract say it is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.flatfile import read_flatbuffer
from converter.runtime_proof import state_pairs
from converter.shape import CLASSES, HOP_SAMPLES
from converter.verify import operators
from edge.classifier import StepClassifier
from edge.manifest import embedded_manifest, parse_manifest
from tests.converter.conftest import ROOT, SHIPPED
from tests.converter.proving import changed, opened

if TYPE_CHECKING:
    from pathlib import Path

    from converter.spec import Spec
    from converter.verify import Int8Model

MAX_BYTES = 80_000


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "converter", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def with_oldest_tap_turned(flatbuffer: bytes, name: str) -> bytes:
    """Return the file with the sign of one convolution's weights for its oldest frame turned round."""

    def turn(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        weights = next(each for each in tensors if each.name.decode() == name and len(each.shape) == 4)
        data = model.buffers[weights.buffer].data.copy()
        data.view(np.int8).reshape(weights.shape)[:, :, 0] *= -1
        model.buffers[weights.buffer].data = data

    return changed(flatbuffer, turn)


def replayed(model: Int8Model, given: bytes) -> bytes:
    model.reset()
    hops = np.frombuffer(given, np.int8).reshape(-1, *model.input_shape)
    return b"".join(model.invoke(hop).tobytes() for hop in hops)


def test_manifest_beside_the_model_is_the_embedded_one(shipped_flatbuffer: bytes) -> None:
    beside = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    assert embedded_manifest(shipped_flatbuffer) == beside


def test_manifest_says_what_the_spec_says(shipped_flatbuffer: bytes, shipped_spec: Spec) -> None:
    manifest = embedded_manifest(shipped_flatbuffer)
    for key in ("name", "version", "threshold", "refractory_s", "hop_samples", "lookahead_samples", "metrics"):
        assert manifest[key] == getattr(shipped_spec, key), key
    assert manifest["trained_on"] == list(shipped_spec.trained_on)
    assert all(source["licence"] for source in manifest["trained_on"])

    assert manifest["classes"] == list(shipped_spec.classes) == list(CLASSES)
    assert shipped_spec.gate is not None
    assert manifest["walking"] == asdict(shipped_spec.gate)
    assert manifest["window_samples"] == manifest["hop_samples"] == HOP_SAMPLES


def test_every_operator_is_built_in_and_no_tensor_is_float(shipped_flatbuffer: bytes) -> None:
    found = operators(shipped_flatbuffer)
    assert found["CONV_2D"] >= 5
    # A QUANTIZE would mean that two tensors which are the same number have two scales.
    assert not {"QUANTIZE", "DEQUANTIZE", "SPACE_TO_BATCH_ND", "CUSTOM"} & set(found)


def test_its_size_stays_within_what_was_promised(shipped_flatbuffer: bytes) -> None:
    assert len(shipped_flatbuffer) <= MAX_BYTES


def test_its_state_goes_back_as_it_comes_out(shipped_flatbuffer: bytes, shipped_spec: Spec) -> None:
    model, pairs = read_flatbuffer(shipped_flatbuffer), state_pairs(shipped_flatbuffer)
    assert len(pairs) == len(shipped_spec.state) == len(model.inputs) - 1 == len(model.outputs) - 1
    given, answers = (
        {model.tensors[index].name: model.tensors[index] for index in side} for side in (model.inputs, model.outputs)
    )
    for source, target in pairs:
        into, out = given[source], answers[target]
        assert (into.shape, into.scale, into.zero_point) == (out.shape, out.scale, out.zero_point), source
        assert into.type == out.type == "INT8"


def test_the_device_loads_it_and_its_self_test_passes() -> None:
    assert StepClassifier(SHIPPED.with_suffix(".tflite")).manifest.name == "step"


def test_its_self_test_reaches_the_oldest_frame_that_any_layer_remembers(shipped_flatbuffer: bytes) -> None:
    cases = parse_manifest(embedded_manifest(shipped_flatbuffer)).self_test.cases
    model = read_flatbuffer(shipped_flatbuffer)
    weights = [model.tensors[each.inputs[1]] for each in model.operators if each.name == "CONV_2D"]
    assert max(each.shape[2] for each in weights) > 1
    for name in (each.name for each in weights if each.shape[2] > 1):
        turned = opened(with_oldest_tap_turned(shipped_flatbuffer, name))
        assert any(replayed(turned, given) != expected for given, expected in cases), name


@pytest.mark.tf
@pytest.mark.data
def test_conversion_remakes_the_shipped_file_byte_for_byte(
    tmp_path: Path, recordings_dir: Path, shipped_flatbuffer: bytes
) -> None:
    output = tmp_path / "again.tflite"
    done = convert("--calibration", recordings_dir, "--output", output)
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == shipped_flatbuffer
    assert output.with_suffix(".json").read_bytes() == SHIPPED.with_suffix(".json").read_bytes()
    facts = json.loads(output.with_suffix(".report.json").read_text(encoding="utf-8"))
    int8 = facts["deterministic"]["variants"]["int8"]
    assert int8["against_keras"]["mean"] < 0.012
    assert int8["size_bytes"] == len(shipped_flatbuffer)
