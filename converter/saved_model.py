"""A SavedModel folder as a Keras model: its serving signature wrapped in one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from converter.graph_check import check_graph
from converter.refusals import NO_INT8
from edge.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURES = ("serving_default", "serve")
LOOPS = ("While", "StatelessWhile", "TensorListReserve", "CudnnRNN", "CudnnRNNV3")


class _Signature(keras.layers.TFSMLayer):  # type: ignore[misc]
    """A signature called by the names of its inputs."""

    names: tuple[str, ...] = ()

    def call(self, inputs: Any) -> Any:
        """Return the signature's outputs, a dict by name."""
        values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        return self.call_endpoint_fn(**dict(zip(self.names, values, strict=True)))


def load_saved_model(path: Path) -> tuple[Any, list[str]]:
    """Return a Keras model with the inputs of the folder's signature, and the names of its outputs.

    Raises ModelError when it has no signature to serve, when its graph loops, or when it would do more than compute.
    """
    check_graph(path)
    signatures = tf.saved_model.load(str(path)).signatures
    key = next((name for name in (*SIGNATURES, *signatures) if name in signatures), None)
    if key is None:
        raise ModelError(f"{path}: has no serving signature; save it with model.export()")
    graph = signatures[key]
    _check_graph(path, graph)
    specs = graph.structured_input_signature[1]
    inputs = [_input(name, spec) for name, spec in specs.items()]
    layer = _Signature(str(path), call_endpoint=key, name="saved_model")
    layer.names = tuple(specs)
    answers = layer(inputs if len(inputs) > 1 else inputs[0])
    return keras.Model(inputs, answers), sorted(answers)


def _input(name: str, spec: Any) -> Any:
    return keras.Input(batch_shape=(None, *spec.shape[1:]), dtype=spec.dtype.name, name=name)


def _check_graph(path: Path, graph: Any) -> None:
    definition = graph.graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    for node in nodes:
        if node.op in LOOPS:
            raise ModelError(f"{path}: node '{node.name}' ({node.op}) is a loop, as of GRU or LSTM; {NO_INT8['GRU']}")
