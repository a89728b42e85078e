"""An independent integer machine computes every tensor of a model, to the last bit, as the reference kernels do."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from hypothesis import given
from hypothesis import strategies as st

from converter.flatfile import read_flatbuffer
from converter.verify import Int8Model
from tests.converter import oracle
from tests.converter.conftest import ROOT
from tests.converter.proving import windows_like, with_other_weight

if TYPE_CHECKING:
    from pathlib import Path

INT32 = st.integers(-(2**31), 2**31 - 1)
EXPECTED = {
    "window_head": {"DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED", "LOGISTIC"},
    "pooled": {"CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "FULLY_CONNECTED"},
}
"""Networks of tests.converter.networks, and the operators that each is there for."""
XNNPACK_LSB = 6
"""XNNPACK rounds once where the reference rounds twice; over 31 layers the shipped model was seen 4 off."""


def layer_by_layer(flatbuffer: bytes, inputs: Any) -> tuple[int, int]:
    """Compare all computed tensors with the reference kernels; return how many values and how many differ."""
    model = read_flatbuffer(flatbuffer)
    reference = Interpreter(
        model_content=flatbuffer,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    reference.allocate_tensors()
    count = wrong = 0
    for values in inputs:
        reference.set_tensor(model.inputs[0], values.reshape(model.tensors[model.inputs[0]].shape))
        reference.invoke()
        computed = oracle.run(flatbuffer, values)
        for operator in model.operators:
            index = operator.outputs[0]
            count += computed[index].size
            wrong += int(np.count_nonzero(computed[index] != reference.get_tensor(index)))
    return count, wrong


def inputs_of(flatbuffer: bytes, count: int = 12) -> Any:
    model = Int8Model(flatbuffer)
    noise = np.random.default_rng(2).integers(-128, 128, (count, *model.input_shape[1:])).astype(np.int8)
    return [*model.quantised(windows_like(model.input_shape, count)), *noise]


def test_every_tensor_of_the_shipped_model_is_exact(shipped_flatbuffer: bytes) -> None:
    count, wrong = layer_by_layer(shipped_flatbuffer, inputs_of(shipped_flatbuffer))
    assert count > 500_000
    assert wrong == 0


def test_a_changed_weight_changes_the_oracle_too(shipped_flatbuffer: bytes) -> None:
    """The oracle reads the file, and does not remember the model."""
    spoilt = with_other_weight(shipped_flatbuffer)
    values = inputs_of(shipped_flatbuffer, 2)[0]
    (output,) = read_flatbuffer(spoilt).outputs
    assert not np.array_equal(oracle.run(spoilt, values)[output], oracle.run(shipped_flatbuffer, values)[output])
    assert layer_by_layer(spoilt, [values])[1] == 0


def test_fast_kernels_stay_within_their_bound(shipped_flatbuffer: bytes) -> None:
    model = Int8Model(shipped_flatbuffer)
    (output,) = read_flatbuffer(shipped_flatbuffer).outputs
    off = [
        np.abs(oracle.run(shipped_flatbuffer, values)[output].astype(int) - model.invoke(values).astype(int)).max()
        for values in inputs_of(shipped_flatbuffer)
    ]
    assert max(off) <= XNNPACK_LSB


@pytest.mark.tf
@pytest.mark.parametrize("name", list(EXPECTED))
def test_every_tensor_of_other_networks_is_exact(name: str, tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    command = [sys.executable, "-m", "tests.converter.networks", name, str(path)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, cwd=ROOT, env=quiet, check=True, capture_output=True, timeout=120)
    flatbuffer = path.read_bytes()
    found = {operator.name for operator in read_flatbuffer(flatbuffer).operators}
    assert found >= EXPECTED[name]
    count, wrong = layer_by_layer(flatbuffer, inputs_of(flatbuffer))
    assert count > 20_000
    assert wrong == 0


@given(INT32, st.integers(2**30, 2**31 - 1), st.integers(-20, 0))
def test_scaling_is_within_one_of_the_exact_product(value: int, multiplier: int, shift: int) -> None:
    exact = Fraction(value * multiplier) * Fraction(2) ** (shift - 31)
    assert abs(int(oracle.scaled(np.array([value]), multiplier, shift)[0]) - exact) <= 1


@given(st.floats(1e-6, 100))
def test_a_multiplier_keeps_31_bits(real: float) -> None:
    multiplier, shift = oracle.quantised_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=2**-30)


@given(st.floats(-15.9, 15.9))
def test_the_integer_sigmoid_is_one(x: float) -> None:
    found = oracle.fixed_logistic(np.array([round(x * 2**27)]), 4)[0] / 2**31
    assert found == pytest.approx(1 / (1 + math.exp(-x)), abs=1e-6)
