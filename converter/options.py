"""The command line of `footfall-convert`, and what it says about a model as a spec document."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import Any

from converter.child import TIMEOUT_S
from converter.spec import OUTPUTS, read_document
from converter.variants import INT8, VARIANTS
from edge.errors import UsageError

ROOT = Path(__file__).parents[1]
SHIPPED_MODEL = ROOT / "models" / "step.keras"
CALIBRATION_FOLDERS = (ROOT / "data" / "recordings", ROOT.parent / "shared" / "data" / "recordings")
STANDARD_GRAVITY = 9.80665


def parser() -> argparse.ArgumentParser:
    """Return the parser of everything but `inspect`."""
    made = argparse.ArgumentParser(
        prog="footfall-convert",
        description="A Keras model in, a proven int8 .tflite with its manifest out.",
        epilog="What is said neither in the spec nor here is inferred from the model and told. "
        "`footfall-convert inspect FILE.tflite` shows what a converted file holds.",
    )
    made.add_argument("--model", type=Path, default=SHIPPED_MODEL, metavar="X", help=".keras, .h5 or SavedModel folder")
    made.add_argument("--calibration", type=Path, metavar="DIR|FILE", help="recordings; default: those of `make data`")
    made.add_argument("--output", type=Path, metavar="Y.tflite", help="default: beside the model")
    made.add_argument("--spec", type=Path, metavar="X.yaml", help="what the model means; default: beside it, if there")
    made.add_argument("--evaluate", type=Path, metavar="DIR|FILE", help="labelled recordings to score both models on")
    made.add_argument("--variants", default=INT8, metavar="LIST", help=f"of {','.join(VARIANTS)}; default: {INT8}")
    made.add_argument("--force", action="store_true", help="write the files even if a proof fails")
    made.add_argument("--timeout", type=_seconds, default=TIMEOUT_S, metavar="S", help="default: %(default)g s")
    _add_spec_options(made)
    return made


def spec_path(options: argparse.Namespace) -> Path | None:
    """Return the spec file that was named, or the one beside the model if there is one."""
    beside: Path = options.model.with_suffix(".yaml")
    named: Path | None = options.spec
    return named or (beside if beside.is_file() else None)


def document_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what spec file and command line say, the latter winning; raises UsageError."""
    path = spec_path(options)
    document = read_document(path) if path else {}
    said = {
        "name": options.name,
        "version": options.model_version,
        "sampling_rate_hz": options.sampling_rate_hz,
        "window_samples": options.window,
        "hop_samples": options.hop_samples,
        "lookahead_samples": options.lookahead_samples,
        "channels": _names(options.channels),
        "classes": _names(options.classes),
        "output": options.output_kind,
        "threshold": options.threshold,
        "refractory_s": options.refractory_s,
        "input_range": _numbers("--input-range", options.input_range, (1, 2)),
        "any_orientation": options.any_orientation or None,
        "state": _state(options.state),
    }
    if isinstance(said["input_range"], list) and len(said["input_range"]) == 1:
        said["input_range"] = [-said["input_range"][0], said["input_range"][0]]
    document |= {key: value for key, value in said.items() if value is not None}
    return document | _normalization(options, document)


def default_calibration() -> Path:
    """Return the folder of the public recordings; raises UsageError when they are not here."""
    for folder in CALIBRATION_FOLDERS:
        if folder.is_dir():
            return folder
    raise UsageError("--calibration is not given and no recordings are here; fetch them with `make data`")


MAKE_VARIABLES = ("model", "calibration", "output", "spec", "evaluate", "variants")
"""Options that the Makefile's `convert` has variables of its own for; the rest go into ARGS."""


def command_of(options: argparse.Namespace) -> str:
    """Return the `make convert` that says what these options say, with nothing of this machine's folders in it.

    A path is as it was given if that was relative, else its last part.
    """
    variables, arguments = [], []
    for action in parser()._actions:  # noqa: SLF001 - argparse knows its options by no public way
        value = getattr(options, action.dest, action.default)
        if value == action.default:
            continue
        shown = value.name if isinstance(value, Path) and value.is_absolute() else str(value)
        if action.dest == "force":
            variables.append("FORCE=1")
        elif action.dest in MAKE_VARIABLES:
            variables.append(f"{action.dest.upper()}={shlex.quote(shown)}")
        else:
            # With a sign of equality: -4,4 would pass for an option.
            given = action.option_strings[0]
            arguments.append(given if action.nargs == 0 else shlex.quote(f"{given}={_bare(value)}"))
    variables += [f"ARGS={shlex.quote(' '.join(arguments))}"] if arguments else []
    return " ".join(["make convert", *variables]).replace("$", "$$")


def _bare(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _add_spec_options(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("what the model means (wins over the spec)")
    group.add_argument("--name")
    group.add_argument("--model-version", metavar="V")
    group.add_argument("--sampling-rate-hz", type=float, metavar="HZ", help="of the model's frames")
    group.add_argument("--window", type=int, metavar="N", help="frames, for a model that takes any number")
    group.add_argument("--hop-samples", type=int, metavar="N", help="new frames between two answers")
    group.add_argument("--lookahead-samples", type=int, metavar="N", help="frames by which the answer lags")
    group.add_argument("--channels", metavar="LIST", help="acc_x,acc_y,acc_z,gyr_x,gyr_y,gyr_z or some, in order")
    group.add_argument("--output-kind", choices=OUTPUTS)
    group.add_argument("--classes", metavar="LIST", help="names of the softmax, one of them step or start")
    group.add_argument("--threshold", type=float, metavar="P")
    group.add_argument("--refractory-s", type=float, metavar="S", help="shortest time between two steps")
    group.add_argument("--units", choices=("si", "g"), help="g: the model takes g and rad/s, not m/s^2 and rad/s")
    group.add_argument("--normalization-scale", metavar="LIST", help="input = (SI value - offset) / scale; 1, 2 or all")
    group.add_argument("--normalization-offset", metavar="LIST", help="in SI units; one for all, acc,gyr, or each")
    group.add_argument("--input-range", metavar="LOW,HIGH", help="normalised; what lies beyond saturates")
    group.add_argument("--any-orientation", action="store_true", help="turn the calibration windows at random")
    group.add_argument("--state", metavar="IN=OUT,…", help="inputs and outputs of a streaming model that are fed back")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str | None, counts: tuple[int, ...]) -> list[float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}; allowed: numbers separated by commas") from error
    if len(values) not in counts:
        raise UsageError(f"{option} is {text!r}; allowed: {' or '.join(map(str, counts))} numbers")
    return values


def _state(text: str | None) -> list[dict[str, str]] | None:
    if text is None:
        return None
    pairs = [pair.split("=") for pair in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UsageError(f"--state is {text!r}; allowed: input=output, several separated by commas")
    return [{"input": given.strip(), "output": answer.strip()} for given, answer in pairs]


def _normalization(options: argparse.Namespace, document: dict[str, Any]) -> dict[str, Any]:
    scale = _numbers("--normalization-scale", options.normalization_scale, (1, 2, 3, 4, 5, 6))
    offset = _numbers("--normalization-offset", options.normalization_offset, (1, 2, 3, 4, 5, 6))
    if options.units is not None and scale is not None:
        raise UsageError("--units and --normalization-scale both say how the input is scaled; give one of them")
    known = document.get("normalization") or {}
    if options.units is not None:
        scale = [STANDARD_GRAVITY if options.units == "g" else 1.0, 1.0]
        channels = document.get("channels")
        if channels is not None:
            names = [str(entry["name"] if isinstance(entry, dict) else entry) for entry in channels]
            scale = [scale[0] if name.startswith("acc") else 1.0 for name in names]
    said = {key: value for key, value in (("scale", scale), ("offset", offset)) if value is not None}
    return {"normalization": known | said} if said else {}
