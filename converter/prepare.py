"""Tries whether the runtime takes a converted file, in a process of its own: over some files it aborts.

`check_prepares()` starts this module as a program.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from converter.child import environment, last_words, lasting_as_long_as_this
from converter.errors import ConversionError

TIMEOUT_S = 120


def check_prepares(flatbuffer: bytes, variant: str) -> None:
    """Raise ConversionError, with what the runtime said, if it cannot prepare a file and run it once."""
    with tempfile.TemporaryDirectory(prefix="footfall-prepare-") as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(flatbuffer)
        command = [sys.executable, *lasting_as_long_as_this("converter.prepare"), str(path)]
        try:
            done = subprocess.run(command, env=environment(), capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ConversionError(f"the {variant} file takes more than {TIMEOUT_S} s to run once") from error
    if done.returncode:
        how = f"{signal.Signals(-done.returncode).name}: " if done.returncode < 0 else ""
        raise ConversionError(
            f"the runtime cannot prepare the {variant} file ({how}{last_words(done.stderr.decode(errors='replace'))}); "
            "its scales are too far apart: look at input_range and normalization, and for weights out of all proportion"
        )


def _main(path: str) -> None:
    try:
        interpreter = Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
        for given in interpreter.get_input_details():
            interpreter.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error).strip().splitlines()[0])


if __name__ == "__main__":
    _main(sys.argv[1])
