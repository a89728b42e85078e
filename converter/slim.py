"""A flatbuffer without the paths that TensorFlow makes of tensor names: a tenth of a small model's bytes."""

from __future__ import annotations

from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from converter.layers import short_name


def slimmed(flatbuffer: bytes) -> bytes:
    """Return the same model with every tensor named as its layer, inputs and outputs as their signature calls them."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    for number, graph in enumerate(model.subgraphs):
        called = _called(model, number)
        taken: set[str] = set()
        for index, tensor in enumerate(graph.tensors):
            wanted = called.get(index) or short_name(_text(tensor.name))
            name = wanted if wanted not in taken else f"{wanted}:{index}"
            taken.add(name)
            tensor.name = name.encode()
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _called(model: Any, graph: int) -> dict[int, str]:
    """Return the names that signatures give to the tensors of one subgraph."""
    entries = [
        entry
        for signature in model.signatureDefs or []
        if signature.subgraphIndex == graph
        for entry in (*signature.inputs, *signature.outputs)
    ]
    return {int(entry.tensorIndex): _text(entry.name) for entry in entries}


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
