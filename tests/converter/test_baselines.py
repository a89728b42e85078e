"""The baselines on made-up signals where every step is known, on a simulated walk, and on a few real recordings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.baselines.__main__ import RESTS, WALKS, table
from converter.baselines.detectors import (
    MIN_INTERVAL_S,
    BandPassPeaks,
    BoutGate,
    Detector,
    FirmwareCounter,
    Gated,
    WindowedPeaks,
)
from converter.baselines.parameters import counters
from converter.baselines.people import is_test, is_training, samples, scored
from converter.baselines.signals import RATE_HZ, band_pass, delay_s, magnitude
from converter.baselines.tune import GATES, GRIDS, Tried, best
from edge.recording import Recording, load
from edge.scoring import matched_pairs, score
from emulator.gait import simulate_walk

if TYPE_CHECKING:
    from converter.baselines.signals import Signal

ROOT = Path(__file__).resolve().parents[2]
PLAIN: list[Detector] = [
    BandPassPeaks(low_hz=0.7, high_hz=3.0, threshold_m_s2=0.5, refractory_s=0.3),
    WindowedPeaks(average_s=0.31, peak_window_s=0.52, deviation_m_s2=0.6),
    FirmwareCounter(low_hz=0.9, high_hz=2.8, threshold_m_s2=0.5),
]
GATE = BoutGate(run=4, tolerance=0.3, max_interval_s=1.5)


def sine_walk(cadence_hz: float = 2.0, *, seconds: float = 40.0, size_m_s2: float = 2.0) -> tuple[Signal, Signal]:
    """Return |acc| of rest, then a sine, then rest, and the times of the sine's tops."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    walking = (time_s >= 10) & (time_s < 30)
    swing = np.where(walking, size_m_s2 * np.sin(2 * np.pi * cadence_hz * (time_s - 10)), 0.0)
    tops_s = 10 + (np.arange(20 * cadence_hz) + 0.25) / cadence_hz
    return 9.81 + swing, tops_s


@pytest.mark.parametrize("detector", PLAIN, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("cadence_hz", [1.5, 2.0, 2.4])
def test_every_swing_is_a_step(detector: Detector, cadence_hz: float) -> None:
    signal, tops_s = sine_walk(cadence_hz)
    for counter in (detector, Gated(detector, GATE)):
        found_s = counter.steps_s(signal)
        # A filter rings once at either end.
        assert abs(len(found_s) - len(tops_s)) <= 2
        assert len(matched_pairs(tops_s, found_s, 0.25)) >= len(tops_s) - 2


@pytest.mark.parametrize("detector", PLAIN, ids=lambda d: type(d).__name__)
def test_time_stamps_are_those_of_the_movement(detector: Detector) -> None:
    signal, tops_s = sine_walk()
    middle_s = tops_s[(tops_s > 15) & (tops_s < 25)]
    found_s = detector.steps_s(signal)
    late_s = np.array([found_s[np.argmin(np.abs(found_s - t))] - t for t in middle_s])
    assert late_s.std() < 0.01
    # The firmware counter marks the way up, an eighth to a quarter of a cycle before the top.
    assert abs(late_s.mean() - (-0.1 if isinstance(detector, FirmwareCounter) else 0.0)) < 0.04


@pytest.mark.parametrize("detector", PLAIN, ids=lambda d: type(d).__name__)
def test_rest_and_nothing_at_all_hold_no_steps(detector: Detector) -> None:
    rng = np.random.default_rng(0)
    assert len(detector.steps_s(9.81 + rng.normal(0, 0.05, 3000))) == 0
    for count in (0, 1, 2, 3):
        assert len(detector.steps_s(np.full(count, 9.81))) == 0


@pytest.mark.parametrize("detector", [PLAIN[0], PLAIN[2]], ids=lambda d: type(d).__name__)
def test_the_causal_ones_are_causal(detector: Detector) -> None:
    signal, _ = sine_walk()
    end = 1200
    whole_s, part_s = detector.steps_s(signal), detector.steps_s(signal[:end])
    assert part_s.tolist() == pytest.approx(whole_s[: len(part_s)].tolist())
    assert len(part_s) >= np.sum(whole_s < end / RATE_HZ - 0.5)


def test_the_band_is_where_it_should_be() -> None:
    impulse = np.append(np.zeros(1), np.ones(1000))
    response = np.diff(band_pass(impulse, 0.7, 3.0)[0], prepend=0.0)[1:]
    gain = np.abs(np.fft.rfft(response, 5000))
    at_hz = np.fft.rfftfreq(5000, 1 / RATE_HZ)

    def gain_at(hz: float) -> float:
        return float(gain[np.argmin(np.abs(at_hz - hz))])

    assert gain_at(0.0) < 1e-3
    assert gain_at(0.7) == pytest.approx(2**-0.5, abs=0.02)
    assert gain_at(3.0) == pytest.approx(2**-0.5, abs=0.02)
    assert gain_at(1.5) > 0.9
    assert gain_at(12.0) < 0.07
    assert delay_s(np.eye(1, 100, 10)[0], 2.0) == pytest.approx(10 / RATE_HZ)


def test_a_gate_holds_back_until_a_run_is_regular_then_counts_all_of_it() -> None:
    walk = np.arange(0.0, 5.0, 0.5)
    assert GATE.passed_s(walk).tolist() == walk.tolist()
    assert GATE.passed_s(walk[:3]).tolist() == []
    assert GATE.passed_s(np.array([0.0, 0.3, 1.2, 1.5, 2.8, 3.1, 4.4])).tolist() == [], "irregular"
    assert GATE.passed_s(np.arange(0.0, 20.0, 2.0)).tolist() == [], "too slow"
    two = np.concatenate([walk, [9.0, 9.5], 20 + walk])
    assert GATE.passed_s(two).tolist() == [*walk, *(20 + walk)], "two steps between two bouts are none"
    uneven = np.append(walk, [4.5 + 0.8, 4.5 + 1.1])
    assert GATE.passed_s(uneven).tolist() == uneven.tolist(), "within a bout, steps may be uneven"


@given(
    gaps=st.lists(st.sampled_from([0.1, 0.4, 0.5, 0.6, 1.0, 3.0]), max_size=40),
    run=st.integers(2, 6),
    tolerance=st.sampled_from([0.1, 0.3, 10.0]),
)
def test_a_gate_only_leaves_out_and_never_a_short_bout_in(gaps: list[float], run: int, tolerance: float) -> None:
    steps_s = np.cumsum(gaps)
    passed_s = BoutGate(run, tolerance, 1.5).passed_s(steps_s)
    assert set(passed_s.tolist()) <= set(steps_s.tolist())
    assert np.all(np.diff(passed_s) > 0)
    pauses = np.flatnonzero(np.diff(passed_s) > 1.5)
    ends = [-1, *pauses.tolist(), len(passed_s) - 1] if len(passed_s) else []
    assert all(length >= run for length in np.diff(ends))
    if tolerance == 10.0 and all(MIN_INTERVAL_S <= gap <= 1.5 for gap in gaps[1:]) and len(steps_s) >= run:
        assert len(passed_s) == len(steps_s)


def test_the_rule_of_choice() -> None:
    tried = [Tried("loose", 0.980, 900.0), Tried("close", 0.978, 300.0), Tried("deaf", 0.96, 0.0)]
    assert best(tried).point == "close"


def test_the_tuned_parameters_are_points_of_the_grids() -> None:
    found = counters()
    assert len(found) == 6
    for name, detector in found.items():
        if isinstance(detector, Gated):
            assert detector.gate in GATES
        else:
            assert detector in GRIDS[name]


def test_the_split_keeps_people_apart() -> None:
    people = [("awinda_hand", "person_5"), ("wisdm_watch", "1634"), ("oxford_opt", "Jamie")]
    assert all(is_training(*each) and not is_test(*each) for each in people)
    people = [("awinda_hand", "person_7"), ("wisdm_phone", "1636"), ("oxford_val", "user1"), ("ipol_gait", "s14")]
    assert all(is_test(*each) and not is_training(*each) for each in [*people, ("sisfall_waist", "SE01")])
    people = [("ipol_gait", "s13"), ("sisfall_waist", "SA01"), ("adept_run", "r01")]
    assert not any(is_test(*each) or is_training(*each) for each in people)


def test_the_table_has_a_row_for_each_counter_and_gaps_where_nothing_was_scored() -> None:
    walk = {"dataset": "awinda_hand", "f1_250ms": 0.98, "f1_100ms": 0.9, "count_mape_percent": 1.25}
    lines = table({"a": [walk], "b": [{"dataset": "wisdm_watch", "false_steps_per_hour": 12.4}]})
    assert lines[0] == ["counter", *WALKS.values(), *RESTS.values()]
    assert lines[1] == ["a", "98.0 / 90.0 / 1.2", "–", "–", "–", "–", "–"]
    assert lines[2] == ["b", "–", "–", "–", "12", "–", "–"]


@pytest.mark.parametrize("name", sorted(counters()))
def test_a_simulated_walk_is_counted(name: str) -> None:
    walk = simulate_walk(60.0, seed=3)
    steps_s = counters()[name].steps_s(magnitude(walk))
    assert walk.steps is not None
    shift_s = np.median([t - walk.steps[np.argmin(np.abs(walk.steps - t))] for t in steps_s])
    pairs = matched_pairs(walk.steps, steps_s - shift_s, 0.25)
    assert 2 * len(pairs) / (len(walk.steps) + len(steps_s)) > 0.85


def test_the_rate_of_the_source_does_not_matter() -> None:
    signal = {rate: simulate_walk(30.0, seed=3, sampling_rate_hz=rate) for rate in (50.0, 100.0)}
    counts = [len(PLAIN[0].steps_s(magnitude(walk))) for walk in signal.values()]
    assert abs(counts[0] - counts[1]) <= 2


@pytest.mark.parametrize("module", ["converter.baselines", "converter.baselines.tune"])
def test_a_folder_without_the_public_recordings_is_one_line(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", module, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def linked(root: Path, folder: Path, *patterns: str) -> Path:
    """Return a folder with links to those of the real recordings that match."""
    for pattern in patterns:
        for path in root.glob(pattern):
            place = folder / path.parent.name / path.name
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(path.resolve())
    return folder


@pytest.mark.data
def test_real_walks_are_counted_and_gates_keep_hands_quiet(recordings_dir: Path, tmp_path: Path) -> None:
    folder = linked(recordings_dir, tmp_path, "awinda_hand/person_7*.npz", "wisdm_watch/1636*.npz")
    recordings = samples(folder, is_test)
    found: dict[str, dict[str, Any]] = {}
    for name, detector in counters().items():
        rows = score(scored(recordings, detector))["datasets"]
        found[name] = {row["dataset"]: row for row in rows}
    for name, rows in found.items():
        assert rows["awinda_hand"]["f1_250ms"] > 0.93, name
        assert rows["awinda_hand"]["count_mape_percent"] < 8, name
    for name in list(found)[::2]:
        quiet, loud = (found[key]["wisdm_watch"]["false_steps_per_hour"] for key in (f"{name}, gated", name))
        assert quiet < loud


@pytest.mark.data
def test_the_baselines_are_fast(recordings_dir: Path) -> None:
    import time  # noqa: PLC0415 - this test alone

    longest: Recording = max(map(load, (recordings_dir / "awinda_hand").glob("*.npz")), key=lambda r: r.duration_s)
    signal = magnitude(longest)
    for detector in counters().values():
        began_s = time.process_time()
        detector.steps_s(signal)
        assert time.process_time() - began_s < 0.5


def test_the_parameters_say_what_they_gave() -> None:
    text = (ROOT / "converter" / "baselines" / "parameters.json").read_text(encoding="utf-8")
    for tuned in json.loads(text).values():
        assert 0.8 < tuned["training"]["f1_250ms"] <= 1
        assert tuned["training"]["gated_false_steps_per_hour"] <= tuned["training"]["false_steps_per_hour"]
