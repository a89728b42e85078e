"""The model file: proven at load, refused with one clear line when anything is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge.classifier import StepClassifier
from edge.errors import ModelError
from edge.manifest import (
    CHECKSUM_NAME,
    METADATA_NAME,
    _bytes_at,
    _field,
    _indirect,
    _vector,
    check_sum,
    checksum,
    checksum_place,
    embedded_manifest,
    parse_manifest,
)
from edge.runtime import RUNTIMES

MODEL = Path(__file__).resolve().parents[2] / "models" / "step.tflite"


@pytest.fixture(scope="module")
def classifier() -> StepClassifier:
    return StepClassifier(MODEL)


@pytest.fixture
def document() -> dict[str, Any]:
    return embedded_manifest(MODEL.read_bytes())


def test_the_shipped_model_loads_and_passes_its_self_test(classifier: StepClassifier) -> None:
    assert classifier.runtime in RUNTIMES
    assert len(classifier.manifest.self_test.cases) >= 2


def test_the_json_beside_the_model_is_what_is_embedded(document: dict[str, Any]) -> None:
    assert json.loads(MODEL.with_suffix(".json").read_text(encoding="utf-8")) == document


def test_probabilities_are_one_per_new_frame_between_0_and_1(classifier: StepClassifier) -> None:
    model = classifier.manifest
    window = np.full((model.window_samples, len(model.channels)), 5.0, np.float32)
    probability = classifier.infer(window).step
    assert probability.shape == (model.hop_samples,)
    assert ((probability >= 0) & (probability <= 1)).all()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_quantisation_is_within_half_a_step_inside_the_range_and_saturates_outside(
    classifier: StepClassifier, data: st.DataObject
) -> None:
    model = classifier.manifest
    shape = (model.window_samples, len(model.channels))
    window = data.draw(npst.arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=32)))
    classifier.infer(window)
    detail = classifier._interpreter.get_input_details()[0]
    scale, zero = detail["quantization"]
    got = (classifier._given[0].astype(np.float64) - zero) * scale * np.asarray(model.scale)
    low, high = ((bound - zero) * scale * np.asarray(model.scale) for bound in (-128, 127))
    ideal = np.clip(window, low, high)
    assert np.abs(got - ideal).max() <= 0.5001 * scale * max(model.scale)


def largest_buffer(data: bytes) -> tuple[int, int]:
    """Position and size of the largest buffer of a .tflite, which holds weights."""
    found = []
    for table in _vector(data, _indirect(data, 0), 4):
        at = _field(data, table, 0)
        if at is not None:
            start = _indirect(data, at)
            content = _bytes_at(data, start)
            if not content.startswith(b"{"):
                found.append((len(content), start + 4))
    length, start = max(found)
    return start, length


def write(path: Path, flatbuffer: bytes) -> Path:
    path.write_bytes(flatbuffer)
    return path


def sealed(flatbuffer: bytes) -> bytes:
    """Give a changed file a checksum that fits, as a careful forger would."""
    place = checksum_place(flatbuffer)
    assert place is not None
    return flatbuffer[: place.start] + checksum(flatbuffer, place) + flatbuffer[place.stop :]


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        StepClassifier(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("size", [0, 3, 7, 8, 100, 1000, 20_000])
def test_a_truncated_model_is_refused(tmp_path: Path, size: int) -> None:
    refused(write(tmp_path / "short.tflite", MODEL.read_bytes()[:size]))


def test_a_missing_model_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.tflite")
    assert "no file" in refused(tmp_path)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    assert "not a .tflite" in refused(write(tmp_path / "notes.tflite", b"this is not a model" * 100))


def test_a_model_without_a_manifest_is_refused(tmp_path: Path) -> None:
    renamed = MODEL.read_bytes().replace(METADATA_NAME.encode(), b"footfall.manifeSt")
    assert "footfall-convert" in refused(write(tmp_path / "bare.tflite", sealed(renamed)))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"hop_samples"', b'"hup_samples"', "hop_samples"),
        (b'"schema_version"', b'"schema_versiun"', "schema_version"),
        (b'"acc_x"', b'"acc_w"', "acc_w"),
        (b'"step_detection"', b'"nose_detection"', "nose_detection"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, old: bytes, new: bytes, says: str) -> None:
    original = MODEL.read_bytes()
    assert old in original
    assert says in refused(write(tmp_path / "other.tflite", sealed(original.replace(old, new))))


def test_changed_weights_fail_the_self_test(tmp_path: Path) -> None:
    damaged = bytearray(MODEL.read_bytes())
    start, length = largest_buffer(bytes(damaged))
    damaged[start : start + length] = bytes(value ^ 0x20 for value in damaged[start : start + length])
    assert "self_test" in refused(write(tmp_path / "damaged.tflite", sealed(bytes(damaged))))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_any_single_wrong_byte_is_refused_before_the_runtime_sees_it(at: int, flip: int) -> None:
    damaged = bytearray(MODEL.read_bytes())
    damaged[at % len(damaged)] ^= flip
    place = checksum_place(MODEL.read_bytes())
    assert place is not None
    try:
        check_sum(bytes(damaged))
    except ModelError as error:
        assert str(error)  # noqa: PT017  the refusal is what is wanted
        return
    # Only the few bytes by which the file says that it has a checksum can take that protection away.
    assert checksum_place(bytes(damaged)) is None


def test_a_file_without_a_checksum_is_accepted_on_its_manifest_alone(tmp_path: Path) -> None:
    unsealed = MODEL.read_bytes().replace(CHECKSUM_NAME.encode(), b"footfall.sha25X")
    assert StepClassifier(write(tmp_path / "unsealed.tflite", unsealed)).manifest.name == "step"


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 30_000), value=st.integers(0, 255))
def test_no_single_wrong_byte_makes_reading_the_manifest_crash(at: int, value: int) -> None:
    damaged = bytearray(MODEL.read_bytes())
    damaged[at % len(damaged)] = value
    try:
        parse_manifest(embedded_manifest(bytes(damaged)))
    except ModelError as error:
        assert str(error)  # noqa: PT017  either outcome is right, a crash is not


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling_rate_hz", 0),
        ("window_samples", 0),
        ("hop_samples", 1000),
        ("lookahead_samples", -1),
        ("threshold", 1.5),
        ("threshold", "high"),
        ("refractory_s", 0),
        ("channels", []),
        ("normalization", {"offset": [0, 0, 0], "scale": [1, 1, 0]}),
        ("normalization", {"offset": [0], "scale": [1, 1, 1]}),
        ("output", "gossip"),
        ("state", [["a", "b"]]),
        ("state", [{"input": "a"}]),
        ("hop_samples", 1),
        ("classes", ["none", "else"]),
        ("classes", ["step"]),
        ("classes", []),
        ("walking", {"on": 0.9, "off": 0.2}),
        ("walking", {"on": 0.2, "off": 0.9, "backfill_s": 4.0}),
        ("walking", {"on": 1.0, "off": 0.2, "backfill_s": 4.0}),
        ("walking", {"on": 0.9, "off": 0.0, "backfill_s": 4.0}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": -1}),
        ("walking", {"on": "0.9", "off": 0.2, "backfill_s": 4.0}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "first": 0}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "first": "0.2"}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "last": 1}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "last": True}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "least": -1}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "least": 2.5}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 0}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "last": float("nan")}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "first": 0.99}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "lst": 0.3}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "patience_s": 3.9}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "patience_s": 61}),
        ("walking", {"on": 0.9, "off": 0.2, "backfill_s": 4.0, "patience_s": "20"}),
        ("walking", "on"),
        ("walking", []),
        ("schema_version", True),
        ("task", "x" * 1000),
        ("threshold", 10**400),
        ("channels", [1]),
        ("classes", "step"),
        ("quantization", "int4"),
        ("self_test", {"tolerance_lsb": 8, "cases": []}),
        ("self_test", {"tolerance_lsb": 8, "cases": [{"input": "?", "output": "AA=="}]}),
    ],
)
def test_each_field_of_the_manifest_is_checked(document: dict[str, Any], name: str, value: object) -> None:
    with pytest.raises(ModelError, match=f"manifest (has no field ')?{name}") as refused:
        parse_manifest(document | {name: value})
    assert len(str(refused.value)) < 200
