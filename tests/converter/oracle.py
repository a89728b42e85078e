"""An independent int8 machine: the arithmetic of TFLite's reference kernels, written out in numpy integers.

It shares no code with any runtime: a flatbuffer goes in, and every tensor comes out. Sources: tensorflow/lite/kernels/
internal/common.h (double rounding), quantization_util.cc, reference/integer_ops/*.h, gemmlowp fixedpoint.h.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.flatfile import FlatModel, Operator, Tensor, read_flatbuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Ints = np.ndarray[Any, np.dtype[np.int64]]
Values = dict[int, np.ndarray[Any, Any]]
VALID = 1


def stream(
    flatbuffer: bytes, inputs: Iterable[np.ndarray[Any, Any]], state: Sequence[tuple[str, str]] = ()
) -> Iterator[Values]:
    """Yield the value of every tensor, by index, for one input after the other.

    state: (input, output) names of what is fed back, from its zero point on.
    """
    model = read_flatbuffer(flatbuffer)
    given, answers = ({model.tensors[index].name: index for index in side} for side in (model.inputs, model.outputs))
    pairs = [(given.pop(source), answers[target]) for source, target in state]
    (entry,) = given.values()
    memory = {source: np.full(model.tensors[source].shape, model.tensors[source].zero_point[0]) for source, _ in pairs}
    for values in inputs:
        found = _run(model, {entry: values.reshape(model.tensors[entry].shape), **memory})
        memory = {source: found[target] for source, target in pairs}
        yield found


def _run(model: FlatModel, given: Values) -> Values:
    values: Values = {tensor.index: tensor.values for tensor in model.tensors if tensor.data is not None} | given
    for operator in model.operators:
        result = KERNELS[operator.name](model, operator, values)
        out = model.tensors[operator.outputs[0]]
        values[out.index] = np.asarray(result).reshape(out.shape).astype(out.type.lower())
    return values


def quantised_multiplier(real: float) -> tuple[int, int]:
    """Return (multiplier, shift) with real ~ multiplier * 2^(shift - 31)."""
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def doubling_high_multiply(a: Ints, b: Ints | int) -> Ints:
    """Return round(a * b / 2^31), halves away from zero, as ARM's SQRDMULH does but for the sign of halves."""
    product = a * np.int64(b)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))


def rounding_shift(x: Ints, exponent: int | Ints) -> Ints:
    """Return round(x / 2^exponent), halves away from zero."""
    mask = (np.int64(1) << np.int64(exponent)) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> np.int64(exponent)) + ((x & mask) > threshold)


def scaled(x: Ints, multiplier: int, shift: int) -> Ints:
    """Return x * multiplier * 2^(shift - 31), rounded twice."""
    return rounding_shift(doubling_high_multiply(x << max(shift, 0), multiplier), max(-shift, 0))


def scaled_once(x: Ints, multiplier: int, shift: int) -> Ints:
    """Return x * multiplier * 2^(shift - 31), rounded once, halves up: so does FULLY_CONNECTED, found by comparing."""
    return (x * np.int64(multiplier) + (1 << (30 - shift))) >> np.int64(31 - shift)


def scaled_per_channel(x: Ints, reals: list[float]) -> Ints:
    """Return x [..., channels], each channel scaled by its own factor."""
    parts = [scaled(x[..., channel], *quantised_multiplier(real)) for channel, real in enumerate(reals)]
    return np.stack(parts, axis=-1)


def _io(model: FlatModel, operator: Operator) -> tuple[Tensor, Tensor]:
    return model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]


def _offset(values: Values, tensor: Tensor) -> Ints:
    """Return the values less their zero point."""
    return values[tensor.index].astype(np.int64) - (tensor.zero_point[0] if tensor.zero_point else 0)


def _finished(x: Ints, out: Tensor, activation: str) -> Ints:
    zero, low, high = out.zero_point[0], -128, 127
    if activation in ("RELU", "RELU6"):
        low = max(low, zero)
    if activation == "RELU6":
        high = min(high, zero + round(6 / out.scale[0]))
    return np.clip(x + zero, low, high)


def _reals(given: Tensor, weights: Tensor, out: Tensor) -> list[float]:
    return [float(given.scale[0]) * float(scale) / float(out.scale[0]) for scale in weights.scale]


def _patches(x: Ints, operator: Operator, kernel: tuple[int, int]) -> Ints:
    """Return [1, rows, columns, kernel rows, kernel columns, channels]; SAME pads with the zero point, here 0."""
    options = operator.options
    strides = options["strideH"], options["strideW"]
    dilations = options.get("dilationHFactor", 1), options.get("dilationWFactor", 1)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    counts, pads = [], []
    for length, span, stride in zip(x.shape[1:3], spans, strides, strict=True):
        count = (length - span) // stride + 1 if options["padding"] == VALID else -(-length // stride)
        needed = max(0, (count - 1) * stride + span - length)
        counts.append(count)
        pads.append((needed // 2, needed - needed // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    rows = np.arange(counts[0])[:, None] * strides[0] + np.arange(kernel[0]) * dilations[0]
    columns = np.arange(counts[1])[:, None] * strides[1] + np.arange(kernel[1]) * dilations[1]
    return x[:, rows[:, None, :, None], columns[None, :, None, :], :]


def _convolution(model: FlatModel, operator: Operator, values: Values) -> Ints:
    given, out = _io(model, operator)
    weights = model.tensors[operator.inputs[1]]
    kernel = values[weights.index].astype(np.int64)
    patches = _patches(_offset(values, given), operator, (kernel.shape[1], kernel.shape[2]))
    total = np.einsum("brchwi,ohwi->brco", patches, kernel) + values[operator.inputs[2]].astype(np.int64)
    return _finished(scaled_per_channel(total, _reals(given, weights, out)), out, operator.activation)


def _depthwise(model: FlatModel, operator: Operator, values: Values) -> Ints:
    given, out = _io(model, operator)
    weights = model.tensors[operator.inputs[1]]
    kernel = values[weights.index].astype(np.int64)[0]
    patches = _patches(_offset(values, given), operator, (kernel.shape[0], kernel.shape[1]))
    repeated = np.repeat(patches, operator.options["depthMultiplier"], axis=-1)
    total = np.einsum("brchwi,hwi->brci", repeated, kernel) + values[operator.inputs[2]].astype(np.int64)
    return _finished(scaled_per_channel(total, _reals(given, weights, out)), out, operator.activation)


def _fully_connected(model: FlatModel, operator: Operator, values: Values) -> Ints:
    given, out = _io(model, operator)
    weights = model.tensors[operator.inputs[1]]
    kernel = values[weights.index].astype(np.int64)
    total = _offset(values, given).reshape(-1, kernel.shape[1]) @ kernel.T
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        total = total + values[operator.inputs[2]].astype(np.int64)
    reals = np.broadcast_to(_reals(given, weights, out), total.shape[-1:])
    parts = [scaled_once(total[..., unit], *quantised_multiplier(real)) for unit, real in enumerate(reals.tolist())]
    return _finished(np.stack(parts, axis=-1), out, operator.activation)


def _add(model: FlatModel, operator: Operator, values: Values) -> Ints:
    first, second = (model.tensors[index] for index in operator.inputs)
    out = model.tensors[operator.outputs[0]]
    twice_largest = 2 * max(first.scale[0], second.scale[0])
    total = sum(
        scaled(_offset(values, tensor) << 20, *quantised_multiplier(tensor.scale[0] / twice_largest))
        for tensor in (first, second)
    )
    real = twice_largest / (2**20 * out.scale[0])
    return _finished(scaled(np.asarray(total), *quantised_multiplier(real)), out, operator.activation)


def _mean(model: FlatModel, operator: Operator, values: Values) -> Ints:
    given, out = _io(model, operator)
    axes = tuple(int(axis) % len(given.shape) for axis in values[operator.inputs[1]].reshape(-1))
    count = math.prod(given.shape[axis] for axis in axes)
    total = _offset(values, given).sum(axis=axes)
    multiplier, shift = quantised_multiplier(float(given.scale[0]) / float(out.scale[0]))
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return _finished(scaled(total, (multiplier << extra) // count, shift - extra), out, "NONE")


def _max_pool(model: FlatModel, operator: Operator, values: Values) -> Ints:
    given, out = _io(model, operator)
    x = values[given.index].astype(np.int64) + 128  # so that padding, 0, never wins
    size = operator.options["filterHeight"], operator.options["filterWidth"]
    return _finished(_patches(x, operator, size).max(axis=(3, 4)) - 128 - out.zero_point[0], out, operator.activation)


def _average_pool(model: FlatModel, operator: Operator, values: Values) -> Ints:
    given, out = _io(model, operator)
    x = values[given.index].astype(np.int64)
    size = operator.options["filterHeight"], operator.options["filterWidth"]
    total = _patches(x, operator, size).sum(axis=(3, 4))
    count = _patches(np.ones_like(x), operator, size).sum(axis=(3, 4))
    half = np.where(total > 0, count // 2, -(count // 2))
    mean = np.sign(total + half) * (np.abs(total + half) // count)
    return _finished(mean - out.zero_point[0], out, operator.activation)


def _logistic(model: FlatModel, operator: Operator, values: Values) -> Ints:
    given, _ = _io(model, operator)
    integer_bits = 4
    multiplier, shift = quantised_multiplier(float(given.scale[0]) * 2 ** (31 - integer_bits))
    radius = math.floor((2**integer_bits - 1) * 2 ** (31 - integer_bits) / 2**shift)
    x = _offset(values, given)
    inside = np.clip(x, -radius + 1, radius - 1)
    fixed = fixed_logistic(scaled(inside, multiplier, shift), integer_bits)
    answer = np.clip(rounding_shift(fixed, 31 - 8) - 128, -128, 127)
    return np.where(x <= -radius, -128, np.where(x >= radius, 127, answer))


def fixed_logistic(x: Ints, integer_bits: int) -> Ints:
    """Return the sigmoid in Q0.31 of a number with so many integer bits (gemmlowp::logistic)."""
    size = np.abs(x)
    positive = _one_over_one_plus(_exp_of_negative(-size, integer_bits))
    answer = np.where(x > 0, positive, (2**31 - 1) - positive)
    return np.where(x == 0, 1 << 30, answer)


def _exp_of_negative(x: Ints, integer_bits: int) -> Ints:
    """Return exp(x) in Q0.31 for x <= 0 (gemmlowp::exp_on_negative_values)."""
    fractional = 31 - integer_bits
    quarter = 1 << (fractional - 2)
    mod = (x & (quarter - 1)) - quarter
    result = _exp_near_zero(mod << integer_bits)
    remainder = mod - x
    for exponent, factor in zip(range(-2, integer_bits), EXP_FACTORS, strict=False):
        bit = 1 << (fractional + exponent)
        result = np.where(remainder & bit, doubling_high_multiply(result, factor), result)
    return np.where(x == 0, 2**31 - 1, result)


EXP_FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401)
"""exp(-1/4), exp(-1/2), exp(-1), exp(-2), exp(-4), exp(-8) in Q0.31."""


def _exp_near_zero(a: Ints) -> Ints:
    """Return exp(a) in Q0.31 for a in [-1/4, 0): a Taylor polynomial around -1/8."""
    x = a + (1 << 28)
    square = doubling_high_multiply(x, x)
    cube = doubling_high_multiply(square, x)
    fourth = doubling_high_multiply(square, square)
    fourth_by_4 = rounding_shift(fourth, 2)
    rest = rounding_shift(doubling_high_multiply(fourth_by_4 + cube, 715827883) + square, 1)
    return 1895147668 + doubling_high_multiply(x + rest, 1895147668)


def _one_over_one_plus(a: Ints) -> Ints:
    """Return 1 / (1 + a) in Q0.31 for a in [0, 1]: three Newton steps (gemmlowp::one_over_one_plus_x_for_x_in_0_1)."""
    total = a + (2**31 - 1)
    half = np.where(total >= 0, (total + 1) >> 1, -((1 - total) >> 1))
    x = 1515870810 + doubling_high_multiply(half, -1010580540)
    for _ in range(3):
        left = (1 << 29) - doubling_high_multiply(half, x)
        x = x + _saturating_shift(doubling_high_multiply(x, left), 2)
    return _saturating_shift(x, 1)


def _saturating_shift(x: Ints, exponent: int) -> Ints:
    clipped: Ints = np.clip(x << exponent, -(2**31), 2**31 - 1)
    return clipped


def _moved(model: FlatModel, operator: Operator, values: Values) -> Any:
    return values[operator.inputs[0]].reshape(model.tensors[operator.outputs[0]].shape)


def _strided_slice(model: FlatModel, operator: Operator, values: Values) -> Any:
    begin, end, strides = (values[index].tolist() for index in operator.inputs[1:])
    options = operator.options
    parts = tuple(
        begin[axis]
        if options["shrinkAxisMask"] >> axis & 1
        else slice(
            None if options["beginMask"] >> axis & 1 else begin[axis],
            None if options["endMask"] >> axis & 1 else end[axis],
            strides[axis],
        )
        for axis in range(len(begin))
    )
    del model
    return values[operator.inputs[0]][parts]


def _pad(model: FlatModel, operator: Operator, values: Values) -> Any:
    given, _ = _io(model, operator)
    return np.pad(values[given.index], values[operator.inputs[1]].tolist(), constant_values=given.zero_point[0])


def _shape(model: FlatModel, operator: Operator, values: Values) -> Any:
    del model
    return np.array(values[operator.inputs[0]].shape)


def _pack(model: FlatModel, operator: Operator, values: Values) -> Any:
    del model
    return np.stack([values[index] for index in operator.inputs], axis=operator.options["axis"])


def _concatenation(model: FlatModel, operator: Operator, values: Values) -> Any:
    del model
    return np.concatenate([values[index] for index in operator.inputs], axis=operator.options["axis"])


KERNELS: dict[str, Callable[[FlatModel, Operator, Values], Any]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _average_pool,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "EXPAND_DIMS": _moved,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": _logistic,
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
    "PACK": _pack,
    "PAD": _pad,
    "RESHAPE": _moved,
    "SHAPE": _shape,
    "SQUEEZE": _moved,
    "STRIDED_SLICE": _strided_slice,
}
