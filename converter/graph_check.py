"""What a SavedModel's graph would do besides computing, looked at before TensorFlow loads it: loading runs parts of it.

Imported by the child process alone: it needs TensorFlow.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import loader_impl

from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

REACHES_OUT = re.compile(
    r"ReadFile|MatchingFiles|PyFunc|TextFile|Dataset|Reader|^Debug|^Abort$|Session|Rpc|Checkpoint$|^Load"
)
"""Operators that reach files, the network or Python although TensorFlow calls them stateless; some are stateful too."""
CHECKPOINT_READS = {"Restore", "RestoreV2", "RestoreSlice"}
CHECKPOINT_WRITES = {"Save", "SaveV2", "SaveSlices", "MergeV2Checkpoints"}
"""Every SavedModel holds these for its own saver; nothing else may call them."""
STATEFUL = {
    *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
    *("VarIsInitializedOp", "VariableShape", "DisableCopyOnRead", "DestroyResourceOp", "Variable", "VariableV2"),
    *("ResourceGather", "ResourceGatherNd", "TemporaryVariable", "Empty", "GuaranteeConst", "DeviceIndex"),
    *("StatefulPartitionedCall", "If", "Case", "While", "Assert", "CheckNumerics", "CheckNumericsV2", "XlaCallModule"),
    *("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3", "RngReadAndSkip", "RngSkip", "StatelessRandomGetAlg", "TruncatedNormal"),
}
"""Stateful operators that keep to themselves: variables, calls, checks and chance."""
STATEFUL_KINDS = re.compile(r"Random(?!Dataset)\w*$|^Stateful|^TensorArray|^Resource(Scatter|StridedSlice|Apply)")
STARTERS = ("saved_model_main_op", "legacy_init_op", "saved_model_initializers", "table_initializer")
"""Collections of nodes that loading runs."""


def check_graph(path: Path) -> None:
    """Raise ModelError if a graph or function of the folder reaches files, Python or the network."""
    for meta in loader_impl.parse_saved_model(str(path)).meta_graphs:
        functions = {each.signature.name: list(each.node_def) for each in meta.graph_def.library.function}
        for node in chain(meta.graph_def.node, *functions.values()):
            if node.op not in functions and (what := _reaching(node.op)):
                raise _refusal(path, node, what)
        used = [*_served(meta), *meta.object_graph_def.concrete_functions]
        for starts, forbidden in (
            (used, CHECKPOINT_READS | CHECKPOINT_WRITES),
            ([meta.saver_def.restore_op_name], CHECKPOINT_WRITES),
        ):
            for node in _run(meta.graph_def, functions, starts):
                if node.op in forbidden:
                    raise _refusal(path, node, "reads or writes checkpoints outside of the folder's own saver")


def _refusal(path: Path, node: Any, what: str) -> ModelError:
    return ModelError(
        f"{path}: node '{node.name}' ({node.op}) {what}; none of it was run: build the model from keras.layers only, "
        "and export it again"
    )


def _reaching(operator: str) -> str:
    """Return what an operator does that a model need not, empty if it only computes."""
    known = op_def_registry.get(operator)
    if known is None:
        return "is an operator that TensorFlow does not know"
    harmless = operator in STATEFUL or STATEFUL_KINDS.search(operator) or not known.is_stateful
    if operator in CHECKPOINT_READS | CHECKPOINT_WRITES or (harmless and not REACHES_OUT.search(operator)):
        return ""
    return "reaches files, devices or code outside of the model"


def _served(meta: Any) -> Iterator[str]:
    """Yield the names of the nodes that signatures answer with and that loading runs."""
    for signature in meta.signature_def.values():
        yield from (each.name for each in signature.outputs.values())
    for name in STARTERS:
        if name in meta.collection_def:
            yield from meta.collection_def[name].node_list.value


def _run(graph: Any, functions: dict[str, list[Any]], starts: Iterable[str]) -> Iterator[Any]:
    """Yield every node that runs when the nodes or functions of these names do."""
    nodes = {node.name: node for node in graph.node}
    waiting, seen = [_bare(name) for name in starts], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        # A function runs whole: its nodes with side effects need not lead to its answers.
        found = functions.get(name, []) + ([nodes[name]] if name in nodes else [])
        if name in nodes:
            waiting += map(_bare, nodes[name].input)
        for node in found:
            waiting += _called(node)
            yield node


def _bare(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _called(node: Any) -> list[str]:
    named = [value.func.name for value in node.attr.values() if value.HasField("func")]
    listed = [each.name for value in node.attr.values() for each in value.list.func]
    return [node.op, *named, *listed]
