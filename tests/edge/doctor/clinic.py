"""`footfall doctor` as a user runs it: the real command, on a machine that the test arranges."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Visit:
    """What doctor found."""

    status: int
    findings: list[dict[str, str]]
    summary: dict[str, int]
    stderr: str

    def of(self, area: str, level: str | None = None) -> list[dict[str, str]]:
        return [one for one in self.findings if one["area"] == area and level in (None, one["level"])]

    def the(self, area: str, level: str) -> dict[str, str]:
        """Return the only finding of that area and level."""
        (one,) = self.of(area, level)
        return one

    def texts(self, area: str, level: str | None = None) -> str:
        return "\n".join(one["text"] for one in self.of(area, level))


def footfall(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
    environment = inherited | {"PYTHONPATH": str(ROOT)} | environ
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=environment,
        check=False,
    )


def visit(folder: Path, *, seconds: float = 0.0, **sections: Any) -> Visit:
    """Run doctor with a config of these sections; the outbox lies in the folder."""
    settings = {"device": {"id": "t1"}, "outbox": {"path": str(folder / "outbox.db")}} | sections
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = footfall("doctor", "--config", config, "--json", "--seconds", seconds)
    assert "Traceback" not in done.stderr, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows, done.stderr
    result = Visit(done.returncode, rows[:-1], rows[-1]["summary"], done.stderr)
    assert not [one for one in result.findings if "itself failed" in one["text"]], result.findings
    assert result.status == (1 if result.summary["fail"] else 0)
    return result
