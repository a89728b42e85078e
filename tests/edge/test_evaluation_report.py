"""`footfall evaluate --report` and `--rotate`, as a user runs them."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.__main__ import main
from edge.classifier import StepClassifier
from edge.commands.evaluation_report import Evaluation, stretches, trace
from edge.evaluate import scored_recording, summary
from edge.imu.replay import ReplayImu
from edge.pipeline import Pipeline, detect
from edge.recording import load, save_npz
from edge.scoring import ScoredRecording, align
from emulator.gait import simulate_walk

MODEL = Path(__file__).resolve().parents[2] / "models" / "step.tflite"
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib: pip install '.[report]'"
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two walkers, one of them said to rest: every step of his is a false one."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed, known in ((5, "all"), (6, "all"), (7, "zero")):
        walk = replace(simulate_walk(25.0, seed=seed), dataset=known, subject=f"s{seed}", name=f"w{seed}")
        resting = known == "zero"
        save_npz(
            folder / f"w{seed}.npz",
            replace(walk, steps_known=known, steps=np.empty(0) if resting else walk.steps),
        )
    return folder


@needs_matplotlib
def test_a_report_has_every_table_and_every_picture(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(recordings), "--report", str(tmp_path / "new" / "report"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    text = (tmp_path / "new" / "report" / "report.md").read_text(encoding="utf-8")
    walking = next(row for row in figures["datasets"] if row["dataset"] == "all")
    assert f"{100 * walking['f1_250ms']:.2f}" in text
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert set(pictures) == {
        *("walk-1.png", "walk-2.png", "errors.png", "recordings.png", "activities.png", "latency.png")
    }
    for name in pictures:
        assert (tmp_path / "new" / "report" / name).read_bytes().startswith(b"\x89PNG")


@needs_matplotlib
def test_the_same_figures_give_the_same_bytes(recordings: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["evaluate", str(recordings / "w5.npz"), "--report", str(tmp_path / name)]) == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "latency.png" in files
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


@needs_matplotlib
def test_a_report_on_rest_alone_has_no_walks(recordings: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(recordings / "w7.npz"), "--report", str(tmp_path)]) == 0
    assert not list(tmp_path.glob("walk-*.png"))
    assert "| zero | 1 |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_people_of_the_training_set_are_said_to_flatter_and_the_offset_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk = simulate_walk(25.0, seed=5)
    for known in ("awinda_hand", "mine"):
        assert walk.steps is not None
        late = replace(walk, dataset=known, subject="me", steps=walk.steps + (0.3 if known == "mine" else 0.0))
        save_npz(tmp_path / f"{known}.npz", late)
    offset_s = {}
    for known in ("awinda_hand", "mine"):
        assert main(["evaluate", str(tmp_path / f"{known}.npz")]) == 0
        said = capsys.readouterr().out
        assert ("The model has learned from awinda_hand" in said) == (known == "awinda_hand")
        lines = [re.split(r"  +", line) for line in said.splitlines()]
        heading = next(line for line in lines if "offset ms" in line)
        row = next(line for line in lines[lines.index(heading) :] if line[0] == known)
        offset_s[known] = float(row[heading.index("offset ms")]) / 1000
    assert offset_s["mine"] - offset_s["awinda_hand"] == pytest.approx(0.3, abs=0.1)


@needs_matplotlib
def test_a_file_is_no_place_for_a_report(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["evaluate", str(recordings), "--report", str(tmp_path / "taken")]) == 2
    assert "this is a file" in capsys.readouterr().err


@needs_matplotlib
@pytest.mark.parametrize(("place", "said"), [("/proc/self", "cannot be written"), ("taken", "in it is a folder")])
def test_a_place_that_takes_no_report_is_refused_before_the_work(
    place: str, said: str, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    assert main(["evaluate", str(recordings), "--report", str(tmp_path / place)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert said in line


@needs_matplotlib
def test_recordings_of_the_same_name_are_each_drawn_from_their_own_samples(tmp_path: Path) -> None:
    scored: dict[Path, ScoredRecording] = {}
    for folder, seconds in (("x", 60.0), ("y", 20.0)):
        path = tmp_path / folder / "same.npz"
        path.parent.mkdir()
        save_npz(path, replace(simulate_walk(seconds, seed=5), dataset="one", subject=folder, name="same"))
        recording = load(path)
        assert recording.steps is not None
        heard = recording.steps[::2] if folder == "x" else recording.steps[::3]
        scored[path] = scored_recording(recording, heard.tolist())
    found = Evaluation(summary(scored.values()), scored, StepClassifier(MODEL))
    typical, worst = stretches(found, [each for rows in align(scored.values()).values() for each in rows])
    assert typical.acceleration_s[-1] - typical.acceleration_s[0] == pytest.approx(20.0, abs=0.1)
    assert typical.acceleration_s[0] > 15.0, "the middle of the long one"
    assert worst.acceleration_s[-1] <= 20.0


def test_a_missing_matplotlib_is_one_line_at_once(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["evaluate", str(recordings), "--report", str(tmp_path / "report")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("footfall evaluate: --report draws with matplotlib, which is not installed here: ")
    assert "pip install 'footfall" not in line  # nobody has registered the name: it would fetch a stranger's code
    assert not (tmp_path / "report").exists()


def test_the_device_never_imports_the_report(recordings: Path) -> None:
    before = {name for name in sys.modules if "evaluation_pictures" in name}
    assert main(["evaluate", str(recordings / "w5.npz")]) == 0
    assert {name for name in sys.modules if "evaluation_pictures" in name} == before


def test_json_tells_latency_placement_and_activity(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(recordings), "--json"]) == 0
    rows = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)["datasets"]}
    assert 0.1 < rows["all"]["latency_p50_s"] <= rows["all"]["latency_p99_s"] < 1.0
    assert rows["all"]["subjects"] == 2
    assert len(rows["all"]["f1_250ms_interval"]) == 2
    assert sum(each["true_steps"] for each in rows["all"]["activities"]) == rows["all"]["true_steps"]
    assert sum(each["false_steps"] for each in rows["zero"]["activities"]) == rows["zero"]["false_steps"] > 0


def test_a_rotation_is_the_same_each_time_and_the_model_does_not_mind(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for extra in ([], ["--rotate", "1"], ["--rotate", "1"]):
        assert main(["evaluate", str(recordings / "w5.npz"), "--json", *extra]) == 0
        found.append(json.loads(capsys.readouterr().out)["total"])
    assert found[1] == found[2]
    assert found[0] != found[1]
    assert found[1]["f1_250ms"] > found[0]["f1_250ms"] - 0.1


def test_a_seed_is_not_negative(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(recordings), "--rotate", "-1"]) == 2
    assert "--rotate is -1" in capsys.readouterr().err


def test_the_drawn_answers_are_those_that_steps_come_from() -> None:
    walk = simulate_walk(25.0, seed=5)
    classifier = StepClassifier(MODEL)
    time_s, probability, walking_s, walking = trace(walk, classifier)
    gate = classifier.manifest.gate
    assert gate is not None
    assert np.all(np.diff(walking_s) > 0)
    assert walking.min() < gate.off < gate.on <= walking.max()
    assert np.allclose(np.diff(time_s), classifier.manifest.answer_period_s)
    pipeline = Pipeline(classifier, source_rate_hz=walk.sampling_rate_hz)
    events = [event for _, found in detect(ReplayImu(walk), pipeline) for event in found]
    assert len(events) > 10
    for event in events:
        nearest = int(np.argmin(np.abs(time_s - event.time_s)))
        assert abs(time_s[nearest] - event.time_s) <= 0.5 * classifier.manifest.answer_period_s + 1e-6
        assert probability[nearest] == pytest.approx(event.confidence)
