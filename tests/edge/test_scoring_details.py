"""The finer figures, worked out by hand: activities, latency, stairs, fast walking, placements and intervals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.evaluate import evaluate, render_table, scored_recording, summary
from edge.recording import Recording
from edge.rotation import random_rotation, rotated
from edge.scoring import ScoredRecording, Span, align, false_steps
from edge.scoring_details import activities_at, details, local_cadence_hz


def scored(true: Any, predicted: Any, **changes: Any) -> ScoredRecording:
    values: dict[str, Any] = {
        "dataset": "set",
        "subject": "s1",
        "name": "r1",
        "duration_s": 60.0,
        "steps_known": "all",
    } | changes
    return ScoredRecording(**values, true_s=np.asarray(true, float), predicted_s=np.asarray(predicted, float))


def recording(**changes: Any) -> Recording:
    values: dict[str, Any] = {
        "name": "r1",
        "time_s": np.arange(6000) / 100,
        "imu": np.full((6000, 6), np.nan, np.float32),
        "sampling_rate_hz": 100.0,
        "steps": np.arange(10.0, 30.0),
        "steps_known": "all",
        "dataset": "walks",
        "subject": "s1",
    }
    return Recording(**(values | changes))


def test_activities_are_told_apart() -> None:
    spans = (Span(0, 20, "walking"), Span(20, 40, "stairs_up"), Span(40, 60, "clapping"))
    true = [10.0, 11.0, 19.0, 21.0, 22.0]
    found = details([scored(true, [10.0, 11.0, 22.0, 30.0, 45.0, 46.0], activities=spans)])
    by_name = {row["activity"]: row for row in found["activities"]}
    assert {name: row["true_steps"] for name, row in by_name.items()} == {"walking": 3, "stairs_up": 2, "clapping": 0}
    assert by_name["walking"]["recall_250ms"] == pytest.approx(2 / 3)
    assert (found["stairs_steps"], found["stairs_recall_250ms"]) == (2, 0.5)
    # Quiet are 0..8, 13..17 and 24..60 s.
    assert by_name["walking"]["non_walking_hours"] == pytest.approx(12 / 3600)
    assert by_name["stairs_up"]["false_steps_per_hour"] == pytest.approx(1 / (16 / 3600))
    assert by_name["clapping"]["false_steps_per_hour"] == pytest.approx(2 / (20 / 3600))


@given(
    true=st.lists(st.integers(0, 600), max_size=5),
    predicted=st.lists(st.integers(0, 600), max_size=8),
    cuts=st.lists(st.integers(1, 599), max_size=3, unique=True),
)
def test_false_steps_by_activity_add_up(true: list[int], predicted: list[int], cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 600]
    spans = tuple(Span(a / 10, b / 10, f"{a}") for a, b in pairwise(edges))
    one = scored(np.sort(true) / 10, np.sort(predicted) / 10, activities=spans)
    count, hours = false_steps(one.true_s, one.predicted_s, one.duration_s)
    rows = details([one])["activities"]
    assert sum(row["false_steps"] for row in rows) == count
    assert sum(row["non_walking_hours"] for row in rows) == pytest.approx(hours)
    assert sum(row["true_steps"] for row in rows) == len(true)


def test_a_recording_that_says_nothing_of_activities() -> None:
    (row,) = details([scored([], [30.0], steps_known="zero")])["activities"]
    assert (row["false_steps"], row["non_walking_hours"]) == (1, pytest.approx(60 / 3600))
    assert activities_at(scored([], []), np.array([1.0])) == [row["activity"]]


def test_spans_come_from_the_codes_of_the_samples() -> None:
    codes = np.repeat([1, 0, 1, 7], [1000, 2000, 2000, 1000])
    spans = scored_recording(recording(activity=codes, activity_names=("walk", "rest")), []).activities
    assert [(s.begin_s, s.end_s, s.activity) for s in spans] == [
        (0.0, 10.0, "rest"),
        (10.0, 30.0, "walk"),
        (30.0, 50.0, "rest"),
        (50.0, 60.0, "activity 7"),
    ]


def test_latency_is_of_live_steps_that_are_right() -> None:
    true = [10.0, 11.0, 12.0, 13.0]
    published = np.array([12.4, 12.4, 12.4, 13.3, 50.9])
    stamps = np.array([*true, 50.0])
    held = np.array([True, True, False, False, False])
    (one,) = align([scored(true, stamps, latency_s=published - stamps, backfilled=held)])["set"]
    found = details([one])
    assert found["latency_p50_s"] == pytest.approx(0.35)
    assert found["latency_p99_s"] == pytest.approx(0.399)
    assert (found["backfilled_steps"], found["backfilled_latency_p50_s"]) == (2, pytest.approx(1.9))
    assert details([scored(true, stamps)])["latency_p50_s"] is None


def test_latency_does_not_depend_on_the_offset_of_the_labels() -> None:
    true = np.arange(10.0, 40.0, 0.5)
    late = scored_recording(recording(steps=true), true + 0.2, true + 0.6)
    row = summary([late])["datasets"][0]
    assert row["offset_s"] != 0
    assert row["latency_p50_s"] == pytest.approx(0.4)


def test_latency_stays_with_its_step_when_some_are_left_out() -> None:
    bouts = recording(steps_known="bouts", label_intervals=np.array([[9.0, 31.0]]))
    one = scored_recording(bouts, [50.0, 12.0, 11.0], [59.0, 12.5, 11.25], [True, False, True])
    assert one.predicted_s.tolist() == [11.0, 12.0]
    assert one.latency_s is not None
    assert one.latency_s.tolist() == [0.25, 0.5]
    assert one.backfilled is not None
    assert one.backfilled.tolist() == [True, False]


def test_fast_walking_is_more_than_three_steps_a_second() -> None:
    run = np.arange(10.0, 14.0, 0.3)
    walk = np.arange(30.0, 40.0, 0.5)
    found = details([scored([*run, *walk], [*run[:7], *walk])])
    assert (found["fast_walking_steps"], found["fast_walking_recall_250ms"]) == (len(run), 7 / len(run))
    doubled = np.sort([*walk, 35.02])
    assert local_cadence_hz(doubled).max() < 3, "one doubled label is no run"
    assert local_cadence_hz(np.array([1.0, 10.0])).tolist() == [0.0, 0.0]


def test_placements_have_rows_of_their_own() -> None:
    walk = np.arange(10.0, 40.0)
    wrist = scored(walk, walk[:15], placement="Wrist", name="a")
    found = details([wrist, scored(walk, walk, placement="wrist", name="b"), scored(walk, walk, placement="hip")])
    rows = {row["placement"]: row for row in found["placements"]}
    assert rows["hip"]["f1_250ms"] == 1.0
    assert (rows["wrist"]["recordings"], rows["wrist"]["f1_250ms"]) == (2, pytest.approx(2 * 45 / 105))


def test_intervals_come_from_the_people() -> None:
    walk = np.arange(10.0, 40.0)
    alike = [scored(walk, walk[:24], subject=f"s{i}") for i in range(5)]
    f1 = 2 * 24 / 54
    assert details(alike)["f1_250ms_interval"] == pytest.approx([f1, f1], abs=1e-6)
    low, high = details([*alike, scored(walk, walk, subject="good")])["f1_250ms_interval"]
    assert f1 - 1e-6 <= low < (5 * 48 + 60) / (5 * 54 + 60) < high <= 1
    assert details(alike[:1])["f1_250ms_interval"] is None
    # Sets are strata: one person each says nothing about the spread of people.
    assert details([alike[0], scored([], [1.0], dataset="desk", steps_known="zero")])["f1_250ms_interval"] is None


def test_the_tables_show_the_finer_figures() -> None:
    stairs = recording(activity=np.zeros(6000, np.int64), activity_names=("stairs_down",), placement="hip")
    desk = recording(name="desk", steps=np.empty(0), steps_known="zero", dataset="desk", placement="wrist")
    hand = recording(name="hand", placement="hand", subject="s2")
    predicted = np.arange(10.0, 30.0)
    text = render_table(evaluate([(stairs, predicted[:10]), (desk, [3.0]), (hand, predicted)]))
    assert "stairs_down    20      50.0" in text
    assert "walks, hip" in text
    assert "Worst recordings: walks r1 (66.7 %)." in text


@given(seed=st.integers(0, 2**32 - 1))
def test_rotations_are_proper(seed: int) -> None:
    rotation = random_rotation(np.random.default_rng(seed)).astype(np.float64)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-5)


def test_rotations_have_no_favourite_direction() -> None:
    rng = np.random.default_rng(1)
    turned = np.array([random_rotation(rng) for _ in range(4000)])
    # The mean of a uniform rotation is zero, and every element has variance 1/3.
    assert np.abs(turned.mean(axis=0)).max() < 0.05
    assert np.allclose(turned.var(axis=0), 1 / 3, atol=0.03)


def test_a_recording_is_turned_by_its_own_rotation() -> None:
    rng = np.random.default_rng(0)
    imu = rng.normal(size=(6000, 6)).astype(np.float32)
    one, again, other = (rotated(recording(imu=imu, name=name), 5) for name in ("a", "a", "b"))
    assert np.array_equal(one.imu, again.imu)
    assert not np.allclose(one.imu, other.imu)
    assert not np.allclose(one.imu, rotated(recording(imu=imu, name="a"), 6).imu)
    for part in (slice(0, 3), slice(3, 6)):
        assert np.allclose(np.linalg.norm(one.imu[:, part], axis=1), np.linalg.norm(imu[:, part], axis=1), atol=1e-5)
    before, after = (np.einsum("ij,ij->i", each[:, :3], each[:, 3:]) for each in (imu, one.imu))
    assert np.allclose(before, after, atol=1e-4), "both sensors turn together"
    assert np.isnan(rotated(recording(imu=np.full((6000, 6), np.nan, np.float32)), 1).imu).all()
