"""Runs a job of `converter.lowering` in a fresh process: TensorFlow can abort, and names leak between models."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.errors import ConversionError
from edge.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TIMEOUT_S = 600.0
BAD_INPUT = 2
"""Exit code of the process when what it was given is wrong."""
PHASE = "footfall-phase: "
"""Begins each line by which the process says what it is doing."""
LOG = re.compile(r"[IW]\d{4} |\d{4}-\d\d-\d\d .*: [IW] |WARNING|To enable the following instructions")
"""Begins a line of a library's log, as `I0000 00:00:1795428081.5 port.cc:153] oneDNN custom operations are on.`"""


@contextmanager
def run_child(job: dict[str, Any], *, timeout_s: float = TIMEOUT_S, program: Sequence[str] = ()) -> Iterator[Path]:
    """Run a job and yield the file it wrote, gone afterwards.

    job: JSON-able, with the keys `job` and `model`. program: arguments of Python, by default `converter.lowering`.
    Raises ModelError for input that cannot be used, ConversionError when the process fails, dies or takes longer than
    timeout_s.
    """
    if not program and find_spec("tensorflow") is None:
        raise UsageError("no TensorFlow here: `make convert` brings it and runs with it")
    with tempfile.TemporaryDirectory(prefix="footfall-convert-") as folder:
        paths = {name: Path(folder, name) for name in ("outcome", "complaint", "job", "stderr")}
        text = json.dumps(job | {name: str(paths[name]) for name in ("outcome", "complaint")})
        paths["job"].write_text(text, encoding="utf-8")
        program = program or lasting_as_long_as_this("converter.lowering")
        code = _run([sys.executable, *program, str(paths["job"])], paths["stderr"], str(job["model"]), timeout_s)
        if code:
            _complain(str(job["model"]), code, paths)
        yield paths["outcome"]


def lasting_as_long_as_this(module: str) -> tuple[str, ...]:
    """Return the arguments of Python that run a module which ends with this process, however that ends."""
    return ("-m", "converter.start", str(os.getpid()), module)


def _run(command: list[str], complaints: Path, model: str, timeout_s: float) -> int:
    began_s = time.monotonic()
    with (
        complaints.open("wb") as stderr,
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=stderr) as child,
    ):
        timer = threading.Timer(timeout_s, child.kill)
        timer.start()
        try:
            assert child.stdout is not None
            _show(child.stdout, began_s)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            timer.cancel()
    if code == -signal.SIGKILL and time.monotonic() - began_s >= timeout_s:
        late = f"the conversion took more than {timeout_s:g} s and was ended; --timeout allows more"
        raise ConversionError(f"{model}: {late}")
    return code


def environment() -> dict[str, str]:
    """Return the surroundings for a process of this project: it finds the same packages and keeps TensorFlow quiet."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    quiet |= {"PYTHONHASHSEED": "0", "KERAS_BACKEND": "tensorflow"}
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    return {**os.environ, **quiet, "PYTHONPATH": paths}


def _show(stdout: Any, began_s: float) -> None:
    """Say on a terminal what the process is doing; silent elsewhere."""
    terminal = sys.stderr.isatty()
    for line in chain([f"{PHASE}starting TensorFlow".encode()], stdout):
        text = line.decode(errors="replace").rstrip()
        if terminal and text.startswith(PHASE):
            seconds = time.monotonic() - began_s
            sys.stderr.write(f"\r\033[K{seconds:4.0f} s  {text.removeprefix(PHASE)} …")
            sys.stderr.flush()
    if terminal:
        sys.stderr.write("\r\033[K")


def _complain(model: str, code: int, paths: dict[str, Path]) -> None:
    complaint = paths["complaint"]
    if complaint.exists():
        text = complaint.read_text(encoding="utf-8")
        if code == BAD_INPUT:
            raise ModelError(text)
        raise ConversionError(f"{model}: the conversion failed: {text}")
    how = _signal_name(-code) if code < 0 else f"exit code {code}"
    said = last_words(paths["stderr"].read_text(encoding="utf-8", errors="replace"))
    raise ConversionError(f"{model}: the TensorFlow converter died ({how}): {said}; {_advice(code)}")


def last_words(stderr: str) -> str:
    """Return the last line that is no log of TensorFlow or oneDNN, which say nothing about a death."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not LOG.match(line)]
    return lines[-1][:200] if lines else "it said nothing"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _advice(code: int) -> str:
    if code == -signal.SIGKILL:
        return "something ended it, perhaps for want of memory: close other programs, or use a smaller model"
    if code in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL):
        return (
            "it crashed: run it once more, then make the converter's environment anew (a damaged package does this); "
            "if it stays, leave layers out of the model one by one to find the one that it cannot take"
        )
    return "leave layers out of the model one by one to find the one that it cannot take"
