"""What nobody said follows from the model's shapes, and is told; what cannot follow is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converter.inferred import complete
from converter.spec import NO_RANGE, Spec
from converter.tensors import ModelTensors, Port, check_ports, signal_shape
from edge.errors import ModelError, UsageError

MODEL = Path("mine.keras")
WINDOW_HEAD = ModelTensors(
    window_samples=50, channels=6, answer=(1,), sums_to_one=False, right_context_samples=0, last_layer="head"
)


def spec_of(tensors: ModelTensors, document: dict[str, Any] | None = None, rate_hz: float | None = 50.0) -> Spec:
    return complete(document or {}, tensors, MODEL, rate_hz)[0]


def test_a_window_head_without_any_word() -> None:
    spec, assumptions = complete({}, WINDOW_HEAD, MODEL, 104.0)
    assert (spec.name, spec.output, spec.hop_samples, spec.sampling_rate_hz) == ("mine", "window_probability", 10, 104)
    assert spec.channels == ("acc_x", "acc_y", "acc_z", "gyr_x", "gyr_y", "gyr_z")
    assert (spec.scale, spec.offset, spec.input_range) == ((1.0,) * 6, (0.0,) * 6, NO_RANGE)
    told = " | ".join(assumptions)
    for key in ("channels", "m/s^2", "sampling_rate_hz 104", "output", "hop_samples 10", "threshold", "refractory_s"):
        assert key in told


def test_what_is_said_is_neither_changed_nor_told() -> None:
    said = {"hop_samples": 5, "threshold": 0.7, "sampling_rate_hz": 25.0, "channels": ["gyr_x", "gyr_y", "gyr_z"]}
    spec, assumptions = complete(said, replace(WINDOW_HEAD, channels=3), MODEL, None)
    assert (spec.hop_samples, spec.threshold, spec.sampling_rate_hz, spec.channels[0]) == (5, 0.7, 25, "gyr_x")
    assert not [line for line in assumptions if line.startswith(tuple(said))]


@pytest.mark.parametrize(
    ("answer", "sums_to_one", "output", "classes"),
    [
        ((1, 1), False, "window_probability", ()),
        ((2,), True, "window_probability", ("none", "step")),
        ((3,), True, "start_end_classes", ("start", "end", "none")),
        ((50,), False, "per_sample_probability", ()),
        ((50, 1), False, "per_sample_probability", ()),
        ((8, 1), False, "per_sample_probability", ()),
        ((50, 2), True, "per_sample_probability", ("none", "step")),
        ((50, 3), True, "per_sample_probability", ("start", "end", "none")),
    ],
)
def test_the_kind_of_output_follows_from_its_shape(
    answer: tuple[int, ...], sums_to_one: bool, output: str, classes: tuple[str, ...]
) -> None:
    spec = spec_of(replace(WINDOW_HEAD, answer=answer, sums_to_one=sums_to_one))
    assert (spec.output, spec.classes) == (output, classes)


def test_a_net_that_looks_ahead_lags_by_as_much() -> None:
    tensors = replace(WINDOW_HEAD, answer=(50, 1), right_context_samples=8)
    assert spec_of(tensors).lookahead_samples == 8
    assert spec_of(replace(tensors, right_context_samples=49)).lookahead_samples == 0, "a net that sees everything"


def test_scales_for_accelerometer_and_gyroscope() -> None:
    assert spec_of(WINDOW_HEAD, {"normalization": {"scale": [9.8, 2.0]}}).scale == (9.8,) * 3 + (2.0,) * 3
    assert spec_of(WINDOW_HEAD, {"normalization": {"scale": 4}}).scale == (4.0,) * 6


@pytest.mark.parametrize(
    ("changes", "document", "message"),
    [
        ({"channels": 4}, {}, "takes 4 channels; name them"),
        ({}, {"channels": ["acc_x"]}, "takes 6 channels, its spec names 1"),
        ({"answer": (5,), "sums_to_one": True}, {}, "gives 5 classes; name them with --classes"),
        ({"answer": (3,)}, {}, "do not sum to 1"),
        ({"answer": (3,), "sums_to_one": True}, {"classes": ["a", "start"]}, "--classes names 2; allowed: 3"),
        ({"answer": (60, 1)}, {}, "at most 50 frames"),
        ({"answer": (5, 5, 1)}, {}, "gives \\(5, 5, 1\\)"),
        ({"answer": (8, 1)}, {"hop_samples": 7}, "answers for 7 frames"),
        ({}, {"output": "per_sample_probability"}, "window_probability or start_end_classes"),
        ({}, {"channels": 3}, "object of type 'int'"),
        ({}, {"hop_samples": "many"}, "invalid literal"),
        ({}, {"hop_samples": 51}, "hop_samples is 51"),
        ({}, {"lookahead_samples": 50}, "lookahead_samples is 50"),
        ({"answer": (2,), "sums_to_one": True}, {"classes": ["no", "yes"]}, "classes is \\['no', 'yes'\\]"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], document: dict[str, Any], message: str) -> None:
    with pytest.raises((ModelError, UsageError), match=message):
        spec_of(replace(WINDOW_HEAD, **changes), document)


@pytest.mark.parametrize(
    ("shape", "window", "fixed"),
    [
        ((None, 50, 6), None, (1, 50, 6)),
        ((None, None, 3), 40, (1, 40, 3)),
        ((1, 50, 6, 1), 50, (1, 50, 6, 1)),
        ((None, 6), None, (1, 6)),
    ],
)
def test_batch_and_window_are_fixed(shape: tuple[int | None, ...], window: int | None, fixed: tuple[int, ...]) -> None:
    assert signal_shape(MODEL, Port("imu", shape, "float32"), window) == fixed


@pytest.mark.parametrize(
    ("shape", "dtype", "window", "message"),
    [
        ((None, 50, 6, 2), "float32", None, "takes \\(50, 6, 2\\)"),
        ((None, 300), "float32", None, "takes \\(300,\\)|takes \\(1, 300\\)"),
        ((None, 6, 50), "float32", None, "takes \\(6, 50\\)"),
        ((None, None, 3), "float32", None, "--window"),
        ((None, 50, 3), "float32", 40, "windows of 50 frames; --window says 40"),
        ((None, 5000, 3), "float32", None, "5000 frames; allowed: 1 to 4096"),
        ((None, 50, 3), "string", None, "takes string"),
    ],
)
def test_inputs_that_no_window_fits(
    shape: tuple[int | None, ...], dtype: str, window: int | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        signal_shape(MODEL, Port("imu", shape, dtype), window)


NEW, PAST = Port("new", (None, 4, 3), "float32"), Port("past", (None, 6, 3), "float32")
P, NEXT = Port("p", (None, 4, 1), "float32"), Port("next", (None, 6, 3), "float32")


def test_state_pairs_leave_one_input_and_one_output() -> None:
    check_ports(MODEL, (NEW, PAST), (P, NEXT), (("past", "next"),))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ((), "--state past=next"),
        ((("old", "next"),), "state input 'old' does not exist; its inputs: new, past"),
        ((("past", "p"),), "shape"),
    ],
)
def test_state_that_does_not_fit(state: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_ports(MODEL, (NEW, PAST), (P, NEXT), state)
