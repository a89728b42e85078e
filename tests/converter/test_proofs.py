"""The proofs catch a float tensor, a changed weight and lost answers, and say nothing against an honest file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.file_proof import file_facts, file_objections
from converter.flatfile import read_flatbuffer
from converter.layers import layer_ranges
from converter.proofs import Evidence, prove
from converter.verify import Int8Model
from edge.bouts import Gate
from edge.errors import ModelError
from tests.converter.proving import evidence_of, with_float_output, with_other_weight, with_spec

if TYPE_CHECKING:
    from converter.spec import Spec


@pytest.fixture
def honest(shipped_flatbuffer: bytes, shipped_spec: Spec) -> Evidence:
    return evidence_of(shipped_flatbuffer, shipped_spec)


def facts_of(one: Evidence) -> dict[str, Any]:
    return file_facts(one.variant, one.flatbuffer, one.spec, one.windows, one.floats)


def objections_to(one: Evidence) -> list[str]:
    return file_objections(one.variant, one.flatbuffer, one.spec, one.windows, one.floats)


def test_nothing_is_said_against_an_honest_file(honest: Evidence) -> None:
    assert objections_to(honest) == []
    facts = facts_of(honest)
    assert facts["float_tensors"] == facts["custom_operators"] == []
    assert facts["operators"]["CONV_2D v3"] == 7


def test_counts_come_from_the_shapes(honest: Evidence) -> None:
    facts = facts_of(honest)
    stem, head = 129 * 24 * 7 * 3, 5 * 24
    blocks = sum(frames * 24 * 24 * 5 for frames in (125, 117, 101, 69, 5))
    assert facts["macs"] == stem + blocks + head
    # One more than Keras counts: the head's bias is there twice, once as the zero that its convolution adds.
    assert sum(facts["stored_numbers"].values()) == honest.parameters + 1
    assert set(facts["stored_numbers"]) == {"INT8", "INT32"}
    assert 125 * 24 * 3 <= facts["live_bytes"] < 125 * 24 * 3 + 6 * 64


def test_the_input_s_range_is_told_in_si_units(honest: Evidence) -> None:
    found = facts_of(honest)["input"]["acc_x"]
    assert found["low"] == pytest.approx(-4 * 9.80665, abs=0.2)
    assert found["resolution"] == pytest.approx(8 * 9.80665 / 255, rel=1e-3)


def test_a_float_tensor_sneaked_in_is_caught_and_named(honest: Evidence) -> None:
    sneaked = with_float_output(honest.flatbuffer)
    assert Int8Model(sneaked).invoke(np.zeros((1, 135, 3), np.int8)).dtype == np.float32
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
    found = facts_of(replace(honest, floats=honest.floats + np.float32(0.5)))["against_keras"]
    assert sum(found["histogram"]) == found["frames"] == honest.floats.size
    assert found["histogram"][0] == found["frames"], "what lies beyond the bins belongs to the outermost"


def test_each_class_of_a_softmax_head_has_its_own_figures(honest: Evidence) -> None:
    # As if the five answers of a window were those of five classes.
    classes = with_spec(honest.spec, classes=("a", "b", "step", "d", "e"))
    floats = honest.floats.copy()
    floats[:, 2] += 0.3
    found = facts_of(replace(honest, spec=classes, floats=floats))["outputs"]
    assert list(found) == list(classes.classes)
    assert found["step"]["mean"] > 0.25
    assert found["a"]["mean"] < 0.01


def test_a_lost_step_class_is_not_hidden_by_the_other_classes(honest: Evidence) -> None:
    floats = honest.floats.copy()
    floats[:, 2] += np.float32(0.08)
    named = replace(honest, spec=with_spec(honest.spec, classes=("a", "b", "step", "d", "e")), floats=floats)
    assert float(np.abs(floats - honest.floats).mean()) < 0.02, "over all classes together it would pass"
    (objection,) = objections_to(named)
    assert objection.startswith("int8 and Keras differ: mean difference 0.0")
    assert facts_of(named)["against_keras"]["frames"] == len(floats)


def test_the_other_classes_cannot_fail_the_step_class(honest: Evidence) -> None:
    floats = honest.floats.copy()
    floats[:, 3] += np.float32(0.4)
    named = replace(honest, spec=with_spec(honest.spec, classes=("a", "b", "step", "d", "e")), floats=floats)
    assert objections_to(named) == []


def test_a_gate_that_opens_otherwise_than_in_keras_is_caught_too(honest: Evidence) -> None:
    gate = Gate(on=0.9, off=0.5, backfill_s=4.0)
    walks = with_spec(honest.spec, classes=("a", "b", "step", "walking", "e"), gate=gate)
    floats = honest.floats.copy()
    floats[:, 3] += np.float32(0.4)
    (objection,) = objections_to(replace(honest, spec=walks, floats=floats))
    assert "differ about walking: mean difference" in objection


def test_layers_at_their_limit_are_counted(shipped_flatbuffer: bytes) -> None:
    loud = np.full((2, 1, 135, 3), 127, np.int8)
    first = layer_ranges(shipped_flatbuffer, loud)[0]
    assert (first.name, first.saturated) == ("input", 1.0)
    assert first.seen_low == first.seen_high == first.high
    quiet = layer_ranges(shipped_flatbuffer, np.zeros((2, 1, 135, 3), np.int8))
    assert max(layer.saturated for layer in quiet) == 0
    assert [layer.operator for layer in quiet].count("CONV_2D") == 7


def test_a_file_that_is_none_is_refused_in_one_line() -> None:
    for data in (b"", b"not a model at all", b"\0\0\0\0TFL3" + b"\xff" * 60):
        with pytest.raises(ModelError, match="convert it again"):
            read_flatbuffer(data)


@pytest.fixture(scope="module")
def proof(shipped_flatbuffer: bytes, shipped_spec: Spec) -> Any:
    pytest.importorskip("matplotlib", reason="needs the converter's environment")
    return prove([evidence_of(shipped_flatbuffer, shipped_spec)])


def test_the_whole_proof_of_the_shipped_file(proof: Any) -> None:
    assert proof.objections == []
    assert proof.facts["deterministic"]["steps"] is None
    assert set(proof.pictures) == {"walk", "errors", "layers", "size", "speed"}
    assert all(png.startswith(b"\x89PNG") and len(png) > 5000 for png in proof.pictures.values())


def test_proving_again_gives_the_same_deterministic_facts_and_pictures(
    proof: Any, shipped_flatbuffer: bytes, shipped_spec: Spec
) -> None:
    again = prove([evidence_of(shipped_flatbuffer, shipped_spec)])
    assert again.facts["deterministic"] == proof.facts["deterministic"]
    for name in set(proof.pictures) - {"speed"}:
        assert again.pictures[name] == proof.pictures[name], name


@pytest.mark.usefixtures("proof")
def test_a_changed_weight_ends_in_objections(shipped_flatbuffer: bytes, shipped_spec: Spec) -> None:
    spoilt = prove([evidence_of(with_other_weight(shipped_flatbuffer), shipped_spec)])
    assert any("self-test" in line for line in spoilt.objections)
    assert any("int8 and Keras differ" in line for line in spoilt.objections)
