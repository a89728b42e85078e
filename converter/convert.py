"""One conversion, start to end: quantise, embed the manifest, prove, write the models and their report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.child import TIMEOUT_S
from converter.errors import ConversionError
from converter.manifest import build_manifest, embed, self_test, to_json
from converter.output import check_output, put
from converter.prepare import check_prepares
from converter.proofs import Evidence, Proof, prove
from converter.quantize import Quantized, quantize
from converter.ranges import state_tensors
from converter.report import rendered
from converter.sources import sha256
from converter.spec import read_document
from converter.variants import INT8, variant_path
from converter.verify import Int8Model
from edge.classifier import StepClassifier
from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    command: str = "",
) -> Converted:
    """Write OUTPUT (and OUTPUT.VARIANT.tflite), their manifests `.json`, and OUTPUT's `.report.md`/`.json`.

    document: what the spec file and the command line say about the model; where: the spec file's name. evaluate:
    labelled recordings, or None. command: what makes these files again, for the report. force: write in spite of
    objections, and over a foreign NAME.json. Raises a FootfallError for bad input and ConversionError when the work
    fails; then nothing is written, otherwise all is.
    """
    check_output(output, variants, force=force)
    quantized = quantize(model, document, calibration, variants=variants, where=where, timeout_s=timeout_s)
    keras_sha256 = sha256(model)
    manifests = {variant: _manifest(quantized, variant, keras_sha256) for variant in variants}
    evidence = [_evidence(quantized, variant, manifests[variant], model) for variant in variants]
    proof = prove(evidence, evaluate=evaluate)
    if proof.objections and not force:
        raise ConversionError(f"{model}: {'; '.join(proof.objections)}; nothing was written (--force writes it anyway)")
    models = {variant_path(output, one.variant).name: one for one in reversed(evidence)}
    files = rendered(output, proof, command)
    files |= {f"{Path(name).stem}.json": _text(manifests[one.variant]) for name, one in models.items()}
    files |= {name: one.flatbuffer for name, one in models.items()}
    put(output, files, lambda folder: _accept(folder, models))
    written = tuple(_written(output.with_name(name), one) for name, one in reversed(models.items()))
    return Converted(written, proof, quantized.assumptions, (*proof.warnings, *proof.objections))


def unproven(model: Path, spec: Path, calibration: Path) -> bytes:
    """Return the int8 file of a model without its proofs, for a comparison of many; raises as `convert` does."""
    quantized = quantize(model, read_document(spec), calibration, variants=(INT8,), where=str(spec))
    return embed(quantized.flatbuffers[INT8], _manifest(quantized, INT8, sha256(model)))


def _manifest(quantized: Quantized, variant: str, keras_sha256: str) -> dict[str, Any]:
    flatbuffer = quantized.flatbuffers[variant]
    check_prepares(flatbuffer, variant)
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


def _text(manifest: dict[str, Any]) -> bytes:
    return f"{to_json(manifest)}\n".encode()


def _accept(folder: Path, models: dict[str, Evidence]) -> None:
    """Let the device's own reader and self-test judge each model; raises ConversionError if they refuse one."""
    for name, one in models.items():
        try:
            StepClassifier(folder / name, int8_only=one.variant == INT8)
        except ModelError as error:
            raise ConversionError(f"{name}: the device would refuse the converted file: {error}") from error


def _written(path: Path, evidence: Evidence) -> Written:
    digest = hashlib.sha256(evidence.flatbuffer).hexdigest()
    return Written(path, evidence.variant, len(evidence.flatbuffer), digest)
