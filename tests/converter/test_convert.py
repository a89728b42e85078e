"""A conversion from the command line: what it warns about and refuses, and what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.quantize import keras_answers
from converter.verify import operators
from edge.recording import save_npz
from emulator.gait import simulate_walk
from tests.converter.conftest import ROOT, SHIPPED
from tests.converter.test_shipped import convert

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with odd models and, in `walks`, recordings."""
    made = tmp_path_factory.mktemp("odd")
    command = [sys.executable, "-m", "tests.converter.odd_models", str(made)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (made / "walks").mkdir()
    for placement in ("waist", "hand", "wrist"):
        walk = simulate_walk(120, 1, placement=placement, sampling_rate_hz=50.0)
        save_npz(made / "walks" / f"{placement}.npz", walk)
    return made


def test_what_the_input_range_cuts_off_shows_as_a_difference_from_keras(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "y.tflite"
    options = ("--calibration", folder / "walks", "--output", output)
    done = convert("--model", SHIPPED, "--input-range", "5,9", *options)
    assert done.returncode == 1, done.stdout
    assert "int8 and Keras differ" in done.stderr
    assert not output.exists()


def test_a_dead_model_is_told_to_be_one(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "y.tflite"
    done = convert("--model", folder / "dead.keras", "--calibration", folder / "walks", "--output", output)
    assert done.returncode == 0, done.stderr
    assert "warning: the Keras model answers 0.50 to 0.50 on every calibration window" in done.stderr
    report = output.with_suffix(".report.md").read_text(encoding="utf-8")
    assert "it finds no step" in report
    assert "not scored on steps" in report


@pytest.mark.parametrize("name", ["zip.h5", "zip", "hdf5.keras"])
def test_a_model_is_what_it_holds_whatever_its_name(folder: Path, name: str) -> None:
    def answers(model: Path) -> Any:
        return keras_answers(model, np.random.default_rng(0).normal(0, 3, (5, 64, 6)).astype(np.float32))

    assert np.array_equal(answers(folder / name), answers(folder / "small.keras"))


def test_an_input_range_that_no_runtime_can_prepare_is_one_line(folder: Path, tmp_path: Path) -> None:
    options = ("--calibration", folder / "walks", "--output", tmp_path / "y.tflite")
    done = convert("--model", SHIPPED, "--input-range=-1e30,1e30", *options)
    assert done.returncode == 1, done.stderr
    assert "cannot prepare the int8 file" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_normalization_layer_becomes_two_integer_operators(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "y.tflite"
    done = convert("--model", folder / "normalised.keras", "--calibration", folder / "walks", "--output", output)
    assert done.returncode == 0, done.stderr
    found = operators(output.read_bytes())
    assert (found["SUB"], found["MUL"]) == (1, 1)


def test_what_an_answer_sees_is_found_behind_a_relu_that_sleeps(folder: Path, tmp_path: Path) -> None:
    options = ("--calibration", folder / "walks", "--output", tmp_path / "y.tflite", "--force")
    done = convert("--model", folder / "shy.keras", *options)
    assert done.returncode == 0, done.stderr
    assert "lookahead_samples 4 (an answer depends on 4 later frames)" in done.stdout
