"""The report beside a converted model, for people (`.report.md`) and for programs (`.report.json`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write_report(output: Path, facts: dict[str, Any]) -> None:
    """Write NAME.report.json and NAME.report.md; the same facts in both, nothing that changes between runs."""
    output.with_suffix(".report.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    output.with_suffix(".report.md").write_text(_markdown(output.name, facts), encoding="utf-8")


def _markdown(name: str, facts: dict[str, Any]) -> str:
    lines = [f"# {name}", "", "| | |", "|---|---|"]
    lines += [f"| {key.replace('_', ' ')} | {_cell(value)} |" for key, value in facts.items()]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_cell(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
