"""The report: the same figures for people and for programs, each with its command, and no path of this machine."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converter.proofs import Proof
from converter.report import markdown, rendered
from tests.converter.conftest import ROOT

DIFFERENCE = {"frames": 100, "mean": 0.004, "largest": 0.03, "disagreement": 0.02, "histogram": [0, 100]}
VARIANT = {
    "label": "int8: integers",
    "sha256": "ab" * 32,
    "size_bytes": 34608,
    "float_tensors": [],
    "custom_operators": [],
    "operators": {"CONV_2D v3": 7},
    "stored_numbers": {"INT32": 145, "INT8": 14929},
    "macs": 1_266_096,
    "live_bytes": 9280,
    "input": {"acc_x": {"low": -39.0, "high": 39.4, "resolution": 0.3}},
    "against_keras": DIFFERENCE,
    "outputs": {"probability": DIFFERENCE},
}
ROW = {
    "true_steps": 4107,
    "f1_250ms": 0.989,
    "f1_100ms": 0.929,
    "precision_250ms": 0.99,
    "recall_250ms": 0.98,
    "count_mape_percent": 1.7,
    "false_steps_per_hour": 31.0,
    "non_walking_hours": 0.5,
    "frame_accuracy": 0.998,
    "datasets": {"oxford_val": {"true_steps": 4107, "f1_250ms": 0.989, "false_steps_per_hour": None}},
}
NOTHING = ROW | {"f1_250ms": 0.0, "precision_250ms": None, "frame_accuracy": 0.93189}
STEPS = {
    "recordings": 12,
    "left_out_because_trained_on": 442,
    "allowed_f1_loss": 0.005,
    "rows": {"Keras float32": ROW, "int8": ROW, "always 'no step'": NOTHING},
}
LOADED = {
    "name": "ai-edge-litert-2.3.0",
    "tested": True,
    "loads": True,
    "self_test_passes": True,
    "self_test_off_lsb": 0,
    "answers": 515,
    "other_answers": 0,
    "largest_difference": 0,
    "invoke_us": 7.4,
    "peak_rss_bytes": 45_000_000,
}
MODEL = {
    "name": "step 0.1.0",
    "keras_file": "step.keras",
    "keras_sha256": "cd" * 32,
    "calibration_sha256": "ef" * 32,
    "converter_versions": {"keras": "3.15.1"},
    "parameters": 15073,
    "sampling_rate_hz": 25.0,
    "window_samples": 135,
    "hop_samples": 5,
    "lookahead_samples": 5,
    "channels": ["acc_x"],
    "output": "per_sample_probability",
    "threshold": 0.6,
    "calibration": {"windows": 200},
}
LAYER = {"name": "stem", "operator": "CONV_2D", "low": 0, "high": 7, "seen_low": 0, "seen_high": 7, "saturated": 0.0125}


def proof_of(
    *,
    steps: Any = STEPS,
    runtimes: Any = (LOADED,),
    objections: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Proof:
    facts = {
        "schema": 1,
        "deterministic": {"model": MODEL, "variants": {"int8": VARIANT}, "layers": [LAYER], "steps": steps},
        "measured": {
            "machine": "x86_64, Python 3.11.7",
            "runtimes": {"int8": list(runtimes)},
            "oldest_runtime": {"int8": "ai-edge-litert-2.3.0"},
        },
        "objections": list(objections),
    }
    return Proof(facts, list(objections), {"walk": b"\x89PNG walk"}, list(warnings))


def text_of(proof: Proof, command: str = "") -> str:
    return markdown(Path("models/mine.tflite"), proof, command)


def test_the_command_is_the_one_that_was_given() -> None:
    text = text_of(proof_of(), "make convert MODEL=mine.keras ARGS='--window=48'")
    assert text.count("From: `make convert MODEL=mine.keras ARGS='--window=48'`") == 4


def test_every_section_names_its_command() -> None:
    sections = re.split(r"\n## ", text_of(proof_of()))
    assert len(sections) == 7
    for section in sections:
        assert "\nFrom: `" in section, section[:40]


def test_the_commands_it_names_exist() -> None:
    commands = set(re.findall(r"`((?:make|footfall|footfall-convert|python -m) [^`]+)`", text_of(proof_of())))
    assert {command.split()[0] for command in commands} == {"make", "footfall", "footfall-convert", "python"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile, command
        if words[0] == "python":
            assert (ROOT / Path(*words[2].split("."))).with_suffix(".py").is_file(), command


def test_figures_are_those_of_the_facts() -> None:
    text = text_of(proof_of())
    for figure in (
        "34,608",
        "14,929 int8",
        "1,266,096",
        "98.90",
        "93.19 %",
        "2.00 %",
        "stem, 1.2 %",
        "442 left out",
        "7.4",
        "45 MB",
    ):
        assert figure in text, figure
    assert "**Accepted**" in text


def test_objections_stand_at_the_top() -> None:
    text = text_of(proof_of(objections=("int8 loses 13 points",)))
    assert text.index("- int8 loses 13 points") < text.index("| model |")
    assert "Accepted" not in text


def test_a_file_that_was_not_scored_on_steps_is_not_called_more_than_it_is() -> None:
    assert "**Accepted**: every proof below holds" in text_of(proof_of())
    verdict = text_of(proof_of(steps=None)).splitlines()[2]
    assert verdict == "**Accepted** on its calibration windows; not scored on steps (give EVALUATE=…)."


def test_warnings_stand_at_the_top() -> None:
    text = text_of(proof_of(warnings=("the calibration set is small",)))
    assert text.index("- the calibration set is small") < text.index("| model |")


def test_what_was_not_tested_is_said_and_not_passed() -> None:
    absent = {"name": "tflite-runtime-2.14.0", "tested": False, "loads": False, "problem": "no python3.11"}
    (line,) = (line for line in text_of(proof_of(runtimes=(absent,))).splitlines() if "tflite-runtime" in line)
    assert "not tested: no python3.11" in line
    assert "yes" not in line
    assert "passes" not in line
    assert "Not tested: no labelled recordings" in text_of(proof_of(steps=None))


def test_a_float_variant_is_called_one() -> None:
    proof = proof_of()
    other = VARIANT | {"label": "not integer: float16 weights", "float_tensors": ["conv_weights"], "input": None}
    proof.facts["deterministic"]["variants"] = {"int8": VARIANT, "float16": other}
    (line,) = (line for line in text_of(proof).splitlines() if line.startswith("| float16 | not integer"))
    assert "`conv_weights`" in line
    assert "accepts int8 only" in text_of(proof)


def test_every_file_of_the_report_is_rendered() -> None:
    proof = proof_of()
    files = rendered(Path("somewhere/mine.tflite"), proof)
    assert set(files) == {"mine.report-walk.png", "mine.report.json", "mine.report.md"}
    assert files["mine.report-walk.png"] == b"\x89PNG walk"
    assert json.loads(files["mine.report.json"]) == proof.facts
    text = files["mine.report.md"].decode()
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text) == ["mine.report-walk.png"]
    assert "somewhere" not in text


def test_a_number_that_is_none_is_refused() -> None:
    proof = proof_of()
    proof.facts["measured"]["machine"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        rendered(Path("mine.tflite"), replace(proof, pictures={}))
