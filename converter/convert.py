"""One conversion, start to end: quantise, verify, embed the manifest, write the model and its report."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from converter.errors import ConversionError
from converter.manifest import build_manifest, embed, self_test, to_json
from converter.quantize import Quantized, quantize
from converter.report import write_report
from converter.spec import Spec, load_spec
from converter.verify import Difference, Int8Model, check_difference, difference, operators
from edge.classifier import StepClassifier
from edge.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written, and how close it is to the Keras model. warning: why it needed --force, or None."""

    output: Path
    size_bytes: int
    sha256: str
    difference: Difference
    warning: str | None


def convert(keras_path: Path, *, calibration: Path, output: Path, spec_path: Path, force: bool = False) -> Converted:
    """Write OUTPUT, its manifest `.json` and its `.report.md`/`.json`.

    Raises a FootfallError for bad input and ConversionError when the work fails; then nothing is written.
    """
    spec = load_spec(spec_path)
    quantized = quantize(keras_path, spec_path, calibration)
    found_operators = operators(quantized.flatbuffer)
    int8 = Int8Model(quantized.flatbuffer)
    found = difference(int8.probabilities(quantized.windows), quantized.floats, spec.threshold)
    warning = _objection(found, force=force)
    keras_sha256 = hashlib.sha256(keras_path.read_bytes()).hexdigest()
    manifest = _manifest(spec, quantized, int8, keras_sha256)
    flatbuffer = embed(quantized.flatbuffer, manifest)
    _write(output, flatbuffer)
    output.with_suffix(".json").write_text(to_json(manifest) + "\n", encoding="utf-8")
    facts = _facts(
        spec,
        quantized,
        int8,
        flatbuffer=flatbuffer,
        found=found,
        found_operators=dict(sorted(found_operators.items())),
    )
    write_report(output, facts)
    return Converted(output, len(flatbuffer), hashlib.sha256(flatbuffer).hexdigest(), found, warning)


def _objection(found: Difference, *, force: bool) -> str | None:
    try:
        check_difference(found)
    except ConversionError as error:
        if not force:
            raise
        return str(error)
    return None


def _write(output: Path, flatbuffer: bytes) -> None:
    """Put the model in place once the device's own reader and self-test have accepted it."""
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.write_bytes(flatbuffer)
        StepClassifier(partial)
        partial.replace(output)
    except ModelError as error:
        raise ConversionError(f"{output}: the device would refuse the converted file: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _manifest(spec: Spec, quantized: Quantized, int8: Int8Model, keras_sha256: str) -> dict[str, Any]:
    provenance = {
        "keras_sha256": keras_sha256,
        "calibration_sha256": quantized.calibration_sha256,
        "converter_versions": quantized.versions,
    }
    known_answers = self_test(int8.input_shape, int8.invoke)
    return build_manifest(spec, window_samples=int8.input_shape[1], provenance=provenance, self_test=known_answers)


def _facts(
    spec: Spec,
    quantized: Quantized,
    int8: Int8Model,
    *,
    flatbuffer: bytes,
    found: Difference,
    found_operators: dict[str, int],
) -> dict[str, Any]:
    low, high = ((edge - int8.input_zero) * int8.input_scale * spec.scale[0] + spec.offset[0] for edge in (-128, 127))
    return {
        "name": f"{spec.name} {spec.version}",
        "sha256": hashlib.sha256(flatbuffer).hexdigest(),
        "size_bytes": len(flatbuffer),
        "size_bytes_without_manifest": len(quantized.flatbuffer),
        "parameters": quantized.parameters,
        "window_samples": int8.input_shape[1],
        "hop_samples": spec.hop_samples,
        "operators": found_operators,
        "input_range_si": [round(low, 3), round(high, 3)],
        "input_resolution_si": round(int8.input_scale * spec.scale[0], 5),
        "int8_minus_float": {key: round(value, 5) for key, value in asdict(found).items()},
        "calibration_windows": quantized.strata,
        "metrics": spec.metrics,
    }
