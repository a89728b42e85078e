"""One door to the TFLite runtimes: ai-edge-litert first, tflite-runtime where that does not exist."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

from edge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIMES = ("ai_edge_litert", "tflite_runtime")


def open_interpreter(flatbuffer: bytes) -> tuple[Any, str]:
    """Return an allocated single-threaded interpreter and the name of the runtime it comes from.

    A runtime counts as present only if it can construct an Interpreter: tflite-runtime imports under numpy 2 and
    then dies here. Raises ModelError when no runtime works or none can load this model.
    """
    problems = []
    for name in RUNTIMES:
        try:
            module = _import_interpreter(name)
        except ImportError as error:
            problems.append(f"{name}: {error}")
            continue
        try:
            with _quiet_stderr():
                interpreter = module.Interpreter(model_content=flatbuffer, num_threads=1)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError, ImportError, AttributeError) as error:
            problems.append(f"{name}: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}")
            continue
        return interpreter, name
    raise ModelError(
        f"no TFLite runtime could load it ({'; '.join(problems)}); "
        "install one with `pip install ai-edge-litert` (tflite-runtime also needs `numpy<2`)"
    )


def _import_interpreter(package: str) -> Any:
    """Import the module with the Interpreter, without the package's `__init__` where that can be spared.

    ai-edge-litert's loads libLiteRt.so, 2 MB of memory, for an API that the Interpreter has no part in.
    """
    if package not in sys.modules and (spec := find_spec(package)) is not None:
        sys.modules[package] = module_from_spec(spec)
        try:
            return import_module(f"{package}.interpreter")
        except ImportError:  # a version that cannot do without
            del sys.modules[package]
    return import_module(f"{package}.interpreter")


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep the runtime's C++ greeting off the terminal; its real errors arrive as exceptions."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:  # noqa: PTH123 - a device, not a path
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
