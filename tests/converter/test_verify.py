"""What must not pass does not: a float tensor, a custom operator, answers other than those of the Keras model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from converter.errors import ConversionError
from converter.verify import check_difference, difference, operators
from tests.converter.proving import opened, windows_for

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
    return opened(shipped_flatbuffer).probabilities(windows_for(shipped_flatbuffer, 4))


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


@pytest.mark.parametrize("name", ["shipped_flatbuffer", "window_flatbuffer"])
def test_values_beyond_the_input_range_saturate(request: pytest.FixtureRequest, name: str) -> None:
    flatbuffer = request.getfixturevalue(name)
    int8, shape = opened(flatbuffer), windows_for(flatbuffer, 1).shape
    at_the_edge, beyond = (int8.probabilities(np.full(shape, value, np.float32)) for value in (4.1, 40.0))
    assert np.array_equal(at_the_edge, beyond)


def test_each_sequence_starts_from_a_fresh_state(shipped_flatbuffer: bytes) -> None:
    int8, windows = opened(shipped_flatbuffer), windows_for(shipped_flatbuffer, 3)
    together = int8.probabilities(windows)
    assert np.array_equal(int8.probabilities(windows[::-1]), together[::-1])
    one_long = int8.probabilities(windows.reshape(1, -1, *windows.shape[2:]))
    assert not np.array_equal(one_long.reshape(together.shape), together)


def test_the_state_goes_on_from_one_hop_to_the_next_until_it_is_reset(shipped_flatbuffer: bytes) -> None:
    int8 = opened(shipped_flatbuffer)
    hops = int8.quantised(windows_for(shipped_flatbuffer, 1)[0])
    first, again = ([int8.invoke(hop) for hop in hops] for _ in range(2))
    int8.reset()
    fresh = [int8.invoke(hop) for hop in hops]
    assert np.array_equal(first, fresh)
    assert not np.array_equal(first, again)
