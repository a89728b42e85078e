"""Runs a model in whatever runtime its Python has: inputs from an .npz, answers to another, facts as JSON on stdout.

Started by path in foreign environments (converter.runtimes), so it imports the standard library, numpy and the runtime,
and nothing of this project. The job, JSON on the command line: model, inputs, outputs (paths), state (pairs of tensor
names), repeat (timed invokes), reference (plain kernels instead of the runtime's fast ones).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import statistics
import sys
import time
from typing import Any

import numpy as np

PACKAGES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
LONGEST_S = 1.0
"""Timing stops here, however large the model."""


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Load, run every input, time the last one; returns the facts."""
    name, module = _runtime()
    began_s = time.perf_counter()
    interpreter = _interpreter(module, job)
    load_ms = 1000 * (time.perf_counter() - began_s)
    with np.load(job["inputs"]) as given:
        inputs, resets = given["inputs"], given["resets"]
    np.savez(job["outputs"], outputs=run(interpreter, inputs, resets, job["state"]))
    return {
        "runtime": f"{PACKAGES[name]} {importlib.metadata.version(PACKAGES[name])}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "load_ms": round(load_ms, 2),
        "invoke_us": round(_median_us(interpreter, job["repeat"]), 1),
        "peak_rss_bytes": _peak_rss_bytes(),
    }


def run(interpreter: Any, inputs: Any, resets: Any, state: list[list[str]]) -> Any:
    """Answers [n, …] to inputs [n, …]; the state tensors are fed back, and zeroed where `resets` is true."""
    fed = {pair[0]: pair[1] for pair in state}
    details = {detail["name"]: detail for detail in interpreter.get_input_details()}
    answers = {detail["name"]: detail for detail in interpreter.get_output_details()}
    (main_input,) = (detail for name, detail in details.items() if name not in fed)
    (main_output,) = (detail for name, detail in answers.items() if name not in fed.values())
    outputs: list[Any] = []
    for given, reset in zip(inputs, resets, strict=True):
        for source, target in fed.items():
            start = np.full(details[source]["shape"], details[source]["quantization"][1], details[source]["dtype"])
            value = start if reset or not outputs else interpreter.get_tensor(answers[target]["index"])
            interpreter.set_tensor(details[source]["index"], value)
        interpreter.set_tensor(main_input["index"], given.reshape(main_input["shape"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(main_output["index"]).copy())
    return np.stack(outputs)


def _runtime() -> tuple[str, Any]:
    for name in PACKAGES:
        try:
            return name, importlib.import_module(f"{name}.interpreter")
        except ImportError:
            continue
    raise SystemExit("no TFLite runtime in this environment")


def _interpreter(module: Any, job: dict[str, Any]) -> Any:
    options: dict[str, Any] = {"num_threads": 1}
    if job.get("reference"):
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_REF
    interpreter = module.Interpreter(model_path=job["model"], **options)
    interpreter.allocate_tensors()
    return interpreter


def _median_us(interpreter: Any, repeat: int) -> float:
    interpreter.invoke()
    times_us: list[float] = []
    end_s = time.perf_counter() + LONGEST_S
    while len(times_us) < max(repeat, 1) and (not times_us or time.perf_counter() < end_s):
        began = time.perf_counter_ns()
        interpreter.invoke()
        times_us.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(times_us)


def _peak_rss_bytes() -> int:
    """Of the whole process; not getrusage, whose maximum is inherited from the process that started this one."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - no pathlib: a file of the kernel
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
