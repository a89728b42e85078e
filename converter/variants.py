"""The kinds of file one Keras model can become: fully int8 for the device, others to see what int8 costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

INT8, INT16X8, FLOAT16, DYNAMIC_RANGE = "int8", "int16x8", "float16", "dynamic_range"
VARIANTS = (INT8, INT16X8, FLOAT16, DYNAMIC_RANGE)
"""int16x8: int16 activations, int8 weights. float16: half-precision weights. dynamic_range: int8 weights only."""


def parse_variants(text: str) -> tuple[str, ...]:
    """Return the variants of a comma-separated list, in the order of VARIANTS; raises UsageError for an unknown one."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in VARIANTS]
    if unknown or not wanted:
        raise UsageError(f"--variants is {text!r}; allowed: {', '.join(VARIANTS)}, separated by commas")
    return tuple(name for name in VARIANTS if name in wanted)


def variant_path(output: Path, variant: str) -> Path:
    """Return y.tflite for int8, y.VARIANT.tflite for the others."""
    return output if variant == INT8 else output.with_name(f"{output.stem}.{variant}.tflite")
