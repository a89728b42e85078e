"""`footfall-convert inspect FILE`: what a `.tflite` is, in a terminal, without TensorFlow."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter.flatfile import FlatModel, Operator, Tensor, read_flatbuffer
from converter.layers import short_name
from converter.verify import INTEGERS, not_integer
from edge.classifier import MAX_MODEL_BYTES
from edge.errors import ModelError, UsageError
from edge.manifest import check_sum, embedded_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LONG = {"self_test", "channels", "normalization", "trained_on", "metrics", "converter_versions", "state"}
MANIFEST_CHARACTERS = 2000
"""Of a manifest that makes no sense, so much is shown."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a file holds, as text for a terminal. damage: why its bytes cannot be trusted, None if they can."""

    text: str
    damage: str | None


def inspect(path: Path) -> Inspected:
    """Return manifest, operators, tensors and sizes.

    Raises UsageError when the file cannot be read, ModelError when it is no `.tflite`.
    """
    flatbuffer = _read(path)
    try:
        model = read_flatbuffer(flatbuffer)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    damage = _damage(flatbuffer)
    first = [] if damage is None else [f"DAMAGED: the device would refuse this file: it {damage}"]
    parts = [*first, _head(path, flatbuffer, model), _manifest(flatbuffer), _operators(model), _tensors(model)]
    text = "\n\n".join(parts)
    # Names come from the file: an escape sequence in one must not reach the terminal.
    return Inspected("".join(c if c.isprintable() or c == "\n" else "�" for c in text), damage)


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: is no regular file; give a .tflite file")
        if status.st_size > MAX_MODEL_BYTES:
            size = f"{status.st_size:,} bytes; allowed: {MAX_MODEL_BYTES:,}"
            raise ModelError(f"{path}: has {size}; no model for the device is larger")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a .tflite file") from error


def _damage(flatbuffer: bytes) -> str | None:
    try:
        check_sum(flatbuffer)
    except ModelError as error:
        return str(error)
    return None


def _head(path: Path, flatbuffer: bytes, model: FlatModel) -> str:
    constants = sum(len(tensor.data) for tensor in model.tensors if tensor.data is not None)
    rows = [
        ("sha256", hashlib.sha256(flatbuffer).hexdigest()),
        ("bytes", f"{model.size_bytes:,}, of these constants {constants:,}"),
        ("integer", _integer(flatbuffer, model)),
        ("stored numbers", ", ".join(f"{count:,} {name}" for name, count in model.stored.items())),
        ("MACs per invoke", f"{model.total_macs:,}"),
        ("live tensors", f"{model.live_bytes:,} bytes at most at once; the arena is at least that"),
        ("operators", ", ".join(f"{count} x {name}" for name, count in model.operator_versions.items())),
    ]
    return "\n".join([str(path), *_pairs(rows)])


def _integer(flatbuffer: bytes, model: FlatModel) -> str:
    try:
        variant = embedded_manifest(flatbuffer).get("quantization", "int8")
    except ModelError:
        variant = "int8"
    offenders = list(not_integer(model, variant if variant in INTEGERS else "int8"))
    custom = [f"operator {operator.name} is custom" for operator in model.operators if operator.custom]
    if not offenders and not custom:
        return "yes: every tensor that an operator touches"
    first = (*custom, *offenders)[0]
    return f"NO: {first}" + (
        f" (and {len(offenders) + len(custom) - 1} more)" if len(offenders) + len(custom) > 1 else ""
    )


def _manifest(flatbuffer: bytes) -> str:
    try:
        manifest = embedded_manifest(flatbuffer)
    except ModelError as error:
        return f"manifest: none that can be read; the device would refuse this file: it {error}"
    try:
        rows = _manifest_rows(manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"manifest: damaged ({type(error).__name__}: {error}); the device would refuse this file. It says:"
        return f"{problem}\n  {json.dumps(manifest, ensure_ascii=False)[:MANIFEST_CHARACTERS]}"
    return "\n".join(["manifest", *_pairs(rows)])


def _manifest_rows(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, _text(value)) for key, value in manifest.items() if key not in LONG and value is not None]
    rows += [("channels", ", ".join(f"{each['name']} [{each['unit']}]" for each in manifest.get("channels", [])))]
    rows += [(f"normalization {key}", _text(value)) for key, value in manifest.get("normalization", {}).items()]
    rows += [("state", f"{each['input']} <- {each['output']}") for each in manifest.get("state") or []]
    rows += [("trained on", _text(list(each.values()))) for each in manifest.get("trained_on", [])]
    rows += [(key, _text(value)) for key, value in manifest.get("metrics", {}).items()]
    rows += [("made with", _text(manifest.get("converter_versions", {})))]
    test = manifest.get("self_test", {})
    rows += [("self_test", f"{len(test.get('cases', []))} cases, tolerance {test.get('tolerance_lsb')} LSB elsewhere")]
    return rows


def _operators(model: FlatModel) -> str:
    rows = [_operator(model, number, operator) for number, operator in enumerate(model.operators)]
    return "\n".join(["operators", *_table(("#", "operator", "v", "output", "type", "MACs", "layer"), rows)])


def _operator(model: FlatModel, number: int, operator: Operator) -> tuple[str, ...]:
    out = model.tensors[operator.outputs[0]]
    name = operator.name if operator.activation == "NONE" else f"{operator.name} + {operator.activation}"
    macs = model.macs(operator)
    shape = "x".join(map(str, out.shape))
    return (
        str(number),
        name,
        str(operator.version),
        shape,
        out.type,
        f"{macs:,}" if macs else "",
        short_name(out.name),
    )


def _tensors(model: FlatModel) -> str:
    rows = [_tensor(model, tensor) for tensor in model.tensors]
    return "\n".join(["tensors", *_table(("#", "shape", "type", "bytes", "scale", "zero", "role", "name"), rows)])


def _tensor(model: FlatModel, tensor: Tensor) -> tuple[str, ...]:
    role = "constant" if tensor.data is not None else ""
    role = "input" if tensor.index in model.inputs else "output" if tensor.index in model.outputs else role
    scale = (
        f"{tensor.scale[0]:.6g}" if len(tensor.scale) == 1 else f"{len(tensor.scale)} of them" if tensor.scale else ""
    )
    zero = str(tensor.zero_point[0]) if len(tensor.zero_point) == 1 else ""
    shape = "x".join(map(str, tensor.shape))
    name = tensor.name if len(tensor.name) <= 60 else f"{tensor.name[:59]}…"
    return (str(tensor.index), shape, tensor.type, f"{tensor.size_bytes:,}", scale, zero, role, name)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(key) for key, _ in rows)
    return [f"  {key.ljust(width)}  {value}" for key, value in rows]


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [heading, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
