"""Runs a function of this repository inside a User-Mode-Linux (scripts/uml-kernel) and returns what it returned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "uml"
MEMORY = "384M"
SIMULATED = "time-travel=inf-cpu"
"""Time passes only while all processes sleep, so that a busy host makes a run longer, never different."""
WALL_CLOCK_START_S = 1_800_000_000


def built() -> bool:
    """Whether scripts/uml-kernel has finished."""
    return (BUILD / ".complete").exists()


@dataclass(frozen=True, slots=True)
class Run:
    """What came out. result: what the function returned; kernel_log: what the kernel printed."""

    result: Any
    kernel_log: str


def run(
    function: Callable[..., object],
    directory: Path,
    *,
    timeout_s: float,
    **arguments: object,
) -> Run:
    """Boot, call function(**arguments) there, power off.

    directory: an empty one of the host, /mnt/job inside; time in there is SIMULATED.
    arguments and result: JSON. Raises RuntimeError with both logs if the function raised or the kernel did not finish.
    """
    job = {"module": function.__module__, "function": function.__name__, "arguments": arguments}
    (directory / "job.json").write_text(json.dumps(job), encoding="utf-8")
    tree = directory / "sensors.dtb"
    source = ROOT / "tests" / "uml" / "sensors.dts"
    subprocess.run([BUILD / "dtc", "-q", "-I", "dts", "-O", "dtb", "-o", tree, source], check=True)
    command = [
        str(BUILD / "linux"),
        f"mem={MEMORY}",
        "root=/dev/root",
        "rootfstype=hostfs",
        "ro",
        "loglevel=8",
        SIMULATED,
        f"time-travel-start={WALL_CLOCK_START_S * 10**9}",
        f"dtb={tree}",
        f"uml_dir={directory}/",
        f"init={sys.executable}",
        f"FOOTFALL_JOB={directory}",
        f"PYTHONPATH={ROOT}",
        "PYTHONDONTWRITEBYTECODE=1",
        "OMP_NUM_THREADS=1",
        "--",
        "-m",
        "tests.uml.guest",
    ]
    log = directory / "kernel.log"
    with log.open("wb") as output:
        # A session of its own: User-Mode-Linux is several host processes, which end together.
        machine = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(directory)},
        )
        try:
            machine.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
    kernel_log = log.read_text(encoding="utf-8", errors="replace")
    return Run(_result(directory, kernel_log), kernel_log)


def _result(directory: Path, kernel_log: str) -> object:
    answer = directory / "result.json"
    console = directory / "console"
    told = console.read_text(encoding="utf-8", errors="replace") if console.exists() else ""
    if not answer.exists():
        raise RuntimeError(f"the User-Mode-Linux did not finish:\n{kernel_log[-4000:]}\n{told[-4000:]}")
    found = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        raise RuntimeError(f"{found['error']}\n{kernel_log[-3000:]}\n{told[-3000:]}")
    return found["result"]
