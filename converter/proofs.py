"""What makes a converted file trustworthy: every proof of a conversion, run and gathered.

Facts are kept apart by what they depend on: `deterministic` ones on the files alone, `measured` ones on this machine.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from converter import steps_level
from converter.file_proof import file_facts, file_objections
from converter.keras_steps import keras_steps
from converter.layers import layer_ranges
from converter.lifeless import lifeless
from converter.pictures import Walk, draw
from converter.runtime_proof import oldest, runtime_objections, runtime_rows, state_pairs
from converter.verify import Int8Model
from edge.manifest import embedded_manifest, parse_manifest
from edge.pipeline import rest_windows
from edge.recording import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from converter.keras_steps import KerasSteps
    from converter.spec import Spec
    from edge.types import FloatArray

LAYER_WINDOWS = 40
WALK_S = 12.0
ANSWERS_SHOWN = 200


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One variant of a converted model, and what the Keras model says.

    variant: `int8`, `int16x8`, `float16` or `dynamic_range`. flatbuffer: with its manifest embedded.
    windows: [n, window_samples, channels] normalised calibration windows, as they are: the int8 side clips them by
    itself; floats: the Keras model's answers to them.
    calibration: strata, counts and warnings, ready for JSON.
    """

    variant: str
    flatbuffer: bytes
    spec: Spec
    windows: FloatArray
    floats: FloatArray
    keras_path: Path
    parameters: int
    calibration: Any


@dataclass(frozen=True, slots=True)
class Proof:
    """facts: for JSON, `deterministic` apart from `measured`. objections: each alone is a reason for exit code 1.

    pictures: PNG bytes by name. warnings: of the calibration, and of a model that tells no step from none.
    """

    facts: dict[str, Any]
    objections: list[str] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def prove(evidence: list[Evidence], *, evaluate: Path | None = None) -> Proof:
    """Run every proof on every variant. evaluate: labelled recordings for scores at the level of steps, or None.

    Raises ConversionError when Keras cannot run and FootfallError when the recordings cannot be used.
    """
    objections: list[str] = []
    variants: dict[str, Any] = {}
    runtimes: dict[str, Any] = {}
    for one in evidence:
        subject = (one.variant, one.flatbuffer, one.spec, one.windows, one.floats)
        variants[one.variant] = file_facts(*subject)
        runtimes[one.variant] = runtime_rows(one.flatbuffer, one.windows)
        objections += file_objections(*subject) + runtime_objections(one.variant, runtimes[one.variant])
    first = next((one for one in evidence if one.variant == "int8"), evidence[0])
    steps, walk = _steps(evidence, first, evaluate)
    objections += steps.pop("objections") if steps else []
    warnings = [*first.calibration.get("warnings", ()), *lifeless(first.spec, first.floats)]
    facts = {
        "schema": 1,
        "deterministic": {
            "model": _model(first),
            "warnings": warnings,
            "variants": variants,
            "layers": _layers(first),
            "steps": steps,
        },
        "measured": {
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "runtimes": runtimes,
            "oldest_runtime": {name: oldest(rows) for name, rows in runtimes.items()},
        },
        "objections": objections,
    }
    return Proof(facts, objections, draw(facts, walk or _answers(first)), warnings)


def _model(one: Evidence) -> dict[str, Any]:
    spec, manifest = one.spec, embedded_manifest(one.flatbuffer)
    return {
        "name": f"{spec.name} {spec.version}",
        "keras_file": one.keras_path.name,
        "keras_sha256": manifest.get("keras_sha256"),
        "calibration_sha256": manifest.get("calibration_sha256"),
        "converter_versions": manifest.get("converter_versions"),
        "parameters": one.parameters,
        "sampling_rate_hz": spec.sampling_rate_hz,
        "window_samples": manifest["window_samples"],
        "hop_samples": spec.hop_samples,
        "lookahead_samples": spec.lookahead_samples,
        "channels": list(spec.channels),
        "output": spec.output,
        "threshold": spec.threshold,
        "calibration": one.calibration,
        "metrics": spec.metrics,
    }


def _layers(one: Evidence) -> list[dict[str, Any]]:
    state = state_pairs(one.flatbuffer)
    inputs = Int8Model(one.flatbuffer, state).quantised(one.windows[:LAYER_WINDOWS])
    return [asdict(layer) for layer in layer_ranges(one.flatbuffer, inputs, state)]


def _steps(
    evidence: Sequence[Evidence], first: Evidence, folder: Path | None
) -> tuple[dict[str, Any] | None, Walk | None]:
    if folder is None:
        return None, None
    paths, left_out = steps_level.labelled(folder)
    keras = keras_steps(first.keras_path, first.spec, embedded_manifest(first.flatbuffer), paths)
    rows = steps_level.compare({one.variant: one.flatbuffer for one in evidence}, paths, keras.steps)
    facts = {
        "recordings": len(paths),
        "left_out_because_trained_on": left_out,
        "allowed_f1_loss": steps_level.ALLOWED_F1_LOSS,
        "rows": rows,
        "objections": steps_level.objections(rows),
    }
    return facts, None if keras.walk is None else _walk(first, paths[keras.walk], keras)


def _walk(one: Evidence, path: Path, keras: KerasSteps) -> Walk:
    """Return both models' answers over a stretch of a recording, around the middle one of its steps."""
    manifest = parse_manifest(embedded_manifest(one.flatbuffer))
    recording = load(path)
    windows = steps_level.collected(recording, manifest)
    raw = np.stack(list(steps_level.raw_answers(Int8Model(one.flatbuffer, state_pairs(one.flatbuffer)), windows)))
    converted = steps_level.step_probabilities(raw, manifest)
    # The newest answer of each window is for its newest frame, less the look-ahead.
    newest_s = (manifest.hop_samples - 1 - manifest.lookahead_samples) / manifest.sampling_rate_hz
    number = np.arange(converted.size) - (converted.shape[1] - 1) - rest_windows(manifest) * converted.shape[1]
    time_s = newest_s + number * manifest.answer_period_s
    steps_s = np.empty(0) if recording.steps is None else recording.steps
    middle_s = float(steps_s[len(steps_s) // 2])
    shown = np.abs(time_s - middle_s) <= WALK_S / 2
    return Walk(
        f"{recording.dataset} {recording.name}".strip(),
        time_s[shown],
        converted.reshape(-1)[shown],
        keras.walk_answers.reshape(-1)[shown],
        steps_s[np.abs(steps_s - middle_s) <= WALK_S / 2],
        one.spec.threshold,
    )


def _answers(one: Evidence) -> Walk:
    """Return answers to calibration windows, one after the other, for want of a labelled walk."""
    # The step's class alone, as on the device: the classes of a softmax one after the other are a saw.
    spec = one.spec
    answers = Int8Model(one.flatbuffer, state_pairs(one.flatbuffer)).probabilities(one.windows)
    converted, floats = (spec.column(values, spec.step_class)[:ANSWERS_SHOWN] for values in (answers, one.floats))
    number = np.arange(len(converted)).astype(np.float64)
    return Walk("", number, converted, floats, np.empty(0), one.spec.threshold)
