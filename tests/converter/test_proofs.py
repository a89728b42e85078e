"""The proofs catch a float tensor, a changed weight and lost answers, and say nothing against an honest file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from converter.file_proof import file_facts, file_objections
from converter.flatfile import read_flatbuffer
from converter.layers import MOVES_ONLY, layer_ranges
from converter.proofs import Evidence, Proof, prove
from converter.runtime_proof import state_pairs
from converter.shape import CHANNELS, CLASSES, HOP_SAMPLES, SHAPE
from edge.errors import ModelError
from edge.manifest import embedded_manifest, parse_manifest
from tests.converter import oracle
from tests.converter.conftest import SHIPPED, WINDOW
from tests.converter.proving import evidence_of, opened, with_float_output, with_other_weight, with_spec


@pytest.fixture(scope="module")
def shipped() -> Evidence:
    return evidence_of(SHIPPED)


@pytest.fixture(scope="module")
def window() -> Evidence:
    return evidence_of(WINDOW)


@pytest.fixture(scope="module", params=["shipped", "window"])
def honest(request: pytest.FixtureRequest) -> Evidence:
    """Return evidence on a file that streams, and on one that does not."""
    found: Evidence = request.getfixturevalue(request.param)
    return found


def facts_of(one: Evidence) -> dict[str, Any]:
    return file_facts(one.variant, one.flatbuffer, one.spec, one.windows, one.floats)


def objections_to(one: Evidence) -> list[str]:
    return file_objections(one.variant, one.flatbuffer, one.spec, one.windows, one.floats)


def test_nothing_is_said_against_an_honest_file(honest: Evidence) -> None:
    assert objections_to(honest) == []
    facts = facts_of(honest)
    assert facts["float_tensors"] == facts["custom_operators"] == []


def test_counts_come_from_the_shapes(window: Evidence) -> None:
    facts = facts_of(window)
    stem, head = 129 * 24 * 7 * 3, 5 * 24
    blocks = sum(frames * 24 * 24 * 5 for frames in (125, 117, 101, 69, 5))
    assert facts["operators"]["CONV_2D v3"] == 7
    assert facts["macs"] == stem + blocks + head
    # One more than Keras counts: the head's bias is there twice, once as the zero that its convolution adds.
    assert sum(facts["stored_numbers"].values()) == 15_073 + 1
    assert set(facts["stored_numbers"]) == {"INT8", "INT32"}
    assert 125 * 24 * 3 <= facts["live_bytes"] < 125 * 24 * 3 + 6 * 64


def test_counts_of_the_shipped_file_are_those_of_its_shape(shipped: Evidence) -> None:
    facts = facts_of(shipped)
    wide, slow = SHAPE.filters, SHAPE.walking_filters
    fast = [(SHAPE.stem_kernel * CHANNELS, wide), *[(SHAPE.kernel * wide, wide)] * len(SHAPE.dilations), (wide, 1)]
    late = [(wide, slow), *[(SHAPE.walking_kernel * slow, slow)] * len(SHAPE.walking_dilations), (slow, 1)]
    assert facts["operators"]["CONV_2D v3"] == len(fast) + len(late)
    assert facts["macs"] == HOP_SAMPLES * sum(i * o for i, o in fast) + sum(i * o for i, o in late)
    # The step head's bias is there twice, once as the zero that its convolution adds.
    assert sum(facts["stored_numbers"].values()) == sum((i + 1) * o for i, o in (*fast, *late)) + 1
    # All of the state is alive from the first operator to the last.
    dilations = [(SHAPE.kernel - 1) * wide * each for each in SHAPE.dilations]
    dilations += [(SHAPE.walking_kernel - 1) * slow * each for each in SHAPE.walking_dilations]
    assert 1 < facts["live_bytes"] / (sum(dilations) + (SHAPE.stem_kernel - 1) * CHANNELS) < 2


def test_the_input_s_range_is_told_in_si_units(honest: Evidence) -> None:
    found = facts_of(honest)["input"]["acc_x"]
    assert found["low"] == pytest.approx(-4 * 9.80665, abs=0.2)
    assert found["resolution"] == pytest.approx(8 * 9.80665 / 255, rel=1e-3)


def test_a_float_tensor_sneaked_in_is_caught_and_named(honest: Evidence) -> None:
    sneaked = with_float_output(honest.flatbuffer)
    assert opened(sneaked).probabilities(honest.windows[:1]).shape == honest.floats[:1].shape
    assert opened(sneaked).output_scale == 1.0, "its answer is float"
    (objection,) = objections_to(replace(honest, flatbuffer=sneaked))
    assert "DEQUANTIZE" in objection
    assert "float tensor 'sneaked_in'" in objection


@pytest.mark.parametrize("variant", ["float16", "dynamic_range"])
def test_a_float_variant_is_labelled_instead(honest: Evidence, variant: str) -> None:
    other = replace(honest, variant=variant, flatbuffer=with_float_output(honest.flatbuffer))
    assert objections_to(other) == []
    facts = facts_of(other)
    assert facts["label"].startswith("not ")
    assert facts["float_tensors"] == ["sneaked_in"]


def test_a_variant_that_changed_no_weight_is_not_called_by_its_name(honest: Evidence) -> None:
    assert "no weight is float16" in facts_of(replace(honest, variant="float16"))["label"]
    assert facts_of(replace(honest, variant="dynamic_range"))["label"].startswith("not integer: int8 weights")


def test_an_int16_tensor_is_no_int8_file(honest: Evidence) -> None:
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - for this test alone

    from tests.converter.proving import changed  # noqa: PLC0415

    def widen(model: Any) -> None:
        model.subgraphs[0].tensors[-1].type = schema.TensorType.INT16

    wide = replace(honest, flatbuffer=changed(honest.flatbuffer, widen))
    assert "INT16 tensor" in objections_to(wide)[0]


def test_answers_unlike_those_of_keras_are_caught(honest: Evidence) -> None:
    shifted = replace(honest, floats=honest.floats + np.float32(0.05))
    assert "mean difference" in objections_to(shifted)[0]
    assert facts_of(shifted)["against_keras"]["mean"] == pytest.approx(0.05, abs=0.003)


def test_the_histogram_holds_every_answer(honest: Evidence) -> None:
    outputs = facts_of(replace(honest, floats=honest.floats + np.float32(0.5)))["outputs"]
    for found in outputs.values():
        assert sum(found["histogram"]) == found["frames"] == honest.floats.size // len(outputs)
        assert found["histogram"][0] == found["frames"], "what lies beyond the bins belongs to the outermost"


def test_each_class_of_a_softmax_head_has_its_own_figures(window: Evidence) -> None:
    # As if the five answers of a window were those of five classes.
    classes = with_spec(window.spec, classes=("a", "b", "step", "d", "e"))
    floats = window.floats.copy()
    floats[:, 2] += 0.3
    found = facts_of(replace(window, spec=classes, floats=floats))["outputs"]
    assert list(found) == list(classes.classes)
    assert found["step"]["mean"] > 0.25
    assert found["a"]["mean"] < 0.01


def test_a_lost_step_class_is_not_hidden_by_the_other_classes(window: Evidence) -> None:
    floats = window.floats.copy()
    floats[:, 2] += np.float32(0.08)
    named = replace(window, spec=with_spec(window.spec, classes=("a", "b", "step", "d", "e")), floats=floats)
    assert float(np.abs(floats - window.floats).mean()) < 0.02, "over all classes together it would pass"
    (objection,) = objections_to(named)
    assert objection.startswith("int8 and Keras differ: mean difference 0.0")
    assert facts_of(named)["against_keras"]["frames"] == len(floats)


def test_the_other_classes_cannot_fail_the_step_class(window: Evidence) -> None:
    floats = window.floats.copy()
    floats[:, 3] += np.float32(0.4)
    named = replace(window, spec=with_spec(window.spec, classes=("a", "b", "step", "d", "e")), floats=floats)
    assert objections_to(named) == []


@pytest.mark.parametrize("number", [0, 1])
def test_each_head_of_the_shipped_file_has_its_own_figures(shipped: Evidence, number: int) -> None:
    floats = shipped.floats.copy()
    floats[..., number] += 0.3
    found = [each["mean"] for each in facts_of(replace(shipped, floats=floats))["outputs"].values()]
    assert shipped.spec.classes == CLASSES
    assert len(found) == len(CLASSES)
    assert found[number] > 0.25
    assert found[1 - number] < 0.01


@pytest.mark.parametrize(("number", "about"), [(0, ""), (1, " about walking")])
def test_either_head_unlike_that_of_keras_is_caught(shipped: Evidence, number: int, about: str) -> None:
    floats = shipped.floats.copy()
    floats[..., number] += np.float32(0.03)
    assert float(np.abs(floats - shipped.floats).mean()) < 0.02, "over both heads together it would pass"
    (objection,) = objections_to(replace(shipped, floats=floats))
    assert objection.startswith(f"int8 and Keras differ{about}: mean difference 0.0")


def test_a_state_that_is_not_fed_back_is_caught(shipped: Evidence) -> None:
    """Each hop from a fresh state, as a device would run it that forgot the state."""
    model = opened(shipped.flatbuffer)
    alone = shipped.windows.reshape(-1, 1, *shipped.windows.shape[2:])
    forgetful = model.probabilities(alone).reshape(shipped.floats.shape)
    assert objections_to(replace(shipped, floats=forgetful)) != []


def test_layers_at_their_limit_are_counted(window_flatbuffer: bytes) -> None:
    loud = np.full((2, 1, 135, 3), 127, np.int8)
    first = layer_ranges(window_flatbuffer, loud)[0]
    assert (first.name, first.saturated) == ("input", 1.0)
    assert first.seen_low == first.seen_high == first.high
    quiet = layer_ranges(window_flatbuffer, np.zeros((2, 1, 135, 3), np.int8))
    assert max(layer.saturated for layer in quiet) == 0
    assert [layer.operator for layer in quiet].count("CONV_2D") == 7


def test_layers_of_a_stream_show_what_occurs_in_it(shipped: Evidence) -> None:
    """The ranges are those of the oracle, tensor by tensor, each sequence from a fresh state."""
    state, model = state_pairs(shipped.flatbuffer), read_flatbuffer(shipped.flatbuffer)
    sequences = opened(shipped.flatbuffer).quantised(shipped.windows[:2])
    found = layer_ranges(shipped.flatbuffer, sequences, state)
    seen = [values for each in sequences for values in oracle.stream(shipped.flatbuffer, each, state)]
    watched = [operator for operator in model.operators if operator.name not in MOVES_ONLY]
    assert [layer.operator for layer in found] == ["INPUT", *(operator.name for operator in watched)]
    for layer, operator in zip(found[1:], watched, strict=True):
        tensor = model.tensors[operator.outputs[0]]
        real = (np.stack([values[tensor.index] for values in seen]).astype(float) - tensor.zero_point) * tensor.scale
        assert (layer.seen_low, layer.seen_high) == pytest.approx((real.min(), real.max()), rel=1e-4, abs=1e-5)
    assert {layer.name for layer in found} >= {"input", "stem_relu", "slow_relu", "pool", "step", "walking"}


def test_a_file_that_is_none_is_refused_in_one_line() -> None:
    for data in (b"", b"not a model at all", b"\0\0\0\0TFL3" + b"\xff" * 60):
        with pytest.raises(ModelError, match="convert it again"):
            read_flatbuffer(data)


@pytest.fixture(scope="module")
def proof(honest: Evidence) -> Proof:
    pytest.importorskip("matplotlib", reason="needs the converter's environment")
    return prove([honest])


def test_the_whole_proof_of_an_honest_file(proof: Proof, honest: Evidence) -> None:
    assert proof.objections == []
    facts = proof.facts["deterministic"]
    assert facts["steps"] is None
    assert facts["model"]["window_samples"] == honest.windows.shape[-2]
    assert list(facts["variants"]["int8"]["outputs"]) == list(honest.spec.classes or ["probability"])
    assert set(proof.pictures) == {"walk", "errors", "layers", "size", "speed"}
    assert all(png.startswith(b"\x89PNG") and len(png) > 5000 for png in proof.pictures.values())


def test_every_runtime_answered_every_hop(proof: Proof, honest: Evidence) -> None:
    cases = parse_manifest(embedded_manifest(honest.flatbuffer)).self_test.cases
    known = sum(len(expected) for _, expected in cases)
    for row in proof.facts["measured"]["runtimes"]["int8"]:
        if row["tested"]:
            assert row["answers"] == known + honest.floats.size, row["name"]


def test_proving_again_gives_the_same_deterministic_facts_and_pictures(proof: Proof, honest: Evidence) -> None:
    again = prove([honest])
    assert again.facts["deterministic"] == proof.facts["deterministic"]
    for name in set(proof.pictures) - {"speed"}:
        assert again.pictures[name] == proof.pictures[name], name


@pytest.mark.usefixtures("proof")
def test_a_changed_weight_ends_in_objections(honest: Evidence) -> None:
    spoilt = prove([replace(honest, flatbuffer=with_other_weight(honest.flatbuffer))])
    assert any("self-test" in line for line in spoilt.objections)
    assert any("int8 and Keras differ" in line for line in spoilt.objections)
