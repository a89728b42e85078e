"""Layers that cannot become int8, found in the model's config, and what to use instead of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MEMORY = "use dilated causal Conv1D layers, or a streaming model whose state is an input and an output (--state)"
_UPSAMPLING = "answer at the lower rate (fewer frames per window), or keep the rate: pooling with strides=1"
_FLOATING = "its arithmetic has no int8 kernel"
_STATISTICS = (
    "its statistics of each window stay float32 (NEG, SQUARE); use BatchNormalization, which folds into weights"
)
_SMOOTH = "use relu, leaky_relu, swish or tanh"
_TEXT = "feed accelerations and angular rates as numbers"
NO_INT8 = {
    **dict.fromkeys(("GRU", "LSTM", "SimpleRNN", "RNN", "Bidirectional", "CuDNNGRU", "CuDNNLSTM"), _MEMORY),
    **dict.fromkeys(("GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"), _MEMORY),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), _MEMORY),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D", "UpSampling3D"), _UPSAMPLING),
    **dict.fromkeys(("Conv3D", "Conv3DTranspose", "MaxPooling3D"), "use Conv1D over the window, one filter per axis"),
    **dict.fromkeys(("StringLookup", "TextVectorization", "CategoryEncoding", "IntegerLookup", "Hashing"), _TEXT),
    **dict.fromkeys(("Embedding", "Discretization", "HashedCrossing"), _TEXT),
    **dict.fromkeys(("STFTSpectrogram", "MelSpectrogram"), f"{_FLOATING}; learn the filters with Conv1D"),
    "Lambda": "write it with keras layers (Rescaling, Reshape, Add, Multiply, Cropping1D): its code is never run here",
    **dict.fromkeys(
        ("TFOpLambda", "SlicingOpLambda"), "save it with that Keras as a SavedModel folder and convert that"
    ),
    "TFSMLayer": "convert the SavedModel it wraps: --model FOLDER",
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"), _STATISTICS),
    "ELU": _SMOOTH,
}
"""GRU and LSTM crash TensorFlow 2.21's quantiser, UpSampling1D makes one operator per frame (design, toolchain)."""
ACTIVATIONS = ("elu", "selu", "celu", "softplus", "softsign", "mish", "exponential", "log_sigmoid", "squareplus")
"""Stay float, or differ from Keras by more than 0.1 in int8 (TensorFlow 2.21, measured), or load in no old runtime."""
COMPUTES_IN = (None, "float32")
"""Other numbers lose range or precision in conversion, or bring operators that no device has."""
_NESTED = ("layers", "layer", "forward_layer", "backward_layer", "cell")


def check_layers(path: Path, config: dict[str, Any]) -> None:
    """Raise ModelError that names the first layer that cannot become int8, or say that there is none at all."""
    count = 0
    for layer in _layers(config):
        name, class_name = _named(layer), str(layer.get("class_name"))
        if class_name in NO_INT8:
            raise ModelError(f"{path}: layer '{name}' ({class_name}) cannot become int8; {NO_INT8[class_name]}")
        if (activation := _activation(layer)) in ACTIVATIONS:
            raise ModelError(
                f"{path}: layer '{name}' ({class_name}, activation {activation}) cannot become int8; {_SMOOTH}"
            )
        if (number := _number(layer)) not in COMPUTES_IN:
            raise ModelError(
                f"{path}: layer '{name}' ({class_name}) computes in {number}; allowed: float32; build it with "
                "dtype='float32' (keras.config.set_dtype_policy('float32') before the first layer)"
            )
        if _custom(layer):
            raise ModelError(
                f"{path}: layer '{name}' ({class_name}) is your own class, whose code is not in the file; "
                "build the model from keras.layers, or model.export() it and convert that folder"
            )
        count += class_name != "InputLayer"
    if count == 0:
        raise ModelError(f"{path}: is an empty model (no layers); add some, at least one Conv1D or Dense")


def _layers(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every layer of a model, those inside models and wrappers too; the outermost model itself is none."""
    if _custom(config):
        yield config
    inner = config.get("config")
    # A Sequential of Keras 2.2 and before is the bare list of its layers.
    parts = inner if isinstance(inner, list) else _parts(inner)
    for part in parts:
        if not isinstance(part, dict) or "class_name" not in part:
            continue
        holds_layers = isinstance(part.get("config"), dict) and "layers" in part["config"]
        if not holds_layers:
            yield part
        yield from _layers(part)


def _parts(inner: Any) -> list[Any]:
    if not isinstance(inner, dict):
        return []
    found: list[Any] = []
    for key in _NESTED:
        value = inner.get(key)
        found += value if isinstance(value, list) else [value]
    return found


def _activation(layer: dict[str, Any]) -> str | None:
    config = layer.get("config")
    found = config.get("activation") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


def _number(layer: dict[str, Any]) -> str | None:
    """Return the kind of number a layer computes with: Keras writes its name, or a policy that holds it."""
    config = layer.get("config")
    found = config.get("dtype") if isinstance(config, dict) else None
    if isinstance(found, dict):
        policy = found.get("config")
        found = policy.get("name") if isinstance(policy, dict) else None
    # What an input takes is looked at, in words of its own, where its shape is.
    return found if isinstance(found, str) and layer.get("class_name") != "InputLayer" else None


def _custom(layer: dict[str, Any]) -> bool:
    """Keras 3 gives a class of its own a module and no registered name; older files do not say, loading finds out."""
    return bool(layer.get("registered_name")) and not str(layer.get("module") or "").startswith(("keras", "tf_keras"))


def _named(layer: dict[str, Any]) -> str:
    config = layer.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(layer.get("name") or inner or "unnamed")
