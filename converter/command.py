"""The command `footfall-convert`: a Keras model in, a proven int8 `.tflite` with its manifest out."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from converter.convert import convert
from converter.errors import ConversionError
from converter.inspect_command import inspect
from converter.options import command_of, default_calibration, document_of, parser, spec_path
from converter.steps_level import KERAS
from converter.variants import INT8, parse_variants
from edge.errors import FootfallError, ModelError, UsageError

if TYPE_CHECKING:
    from converter.convert import Converted
    from converter.proofs import Proof


def run(given: list[str]) -> int:
    """Run the command line; returns 0, 1 (the work failed) or 2 (bad usage or input file)."""
    try:
        if given[:1] == ["inspect"]:
            _inspect(_file_to_inspect(given[1:]))
        else:
            _convert(parser().parse_args(given))
    except FootfallError as error:
        return _say(error, 2)
    except ConversionError as error:
        return _say(error, 1)
    except BrokenPipeError:
        # `footfall-convert inspect FILE | head`: the reader has seen enough, and Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _say(f"{error.filename or 'the system'}: {error.strerror}", 1)
    return 0


def _say(problem: object, code: int) -> int:
    print(f"footfall-convert: {printable(str(problem))}", file=sys.stderr)
    return code


def printable(text: str) -> str:
    """Return text as one line: names in it come from files, and could end the line or steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _inspect(path: Path) -> None:
    found = inspect(path)
    print(found.text)
    if found.damage is not None:
        raise ModelError(f"{path}: {found.damage}")


def _file_to_inspect(arguments: list[str]) -> Path:
    made = argparse.ArgumentParser(prog="footfall-convert inspect", description="What a .tflite holds.")
    made.add_argument("file", type=Path, metavar="FILE.tflite")
    file: Path = made.parse_args(arguments).file
    return file


def _convert(options: argparse.Namespace) -> None:
    model: Path = options.model
    output: Path = options.output or model.with_suffix(".tflite")
    if output.suffix != ".tflite":
        raise UsageError(f"--output is {output}; allowed: a name that ends in .tflite")
    if not output.parent.is_dir():
        raise UsageError(f"--output is {output}, but there is no folder {output.parent}; create it first")
    _report(
        convert(
            model,
            calibration=options.calibration or default_calibration(),
            output=output,
            document=document_of(options),
            where=str(spec_path(options) or model),
            variants=parse_variants(options.variants),
            evaluate=options.evaluate,
            force=options.force,
            timeout_s=options.timeout,
            command=command_of(options),
        )
    )


def _report(done: Converted) -> None:
    for sentence in done.assumptions:
        print(f"assumed: {printable(sentence)}")
    for sentence in done.warnings:
        print(f"footfall-convert: warning: {printable(sentence)}", file=sys.stderr)
    for file in done.files:
        print(f"{file.path}  {file.variant}  {file.size_bytes} bytes  sha256 {file.sha256}")
    overruled = "written in spite of its objections" if done.proof.objections else "accepted"
    print(f"{overruled}: {_scored(done.proof)}the proofs are in {done.files[0].path.with_suffix('.report.md')}")


def _scored(proof: Proof) -> str:
    """Return what the labelled recordings said, if there were any."""
    steps = proof.facts["deterministic"]["steps"]
    if steps is None:
        return "not scored on steps (give EVALUATE=…), "
    floats, int8 = (steps["rows"][name]["f1_250ms"] for name in (KERAS, INT8))
    if floats is None or int8 is None:
        return "no labelled step to find, "
    return f"F1 {100 * int8:.2f} % on labelled steps, Keras {100 * floats:.2f} %, "
