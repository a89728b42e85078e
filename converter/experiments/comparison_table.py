"""The comparison's results as tables for a decision record."""

from __future__ import annotations

from typing import Any

import numpy as np

SPLITS = ("held_out", "test")


def table(results: dict[str, Any]) -> str:
    """Return one row per condition: the mean over its seeds, and half the range between them."""
    columns = {
        "F1@.25": lambda r, s: 100 * r[s]["int8"]["f1_250ms"],
        "F1@.10": lambda r, s: 100 * r[s]["int8"]["f1_100ms"],
        "false/h": lambda r, s: r[s]["int8"]["false_steps_per_hour"],
        "own threshold": lambda r, s: r[s]["int8_own_threshold"]["threshold"],
        "own F1@.25": lambda r, s: 100 * r[s]["int8_own_threshold"]["f1_250ms"],
        "own F1@.10": lambda r, s: 100 * r[s]["int8_own_threshold"]["f1_100ms"],
        "own false/h": lambda r, s: r[s]["int8_own_threshold"]["false_steps_per_hour"],
        "int8−float F1@.25": lambda r, s: 100 * (r[s]["int8"]["f1_250ms"] - r[s]["float"]["f1_250ms"]),
        "|Δ| mean ‰": lambda r, s: 1000 * r[s]["int8_minus_float"]["mean"],
        "|Δ| max ‰": lambda r, s: 1000 * r[s]["int8_minus_float"]["max"],
        "flips ‰": lambda r, s: 1000 * r[s]["int8_minus_float"]["flips"],
    }
    files = {
        "bytes": lambda r, _: r["bytes"],
        "gzip": lambda r, _: r["gzip_bytes"],
        "µs": lambda r, _: r["microseconds"],
    }
    parts = [_part(results, split, columns) for split in SPLITS] + [_part(results, "files", files)]
    return "\n\n".join(parts)


def _part(results: dict[str, Any], split: str, columns: dict[str, Any]) -> str:
    lines = [f"| {split} | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in dict.fromkeys(run.split(".")[0] for run in results):
        runs = [result for run, result in results.items() if run.split(".")[0] == name]
        cells = [_cell([value(run, split) for run in runs]) for value in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    mean, spread = float(np.mean(values)), float(np.ptp(values)) / 2
    digits = 0 if abs(mean) >= 1000 else 2
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(values) > 1 else "")
