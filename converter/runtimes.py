"""Every runtime a converted file must load in, each in an environment of its own under `build/runtimes`.

They are made on demand with pip and kept. What cannot be made here is reported as not tested, with the reason, and
never as passed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "runtimes"
PROBE = Path(__file__).with_name("probe.py")
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
PIP_TIMEOUT_S = 300
RUN_TIMEOUT_S = 300
REPEAT = 500
"""Timed invokes; their median moves by less than 5 % between runs on an idle machine."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What to install, oldest runtime first. pythons: programs that can host it, the first found is taken."""

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[str, ...]


ENVIRONMENTS = (
    # numpy 2 lets tflite-runtime import and then kills it at Interpreter() (design, toolchain).
    Environment("tflite-runtime-2.14.0", ("tflite-runtime==2.14.0", "numpy<2"), ("python3.11", "python3.10")),
    Environment("ai-edge-litert-1.2.0", ("ai-edge-litert==1.2.0",), ("python3.11", "python3.12")),
    Environment("ai-edge-litert-2.3.0", ("ai-edge-litert==2.3.0",), ("python3.11", "python3.12", "python3.13")),
)


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: inputs [n, …] of the main input's dtype; resets [n]: where a streaming model starts afresh.

    state: (input, output) names of tensors that are fed back. reference: plain kernels instead of fast ones.
    """

    flatbuffer: bytes
    inputs: Array
    resets: Array
    state: tuple[tuple[str, str], ...] = ()
    repeat: int = REPEAT
    reference: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """What a runtime did. problem: why it was not tested, or did not load the file; then there are no outputs.

    tested: False when the environment could not be made; a file that does not load was tested, and failed.
    """

    name: str
    tested: bool
    problem: str | None = None
    outputs: Array | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def loads(self) -> bool:
        """Whether it loaded the file and answered."""
        return self.outputs is not None


def probe_all(job: Job, environments: Sequence[Environment] = ENVIRONMENTS) -> list[Probed]:
    """Run the job in every environment, oldest runtime first."""
    return [probe_in(environment, job) for environment in environments]


def probe_in(environment: Environment, job: Job) -> Probed:
    """Run the job in one environment, making it first if need be."""
    python = made(environment)
    if isinstance(python, str):
        return Probed(environment.name, tested=False, problem=python)
    return probe((str(python),), job, name=environment.name)


def made(environment: Environment, folder: Path = FOLDER) -> Path | str:
    """Return the environment's Python, or the reason why there is none."""
    home = folder / environment.name
    python, stamp = home / "bin" / "python", home / ".complete"
    wanted = "\n".join(environment.requirements)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
        return python
    base = next((found for name in environment.pythons if (found := _working(name))), None)
    if base is None:
        return f"no {' or '.join(environment.pythons)} on this machine"
    print(f"making {_short(home)}: {', '.join(environment.requirements)}", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    for command in ([base, "-m", "venv", str(home)], [str(python), *PIP, *environment.requirements]):
        problem = _complaint(command)
        if problem is not None:
            shutil.rmtree(home, ignore_errors=True)
            return problem
    stamp.write_text(wanted, encoding="utf-8")
    return python


def probe(python: Sequence[str], job: Job, *, name: str, timeout_s: float = RUN_TIMEOUT_S) -> Probed:
    """Run the job with a given Python (a command, so that an emulator may come first)."""
    with tempfile.TemporaryDirectory(prefix="footfall-probe-") as folder:
        paths = {key: Path(folder, f"{key}.npz") for key in ("inputs", "outputs")} | {"model": Path(folder, "m.tflite")}
        paths["model"].write_bytes(job.flatbuffer)
        np.savez(paths["inputs"], inputs=job.inputs, resets=job.resets)
        order = {key: str(path) for key, path in paths.items()}
        order |= {"state": job.state, "repeat": job.repeat, "reference": job.reference}  # type: ignore[dict-item]
        command = [*python, str(PROBE), json.dumps(order)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, check=False, env=_clean_environment()
            )
        except subprocess.TimeoutExpired:
            return Probed(name, tested=True, problem=f"took more than {timeout_s:g} s")
        if done.returncode:
            return Probed(name, tested=True, problem=_why(done))
        with np.load(paths["outputs"]) as found:
            outputs = found["outputs"]
        return Probed(name, tested=True, outputs=outputs, facts=json.loads(done.stdout.splitlines()[-1]))


def _working(name: str) -> str | None:
    """Return the program if it starts: a version manager's shim may stand for a Python that is not there."""
    found = shutil.which(name)
    if found is None or _complaint([found, "-c", "import venv, ensurepip"]) is not None:
        return None
    return found


def _complaint(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False, env=_clean_environment()
        )
    except subprocess.TimeoutExpired:
        return f"took more than {PIP_TIMEOUT_S} s: {' '.join(command[-3:])}"
    return _why(done) if done.returncode else None


def _why(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "it said nothing"
    if done.returncode < 0:
        return f"died of {signal.Signals(-done.returncode).name}: {last}"
    return last[:300]


def _clean_environment() -> dict[str, str]:
    """Return the surroundings without this project's packages, which would shadow those of the environment."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
