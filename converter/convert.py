"""One conversion, start to end: quantise, embed the manifest, prove, write the models and their report."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converter.child import TIMEOUT_S
from converter.errors import ConversionError
from converter.manifest import build_manifest, embed, self_test, to_json
from converter.proofs import Evidence, Proof, prove, write_report
from converter.quantize import Quantized, quantize
from converter.ranges import state_tensors
from converter.sources import sha256
from converter.spec import read_document
from converter.variants import INT8, variant_path
from converter.verify import Int8Model
from edge.classifier import StepClassifier
from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Written:
    """One file that a conversion wrote."""

    path: Path
    variant: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written and proven.

    assumptions: what nobody said about the model; warnings: the proof's, and the objections that --force overruled.
    """

    files: tuple[Written, ...]
    proof: Proof
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def convert(
    model: Path,
    *,
    calibration: Path,
    output: Path,
    document: dict[str, Any],
    where: str = "",
    variants: Sequence[str] = (INT8,),
    evaluate: Path | None = None,
    force: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Converted:
    """Write OUTPUT (and OUTPUT.VARIANT.tflite), their manifests `.json`, and OUTPUT's `.report.md`/`.json`.

    document: what the spec file and the command line say about the model; where: the spec file's name. evaluate:
    labelled recordings, or None. Raises a FootfallError for bad input and ConversionError when the work fails; then
    nothing is written.
    """
    quantized = quantize(model, document, calibration, variants=variants, where=where, timeout_s=timeout_s)
    keras_sha256 = sha256(model)
    manifests = {variant: _manifest(quantized, variant, keras_sha256) for variant in variants}
    evidence = [_evidence(quantized, variant, manifests[variant], model) for variant in variants]
    proof = prove(evidence, evaluate=evaluate)
    if proof.objections and not force:
        raise ConversionError(f"{model}: {'; '.join(proof.objections)}; nothing was written (--force writes it anyway)")
    files = tuple(_write(variant_path(output, one.variant), one, manifests[one.variant]) for one in evidence)
    write_report(output, proof)
    return Converted(files, proof, quantized.assumptions, (*proof.warnings, *proof.objections))


def unproven(model: Path, spec: Path, calibration: Path) -> bytes:
    """Return the int8 file of a model without its proofs, for a comparison of many; raises as `convert` does."""
    quantized = quantize(model, read_document(spec), calibration, variants=(INT8,), where=str(spec))
    return embed(quantized.flatbuffers[INT8], _manifest(quantized, INT8, sha256(model)))


def _manifest(quantized: Quantized, variant: str, keras_sha256: str) -> dict[str, Any]:
    flatbuffer = quantized.flatbuffers[variant]
    state = state_tensors(flatbuffer, quantized.spec.state)
    converted = Int8Model(flatbuffer, [(pair["input"], pair["output"]) for pair in state])
    return build_manifest(
        quantized.spec,
        window_samples=quantized.window_samples,
        provenance={
            "keras_sha256": keras_sha256,
            "calibration_sha256": quantized.calibration_sha256,
            "converter_versions": quantized.versions,
        },
        self_test=self_test(converted),
        quantization=variant,
        state=state,
    )


def _evidence(quantized: Quantized, variant: str, manifest: dict[str, Any], model: Path) -> Evidence:
    return Evidence(
        variant=variant,
        flatbuffer=embed(quantized.flatbuffers[variant], manifest),
        spec=quantized.spec,
        windows=quantized.windows,
        floats=quantized.floats,
        keras_path=model,
        parameters=quantized.parameters,
        calibration=quantized.calibration,
    )


def _write(output: Path, evidence: Evidence, manifest: dict[str, Any]) -> Written:
    """Put a model in place once the device's own reader and self-test have accepted it."""
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(evidence.flatbuffer)
        StepClassifier(partial, int8_only=evidence.variant == INT8)
        partial.replace(output)
    except ModelError as error:
        raise ConversionError(f"{output}: the device would refuse the converted file: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    output.with_suffix(".json").write_text(to_json(manifest) + "\n", encoding="utf-8")
    digest = hashlib.sha256(evidence.flatbuffer).hexdigest()
    return Written(output, evidence.variant, len(evidence.flatbuffer), digest)
