"""The tuned parameters, and the six counters that they make."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.baselines.detectors import BandPassPeaks, BoutGate, FirmwareCounter, Gated, WindowedPeaks

if TYPE_CHECKING:
    from converter.baselines.detectors import Detector

FILE = Path(__file__).with_name("parameters.json")
KINDS: dict[str, type[BandPassPeaks | WindowedPeaks | FirmwareCounter]] = {
    "band-pass peaks": BandPassPeaks,
    "Brajdic & Harle": WindowedPeaks,
    "firmware counter": FirmwareCounter,
}


def counters(file: Path = FILE) -> dict[str, Detector]:
    """Return every counter by name, each without and with its bout gate, as tuned."""
    found: dict[str, Detector] = {}
    for name, tuned in json.loads(file.read_text(encoding="utf-8")).items():
        plain = KINDS[name](**tuned["detector"])
        found |= {name: plain, f"{name}, gated": Gated(plain, BoutGate(**tuned["gate"]))}
    return found


def as_json(detector: Any, gate: BoutGate, found: dict[str, float]) -> dict[str, Any]:
    """Return what the file keeps of one kind: its parameters, its gate's, and what they gave on the training people."""
    return {"detector": asdict(detector), "gate": asdict(gate), "training": found}
