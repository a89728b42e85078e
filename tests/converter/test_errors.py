"""Bad input is one line on stderr that says what, where and what to do, with exit code 2; nothing is written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.converter.conftest import SHIPPED
from tests.converter.test_shipped import convert

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a copy of the shipped model with its spec, to be spoilt."""
    for suffix in (".keras", ".yaml"):
        shutil.copy(SHIPPED.with_suffix(suffix), tmp_path / f"mine{suffix}")
    return tmp_path / "mine.keras"


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def change_spec(model: Path, **changes: object) -> None:
    path = model.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_truncated_model(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-2000])
    refused(convert("--model", model, "--calibration", model.parent), "mine.keras", "truncated", "model.save()")
    assert not model.with_suffix(".tflite").exists()


def test_a_missing_model(tmp_path: Path, model: Path) -> None:
    spec = model.with_suffix(".yaml")
    refused(convert("--model", tmp_path / "no.keras", "--spec", spec, "--calibration", tmp_path), "no.keras", "--model")


def test_a_spec_with_an_impossible_threshold(model: Path) -> None:
    change_spec(model, threshold=1.5)
    refused(
        convert("--model", model, "--calibration", model.parent), "mine.yaml", "threshold is 1.5", "between 0 and 1"
    )


def test_a_missing_spec(model: Path) -> None:
    spec = model.with_name("other.yaml")
    refused(convert("--model", model, "--spec", spec, "--calibration", model.parent), "other.yaml", "--spec")


def test_an_output_that_is_no_tflite(model: Path) -> None:
    refused(convert("--model", model, "--output", model.with_suffix(".bin")), "mine.bin", ".tflite")


@pytest.mark.tf
def test_a_folder_without_recordings(model: Path) -> None:
    refused(convert("--model", model, "--calibration", model.parent), str(model.parent), "no recording")


@pytest.mark.tf
@pytest.mark.parametrize("hop_samples", [1, 7])
def test_a_spec_that_does_not_fit_the_model(model: Path, hop_samples: int) -> None:
    change_spec(model, hop_samples=hop_samples)
    refused(convert("--model", model, "--calibration", model.parent), "mine.keras", f"hop_samples is {hop_samples}")


@pytest.mark.tf
def test_a_model_damaged_inside(model: Path) -> None:
    damaged = bytearray(model.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    model.write_bytes(damaged)
    refused(convert("--model", model, "--calibration", model.parent), "mine.keras", "damaged")


def test_a_message_is_one_line_whatever_the_names_in_it(tmp_path: Path) -> None:
    done = convert("--model", tmp_path / "two\nlines\x1b[2J.keras", "--calibration", tmp_path)
    refused(done, "two�lines�[2J.keras")
    assert "\x1b" not in done.stderr
