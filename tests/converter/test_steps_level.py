"""Scores at the level of steps: the device's own pipeline on both sides, and what is not good enough is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.keras_steps import keras_steps
from converter.steps_level import (
    KERAS,
    NEVER,
    PEAKS,
    Replayer,
    collected,
    compare,
    frame_accuracy,
    labelled,
    objections,
    peaks,
    raw_answers,
    step_probabilities,
    steps_of,
)
from edge.classifier import StepClassifier
from edge.errors import RecordingError
from edge.manifest import embedded_manifest, parse_manifest
from edge.recording import load, save_npz
from emulator.gait import simulate_walk
from tests.converter.conftest import SHIPPED, WINDOW
from tests.converter.proving import opened, with_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from converter.spec import Spec
    from edge.recording import Recording


@pytest.fixture(scope="module")
def walk() -> Recording:
    return simulate_walk(60.0, seed=3)


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory, walk: Recording) -> Path:
    folder = tmp_path_factory.mktemp("walks")
    save_npz(folder / "one.npz", walk)
    save_npz(folder / "two.npz", simulate_walk(60.0, seed=4, placement="waist"))
    return folder


def with_labels(folder: Path, recording: Recording, steps_s: Any) -> Path:
    save_npz(folder / "relabelled.npz", replace(recording, steps=np.asarray(steps_s, np.float64)))
    return folder


def own_steps(folder: Path) -> list[Any]:
    """Return the shipped int8 file's steps, standing in for those of Keras."""
    classifier = StepClassifier(SHIPPED.with_suffix(".tflite"))
    return [np.array(steps_of(load(path), classifier)) for path in labelled(folder)[0]]


def rows_of(flatbuffer: bytes, folder: Path, floats: list[Any] | None = None) -> dict[str, dict[str, Any]]:
    return compare({"int8": flatbuffer}, labelled(folder)[0], own_steps(folder) if floats is None else floats)


def test_every_contender_has_a_row(shipped_flatbuffer: bytes, walks: Path) -> None:
    rows = rows_of(shipped_flatbuffer, walks)
    assert list(rows) == [KERAS, "int8", NEVER, PEAKS]
    assert rows["int8"] == rows[KERAS], "both are the same steps here"
    assert rows["int8"]["f1_250ms"] > 0.9
    assert rows[NEVER]["f1_250ms"] == 0
    assert rows[NEVER]["count_mape_percent"] == 100
    assert 0 < rows[PEAKS]["f1_250ms"] <= 1
    assert objections(rows) == []


def test_the_majority_baseline_is_right_in_nearly_every_frame(shipped_flatbuffer: bytes, walks: Path) -> None:
    rows = rows_of(shipped_flatbuffer, walks)
    steps, frames = rows[NEVER]["true_steps"], 2 * 60 * 25
    assert rows[NEVER]["frame_accuracy"] == pytest.approx(1 - steps / frames, abs=1e-4)
    assert rows["int8"]["frame_accuracy"] > rows[NEVER]["frame_accuracy"] > 0.9


@pytest.mark.parametrize(("precision", "better"), [(0.51, True), (0.49, False)])
def test_a_model_beats_the_majority_when_most_of_its_steps_are_true(precision: float, better: bool) -> None:
    row = {"true_steps": 1000, "predicted_steps": 100, "recall_250ms": precision * 100 / 1000}
    assert (
        frame_accuracy(row, 50_000) > frame_accuracy(row | {"predicted_steps": 0, "recall_250ms": 0}, 50_000)
    ) == better


def test_int8_that_loses_steps_is_caught(shipped_flatbuffer: bytes, walks: Path) -> None:
    deaf = with_manifest(shipped_flatbuffer, threshold=0.85)
    (objection,) = objections(rows_of(deaf, walks, own_steps(walks)))
    assert "loses" in objection
    assert "points of F1 against Keras" in objection


def test_a_silent_model_is_refused_as_the_majority(shipped_flatbuffer: bytes, walks: Path) -> None:
    silent = with_manifest(shipped_flatbuffer, threshold=0.999)
    nothing = [np.empty(0) for _ in labelled(walks)[0]]
    (objection,) = objections(rows_of(silent, walks, nothing))
    assert "no better than the majority baseline" in objection
    assert "F1 is 0.000" in objection


def test_a_model_whose_steps_are_mostly_false_is_refused(
    shipped_flatbuffer: bytes, walk: Recording, tmp_path: Path
) -> None:
    assert walk.steps is not None
    few = with_labels(tmp_path, walk, walk.steps[::8])
    assert "no better than the majority" in objections(rows_of(shipped_flatbuffer, few))[0]


@pytest.mark.parametrize(("loss", "refused"), [(0.0049, False), (0.0051, True)])
def test_half_a_point_of_f1_may_be_lost(loss: float, refused: bool) -> None:
    keras = {"true_steps": 10, "f1_250ms": 0.95, "frame_accuracy": 0.999}
    rows = {KERAS: keras, "int8": keras | {"f1_250ms": 0.95 - loss}, NEVER: keras | {"frame_accuracy": 0.9}}
    assert bool(objections(rows)) == refused


def test_without_any_true_step_nothing_is_claimed(shipped_flatbuffer: bytes, tmp_path: Path, walk: Recording) -> None:
    save_npz(tmp_path / "desk.npz", replace(walk, steps=np.empty(0), steps_known="zero"))
    rows = rows_of(shipped_flatbuffer, tmp_path)
    assert rows["int8"]["true_steps"] == 0
    assert rows["int8"]["false_steps_per_hour"] > 0
    assert objections(rows) == []


@pytest.mark.parametrize("path", [SHIPPED, WINDOW], ids=["shipped", "window"])
def test_replayed_answers_give_the_steps_of_the_classifier(path: Path, walk: Recording) -> None:
    flatbuffer = path.with_suffix(".tflite").read_bytes()
    manifest = parse_manifest(embedded_manifest(flatbuffer))
    model, windows = opened(flatbuffer), collected(walk, manifest)
    raw = np.stack(list(raw_answers(model, windows)))
    steps_s = steps_of(walk, Replayer(manifest, raw))
    assert len(steps_s) > 50
    assert steps_s == steps_of(walk, StepClassifier(path.with_suffix(".tflite")))
    assert np.array_equal(raw, np.stack(list(raw_answers(model, windows)))), "a recording starts from a fresh state"


def test_steps_that_the_gate_of_the_shipped_model_holds_are_held_in_a_replay_too(
    shipped_flatbuffer: bytes, walk: Recording
) -> None:
    manifest = parse_manifest(embedded_manifest(shipped_flatbuffer))
    raw = np.stack(list(raw_answers(opened(shipped_flatbuffer), collected(walk, manifest))))
    walking = raw.copy()
    walking[..., manifest.classes.index("walking")] = 0
    assert len(steps_of(walk, Replayer(manifest, raw))) > 50
    assert steps_of(walk, Replayer(manifest, walking)) == []


def test_answers_for_a_whole_window_are_cut_to_the_new_frames(window_flatbuffer: bytes) -> None:
    manifest = parse_manifest(embedded_manifest(window_flatbuffer))
    raw = np.arange(135, dtype=np.float32).reshape(1, 135, 1)
    assert step_probabilities(raw, manifest).tolist() == [[125, 126, 127, 128, 129]]


def test_the_class_that_is_a_step_is_taken(shipped_flatbuffer: bytes, window_flatbuffer: bytes) -> None:
    shipped = parse_manifest(embedded_manifest(shipped_flatbuffer))
    assert step_probabilities(np.array([[[0.1, 0.9], [0.2, 0.8]]]), shipped).tolist() == [[0.1, 0.2]]
    manifest = parse_manifest(embedded_manifest(window_flatbuffer))
    heads = replace(manifest, classes=("end", "start", "none"))
    raw = np.arange(15, dtype=np.float32).reshape(1, 5, 3)
    assert step_probabilities(raw, heads).tolist() == [[1, 4, 7, 10, 13]]


def test_peaks_of_still_air_are_none(walk: Recording) -> None:
    still = np.zeros_like(walk.imu)
    still[:, 2] = 9.81
    assert len(peaks(replace(walk, imu=still))) == 0
    assert walk.steps is not None
    assert 0.5 < len(peaks(walk)) / len(walk.steps) < 2.2


def test_public_training_recordings_are_left_out(tmp_path: Path, walk: Recording) -> None:
    save_npz(tmp_path / "trained.npz", replace(walk, dataset="oxford_opt", subject="user1"))
    assert labelled(tmp_path) == ([tmp_path / "trained.npz"], 0), "unless nothing else is there"
    save_npz(tmp_path / "unseen.npz", replace(walk, dataset="oxford_val", subject="user1"))
    assert labelled(tmp_path) == ([tmp_path / "unseen.npz"], 1)


def test_recordings_without_steps_are_an_error_that_says_so(tmp_path: Path, walk: Recording) -> None:
    save_npz(tmp_path / "bare.npz", replace(walk, steps=None, steps_known="none"))
    with pytest.raises(RecordingError, match="annotated steps"):
        labelled(tmp_path)


@pytest.mark.tf
def test_keras_behind_the_same_pipeline(shipped_flatbuffer: bytes, shipped_spec: Spec, walks: Path) -> None:
    paths, _ = labelled(walks)
    keras = keras_steps(SHIPPED, shipped_spec, embedded_manifest(shipped_flatbuffer), paths)
    assert keras.walk == 0
    rows = compare({"int8": shipped_flatbuffer}, paths, keras.steps)
    assert rows[KERAS]["f1_250ms"] == pytest.approx(rows["int8"]["f1_250ms"], abs=0.01)
    manifest = parse_manifest(embedded_manifest(shipped_flatbuffer))
    raw = np.stack(list(raw_answers(opened(shipped_flatbuffer), collected(load(paths[0]), manifest))))
    off = np.abs(step_probabilities(raw, manifest) - keras.walk_answers)
    assert 0 < off.mean() < 0.02, "two different computations of the same"


def test_a_damaged_recording_to_score_on_is_named(tmp_path: Path, walk: Recording) -> None:
    path = tmp_path / "cut.npz"
    save_npz(path, walk)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecordingError, match=r"cut\.npz: not a readable \.npz"):
        labelled(tmp_path)
