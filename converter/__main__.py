"""`footfall-convert`: a Keras model in, a verified int8 `.tflite` with its manifest out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from converter.convert import convert
from converter.errors import ConversionError
from edge.errors import FootfallError, UsageError

ROOT = Path(__file__).parents[1]
SHIPPED_MODEL = ROOT / "models" / "step.keras"
CALIBRATION_FOLDERS = (ROOT / "data" / "recordings", ROOT.parent / "shared" / "data" / "recordings")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, 1 (the work failed) or 2 (bad usage or input file)."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except FootfallError as error:
        print(f"footfall-convert: {error}", file=sys.stderr)
        return 2
    except ConversionError as error:
        print(f"footfall-convert: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"footfall-convert: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    model: Path = options.model
    output: Path = options.output or model.with_suffix(".tflite")
    if output.suffix != ".tflite":
        raise UsageError(f"--output is {output}; allowed: a name that ends in .tflite")
    if not output.parent.is_dir():
        raise UsageError(f"--output is {output}, but there is no folder {output.parent}; create it first")
    done = convert(
        model,
        calibration=options.calibration or _default_calibration(),
        output=output,
        spec_path=options.spec or model.with_suffix(".yaml"),
        force=options.force,
    )
    if done.warning:
        print(f"footfall-convert: warning: {done.warning}", file=sys.stderr)
    print(f"{done.output}  {done.size_bytes} bytes  sha256 {done.sha256}")
    print(f"int8 differs from Keras by {done.difference.mean:.4f} on average, {done.difference.largest:.3f} at most")
    return 0


def _default_calibration() -> Path:
    for folder in CALIBRATION_FOLDERS:
        if folder.is_dir():
            return folder
    raise UsageError("--calibration is not given and no recordings are here; fetch them with `make data`")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="footfall-convert", description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL, metavar="X.keras", help="default: the shipped one")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="recordings; default: those of `make data`")
    parser.add_argument("--output", type=Path, metavar="Y.tflite", help="default: beside the model")
    parser.add_argument("--spec", type=Path, metavar="X.yaml", help="default: beside the model")
    parser.add_argument("--force", action="store_true", help="write the file even if int8 and Keras differ too much")
    return parser


if __name__ == "__main__":
    sys.exit(main())
