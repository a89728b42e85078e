"""The shipped model is what its Keras file, its manifest and the contract say it is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from converter.verify import operators
from edge.classifier import StepClassifier
from edge.manifest import embedded_manifest
from tests.converter.conftest import ROOT, SHIPPED

if TYPE_CHECKING:
    from pathlib import Path

    from converter.spec import Spec


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "converter", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def test_manifest_beside_the_model_is_the_embedded_one(shipped_flatbuffer: bytes) -> None:
    beside = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    assert embedded_manifest(shipped_flatbuffer) == beside


def test_manifest_says_what_the_spec_says(shipped_flatbuffer: bytes, shipped_spec: Spec) -> None:
    manifest = embedded_manifest(shipped_flatbuffer)
    for key in ("name", "version", "threshold", "refractory_s", "hop_samples", "lookahead_samples", "metrics"):
        assert manifest[key] == getattr(shipped_spec, key), key
    assert manifest["trained_on"] == list(shipped_spec.trained_on)
    assert all(source["licence"] for source in manifest["trained_on"])


def test_every_operator_is_built_in_and_no_tensor_is_float(shipped_flatbuffer: bytes) -> None:
    found = operators(shipped_flatbuffer)
    assert found["CONV_2D"] >= 5
    assert not {"QUANTIZE", "DEQUANTIZE", "SPACE_TO_BATCH_ND", "CUSTOM"} & set(found)


def test_the_device_loads_it_and_its_self_test_passes() -> None:
    assert StepClassifier(SHIPPED.with_suffix(".tflite")).manifest.name == "step"


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
