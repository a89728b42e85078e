"""The scorer agrees with an optimal matcher, with figures worked out by hand, and with the reference script."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.evaluate import evaluate, render_json, render_table
from edge.recording import Recording, load
from edge.scoring import (
    ScoredRecording,
    best_offset_s,
    bout_edges,
    false_steps,
    is_inside,
    matched_pairs,
    score,
)

CONTRACT_KEYS = {
    *("dataset", "recordings", "hours", "true_steps", "predicted_steps"),
    *("f1_250ms", "f1_100ms", "precision_250ms", "recall_250ms"),
    *("count_mape_percent", "count_bias_percent", "false_steps_per_hour", "non_walking_hours"),
}

times = st.lists(st.integers(0, 60), max_size=7).map(lambda ticks: np.sort(np.array(ticks) * 0.05))


def scored(true: Any, predicted: Any, **changes: Any) -> ScoredRecording:
    values: dict[str, Any] = {
        "dataset": "set",
        "subject": "s1",
        "name": "r1",
        "duration_s": 60.0,
        "steps_known": "all",
    } | changes
    return ScoredRecording(**values, true_s=np.asarray(true, float), predicted_s=np.asarray(predicted, float))


def most_pairs(true: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], tolerance_s: float) -> int:
    """Return the size of the maximum matching by augmenting paths, which knows nothing of time order."""
    partner: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for j in np.flatnonzero(np.abs(predicted - true[i]) <= tolerance_s + 1e-9).tolist():
            if j not in tried:
                tried.add(j)
                if j not in partner or place(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(true)))


@settings(max_examples=400, deadline=None)
@given(true=times, predicted=times, tolerance_s=st.sampled_from([0.0, 0.1, 0.25, 0.5]))
def test_matching_is_optimal_one_to_one_and_within_tolerance(
    true: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], tolerance_s: float
) -> None:
    pairs = matched_pairs(true, predicted, tolerance_s)
    assert len(pairs) == most_pairs(true, predicted, tolerance_s)
    assert all(abs(true[i] - predicted[j]) <= tolerance_s + 1e-9 for i, j in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(pairs))


@given(offset=st.integers(-20, 20))
def test_a_constant_lag_is_found(offset: int) -> None:
    true = np.arange(1, 50) * 0.57
    assert best_offset_s([scored(true, true - 0.02 * offset)]) == pytest.approx(0.02 * offset, abs=0.101)
    far = [scored(true, true - 0.02 * offset + jitter) for jitter in (-0.1, 0.1)]
    assert best_offset_s(far) == pytest.approx(0.02 * offset, abs=1e-9)


def test_the_offset_of_a_person_comes_from_the_others() -> None:
    true = np.arange(1, 50) * 0.57
    late = [scored(true, true + 0.24, subject=s) for s in ("a", "b")]
    odd = scored(true, true, subject="c")
    row = score([*late, odd])["datasets"][0]
    assert row["f1_250ms"] == 1.0
    # c is judged by two late people, which makes their steps 0.14 s early at least: not found at 0.1 s.
    assert row["f1_100ms"] < 1.0
    assert score([odd])["datasets"][0]["offset_s"] == pytest.approx(0.0)
    assert score(late)["datasets"][0]["f1_100ms"] == 1.0


def test_figures_worked_out_by_hand() -> None:
    true = [10.0, 10.5, 11.0, 11.5, 30.0, 30.5]
    predicted = [10.05, 10.5, 11.24, 20.0, 25.0, 30.0]
    row = score([scored(true, predicted)])["datasets"][0]
    assert row["f1_250ms"] == pytest.approx(2 * 4 / 12)
    assert row["f1_100ms"] == pytest.approx(2 * 3 / 12)
    assert row["precision_250ms"] == row["recall_250ms"] == pytest.approx(4 / 6)
    assert row["count_mape_percent"] == row["count_bias_percent"] == 0.0
    # Quiet are 0..8, 13.5..28 and 32.5..60 s; 20 and 25 lie there.
    assert row["non_walking_hours"] == pytest.approx((8 + 14.5 + 27.5) / 3600)
    assert row["false_steps_per_hour"] == pytest.approx(2 / (50 / 3600))
    assert (row["first_step_recall_250ms"], row["last_step_recall_250ms"]) == (1.0, 0.0)
    assert row["timing_bias_s"] == pytest.approx(0.29 / 4)


def test_counts_keep_their_sign_and_total_spans_the_sets() -> None:
    walk = np.arange(100) * 0.5 + 5
    report = score(
        [
            scored(walk, walk[:90], name="short"),
            scored(walk, np.concatenate([walk, walk[:4] + 0.01]), dataset="other"),
            scored([], [1.0, 2.0], dataset="desk", steps_known="zero", duration_s=3600.0),
        ]
    )
    by_name = {row["dataset"]: row for row in report["datasets"]}
    assert list(by_name) == ["desk", "other", "set"]
    assert by_name["set"]["count_bias_percent"] == -10.0
    assert by_name["set"]["worst_recording"] == "short"
    assert by_name["other"]["count_bias_percent"] == 4.0
    assert by_name["desk"]["false_steps_per_hour"] == 2.0
    assert by_name["desk"]["count_mape_percent"] is None
    total = report["total"]
    assert (total["count_mape_percent"], total["count_bias_percent"]) == (7.0, -3.0)
    assert (total["recordings"], total["true_steps"], total["predicted_steps"]) == (3, 200, 196)
    assert total["worst_count_error_percent"] == -10.0


def test_perfect_and_empty_predictions() -> None:
    walk = np.arange(20) * 0.5 + 5
    perfect, blind = (score([scored(walk, p)])["total"] for p in (walk, walk[:0]))
    assert (perfect["f1_100ms"], perfect["precision_250ms"], perfect["false_steps_per_hour"]) == (1.0, 1.0, 0.0)
    assert (blind["f1_100ms"], blind["precision_250ms"], blind["recall_250ms"]) == (0.0, None, 0.0)
    assert score([])["datasets"] == []


def test_small_parts() -> None:
    inside = is_inside(np.array([0.6, 0.7, 2.0, 5.3, 9.0]), np.array([[1.0, 3.0], [5.0, 5.1]]))
    assert inside.tolist() == [False, True, True, True, False]
    assert false_steps(np.empty(0), np.array([0.0, 10.0]), 9.0) == (1, 9 / 3600)
    assert false_steps(np.array([5.0]), np.array([3.1, 6.9]), 10.0)[0] == 0
    first, last = bout_edges(np.array([1.0, 1.5, 2.0, 8.0, 8.5]))
    assert (first.tolist(), last.tolist()) == ([0, 3], [2, 4])


def labelled(steps_known: str, **changes: Any) -> Recording:
    values: dict[str, Any] = {
        "name": steps_known,
        "time_s": np.arange(6000) / 100,
        "imu": np.zeros((6000, 6), np.float32),
    }
    values |= {"sampling_rate_hz": 100.0, "steps": np.arange(20) + 10.0, "steps_known": steps_known, "dataset": "walks"}
    return Recording(**(values | changes))


def test_the_report_of_recordings() -> None:
    bouts = labelled("bouts", label_intervals=np.array([[10.0, 29.0]]), subject="s2")
    unknown = [labelled(known) for known in ("quasi", "none", "count", "none")]
    predicted = [5.0, *np.arange(10.0, 30.0)]
    report = evaluate([(recording, predicted) for recording in (labelled("all"), bouts, *unknown)])
    row = report["datasets"][0]
    assert set(row) >= CONTRACT_KEYS
    assert set(row) == set(report["total"])
    assert (row["dataset"], row["recordings"], row["true_steps"], row["predicted_steps"]) == ("walks", 2, 40, 41)
    assert row["non_walking_hours"] == pytest.approx((8 + 29) / 3600), "outside its bouts nothing is known"
    assert json.loads(render_json(report)) == report
    table = render_table(report)
    assert "2 with steps_known=none" in table
    assert "98.77" in table
    assert evaluate([(labelled("all", dataset=""), [])])["datasets"][0]["dataset"] == "(unnamed)"


def test_the_table_is_aligned_and_shows_no_figure_without_meaning() -> None:
    desk = labelled("zero", steps=np.empty(0), dataset="a desk with a long name")
    lines = render_table(evaluate([(labelled("all"), np.arange(10.0, 30.0)), (desk, np.array([3.0]))])).splitlines()
    head, desk_line, walks, total = lines[:4]
    assert len({len(line) for line in lines[:4]}) == 1
    end = head.index("F1@.25 %") + len("F1@.25 %")
    assert [line[:end].split()[-1] for line in (desk_line, walks, total)] == ["–", "100.00", "97.56"]


def reference(predictions: list[dict[str, Any]], recordings_dir: Path, tmp_path: Path) -> dict[str, list[str]]:
    script = recordings_dir.parents[1] / "tools" / "score.py"
    if not script.exists():
        pytest.skip("no reference scorer beside the recordings")
    lines = tmp_path / "predictions.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in predictions))
    command = [sys.executable, str(script), str(lines), str(recordings_dir)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.split()[0]: line.split()[1:] for line in output.splitlines()[1:]}


def reference_row(row: dict[str, Any]) -> list[str]:
    """Write a row as the reference script prints it."""

    def text(key: str, factor: float, decimals: int) -> str:
        return "nan" if row[key] is None else f"{factor * row[key]:.{decimals}f}"

    return [
        *(str(row[key]) for key in ("recordings", "true_steps", "predicted_steps")),
        *(text(f"f1_{ms}ms", 100, 2) for ms in (100, 250, 500)),
        text("worst_f1_250ms", 100, 1),
        text("count_mape_percent", 1, 2),
        text("count_bias_percent", 1, 2),
        text("false_steps_per_hour", 1, 1),
        text("non_walking_hours", 1, 2),
    ]


@pytest.mark.data
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_the_reference_on_real_recordings(recordings_dir: Path, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folders = {
        "awinda_hand": 15,
        "ipol_gait": 40,
        "oxford_val": 12,
        "wisdm_watch": 15,
        "spsw_watch": 3,
        "sisfall_waist": 40,
    }
    predictions, results = [], []
    for folder, count in folders.items():
        for path in rng.permutation(sorted((recordings_dir / folder).glob("*.npz")))[:count]:
            recording = load(Path(path))
            steps = np.empty(0) if recording.steps is None else recording.steps
            found = steps[rng.random(len(steps)) < 0.9] + rng.normal(0.07, 0.12, 1)
            found = found + rng.normal(0, 0.07, len(found))
            extra = rng.uniform(0, recording.duration_s, rng.poisson(0.05 * recording.duration_s))
            predicted = rng.permutation(np.concatenate([found, extra]))
            predictions.append({"file": f"{folder}/{Path(path).name}", "steps": predicted.tolist()})
            results.append((recording, predicted))
    expected = reference(predictions, recordings_dir, tmp_path)
    report = evaluate(results)
    assert {row["dataset"]: reference_row(row) for row in report["datasets"]} == expected
    assert len(expected) == 5
    assert report["not_scored"]["none"] == 3
