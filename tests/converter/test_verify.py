"""What must not pass does not: a float tensor, a custom operator, answers other than those of the Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from converter.errors import ConversionError
from converter.verify import Int8Model, check_difference, difference, operators

if TYPE_CHECKING:
    from converter.spec import Spec


def unpacked(flatbuffer: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_one_float_tensor_is_found_and_named(shipped_flatbuffer: bytes) -> None:
    model = unpacked(shipped_flatbuffer)
    graph = model.subgraphs[0]
    index = graph.operators[-1].inputs[0]
    graph.tensors[index].type = schema.TensorType.FLOAT32
    with pytest.raises(ConversionError, match="float tensor") as raised:
        operators(packed(model))
    assert graph.tensors[index].name.decode() in str(raised.value)


def test_a_custom_operator_is_found(shipped_flatbuffer: bytes) -> None:
    model = unpacked(shipped_flatbuffer)
    model.operatorCodes[0].customCode = b"FlexSomething"
    with pytest.raises(ConversionError, match="FlexSomething"):
        operators(packed(model))


@pytest.fixture
def answers(shipped_flatbuffer: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    int8 = Int8Model(shipped_flatbuffer)
    rng = np.random.default_rng(1)
    windows = rng.normal(0, 1, (40, *int8.input_shape[1:])).astype(np.float32)
    return int8.probabilities(windows)


def test_equal_answers_pass(answers: np.ndarray[Any, np.dtype[np.float32]], shipped_spec: Spec) -> None:
    found = difference(answers, answers, shipped_spec.threshold)
    assert (found.mean, found.largest, found.disagreement) == (0, 0, 0)
    check_difference(found)


def test_another_model_s_answers_do_not(answers: np.ndarray[Any, np.dtype[np.float32]], shipped_spec: Spec) -> None:
    with pytest.raises(ConversionError, match="mean difference"):
        check_difference(difference(answers, answers + np.float32(0.05), shipped_spec.threshold))


def test_other_decisions_do_not(shipped_spec: Spec) -> None:
    below, above = (np.full(50, shipped_spec.threshold + off, np.float32) for off in (-0.004, 0.004))
    with pytest.raises(ConversionError, match="share of other decisions"):
        check_difference(difference(below, above, shipped_spec.threshold))


def test_values_beyond_the_input_range_saturate(shipped_flatbuffer: bytes) -> None:
    int8 = Int8Model(shipped_flatbuffer)
    shape = (1, *int8.input_shape[1:])
    at_the_edge, beyond = (int8.probabilities(np.full(shape, value, np.float32)) for value in (4.1, 40.0))
    assert np.array_equal(at_the_edge, beyond)
