"""The command line as a user meets it: exit codes, one-line errors, and the JSON that other programs read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.recording import Recording, save_csv, save_npz
from emulator.gait import simulate_walk

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "step.tflite"


def footfall(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environ
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def refused(*arguments: object, **environ: str) -> str:
    """Run a command that must be refused with exit code 2 and one line; return the line."""
    done = footfall(*arguments, **environ)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walk") / "walk.npz"
    save_npz(path, simulate_walk(20.0, seed=5))
    return path


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_replay_json_is_one_object_per_step_and_a_summary_per_file(walk: Path) -> None:
    done = footfall("replay", walk, walk, "--json")
    assert done.returncode == 0, done.stderr
    rows = objects(done.stdout)
    summaries = [row["summary"] for row in rows if "summary" in row]
    steps = [row for row in rows if "summary" not in row]
    assert len(summaries) == 2
    assert [s["steps"] for s in summaries] == [len(steps) // 2] * 2
    assert set(summaries[0]) == {
        "recording", "samples", "hours", "steps", "gaps", "cpu_s", "wall_s", "model_sha256",
    }  # fmt: skip
    assert set(steps[0]) == {"recording", "seq", "time_s", "emitted_s", "confidence", "cadence_spm"}
    assert [s["seq"] for s in steps[: len(steps) // 2]] == list(range(1, len(steps) // 2 + 1))
    assert steps[0]["recording"] == str(walk)
    assert summaries[0]["samples"] == 2000


def test_replay_in_real_time_gives_the_same_bytes_as_at_full_speed(tmp_path: Path) -> None:
    whole = simulate_walk(15.0, seed=5)
    part = Recording("part", whole.time_s[:800], whole.imu[:800], whole.sampling_rate_hz)
    save_npz(tmp_path / "part.npz", part)
    events = []
    for speed in ("max", "1.0"):
        done = footfall("replay", tmp_path / "part.npz", "--json", "--speed", speed)
        assert done.returncode == 0, done.stderr
        *steps, summary = done.stdout.splitlines()
        assert (json.loads(summary)["summary"]["wall_s"] >= 7.8) == (speed == "1.0")
        events.append("\n".join(steps))
    assert events[0] == events[1]
    assert events[0].count("\n") >= 5


def test_a_csv_recording_counts_like_the_npz_it_was_made_from(tmp_path: Path) -> None:
    recording = simulate_walk(20.0, seed=5)
    save_npz(tmp_path / "walk.npz", recording)
    save_csv(tmp_path / "walk.csv", recording)
    counts = [objects(footfall("replay", tmp_path / f"walk.{kind}", "--json").stdout)[-1] for kind in ("npz", "csv")]
    assert counts[0]["summary"]["steps"] == counts[1]["summary"]["steps"] > 10


def test_replay_for_people_says_how_many_steps(walk: Path) -> None:
    done = footfall("replay", walk)
    assert done.returncode == 0
    assert "steps (labelled:" in done.stdout


@pytest.mark.parametrize(("seconds", "said"), [(0.0, "surer of a step than"), (1.5, "surer of a walk than|no 4 steps")])
def test_replay_of_no_steps_says_what_the_model_lacked(tmp_path: Path, seconds: float, said: str) -> None:
    """A device at rest; then one that takes three steps, which are no walk."""
    walk = simulate_walk(30.0, seed=4)
    begun = int(np.searchsorted(walk.time_s, walk.steps[8] if walk.steps is not None else 0.0))
    stirred = slice(begun, begun + int(seconds * walk.sampling_rate_hz))
    imu = np.tile(walk.imu[:1], (len(walk.imu), 1))
    imu[stirred] = walk.imu[stirred]
    save_npz(tmp_path / "rest.npz", Recording("rest", walk.time_s, imu, walk.sampling_rate_hz))
    done = footfall("replay", tmp_path / "rest.npz")
    assert "0 steps" in done.stdout, done.stdout
    assert re.search(said, done.stdout), done.stdout


@pytest.mark.data
def test_evaluate_equals_the_reference_scorer_on_the_output_of_replay(recordings_dir: Path, tmp_path: Path) -> None:
    scorer = recordings_dir.parents[1] / "tools" / "score.py"
    if not scorer.exists():
        pytest.skip("the reference scorer is not here")
    files = sorted((recordings_dir / "awinda_hand").glob("person_[78]__*.npz"))
    predictions: dict[str, list[float]] = {f"awinda_hand/{file.name}": [] for file in files}
    for row in objects(footfall("replay", *files, "--json").stdout):
        if "summary" not in row:
            predictions[f"awinda_hand/{Path(row['recording']).name}"].append(row["time_s"])
    lines = [json.dumps({"file": name, "steps": steps}) for name, steps in predictions.items()]
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, str(scorer), str(tmp_path / "predictions.jsonl"), str(recordings_dir)]
    reference = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1].split()
    report = json.loads(footfall("evaluate", *files, "--json").stdout)
    (row,) = report["datasets"]
    ours = [
        row["dataset"], str(row["recordings"]), str(row["true_steps"]), str(row["predicted_steps"]),
        f"{100 * row['f1_100ms']:.2f}", f"{100 * row['f1_250ms']:.2f}", f"{100 * row['f1_500ms']:.2f}",
        f"{100 * row['worst_f1_250ms']:.1f}", f"{row['count_mape_percent']:.2f}", f"{row['count_bias_percent']:.2f}",
        f"{row['false_steps_per_hour']:.1f}", f"{row['non_walking_hours']:.2f}",
    ]  # fmt: skip
    assert ours == reference
    assert row["f1_250ms"] >= 0.97


def test_a_missing_model_is_one_line(walk: Path, tmp_path: Path) -> None:
    assert "none.tflite" in refused("replay", walk, "--model", tmp_path / "none.tflite")


def test_a_truncated_model_is_one_line(walk: Path, tmp_path: Path) -> None:
    (tmp_path / "short.tflite").write_bytes(MODEL.read_bytes()[:5000])
    assert "short.tflite" in refused("replay", walk, "--model", tmp_path / "short.tflite")


def test_a_missing_recording_is_one_line() -> None:
    assert "nowhere.npz" in refused("replay", "nowhere.npz")


def test_a_recording_in_g_is_one_line(tmp_path: Path) -> None:
    recording = simulate_walk(15.0)
    in_g = Recording("g", recording.time_s, recording.imu / 9.80665, recording.sampling_rate_hz)
    save_npz(tmp_path / "g.npz", in_g)
    assert "9.80665" in refused("replay", tmp_path / "g.npz")


def test_wrong_columns_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("t,ax,ay,az\n0,0,0,9.8\n", encoding="utf-8")
    assert "bad.csv" in refused("replay", tmp_path / "bad.csv")


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan", "inf"])
def test_an_impossible_speed_is_one_line(walk: Path, speed: str) -> None:
    assert "--speed" in refused("replay", walk, f"--speed={speed}")


def test_recordings_without_labels_cannot_be_evaluated(tmp_path: Path) -> None:
    whole = simulate_walk(15.0)
    save_npz(tmp_path / "bare.npz", Recording("bare", whole.time_s, whole.imu, whole.sampling_rate_hz))
    assert "annotated" in refused("evaluate", tmp_path / "bare.npz")


def test_a_config_typo_is_one_line_that_names_the_nearest_key(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mqtt:\n  hots: broker.lan\n", encoding="utf-8")
    assert "mqtt.host" in refused("run", "--config", tmp_path / "config.yaml")


def test_check_config_names_every_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mqtt:\n  hots: x\n  port: 99999\nsensr:\n  type: auto\n", encoding="utf-8")
    done = footfall("check-config", tmp_path / "config.yaml")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    for expected in ("mqtt.host", "99999", "sensor"):
        assert expected in done.stderr


def test_the_shipped_config_is_fine() -> None:
    assert footfall("check-config", ROOT / "config.yaml").returncode == 0


def test_no_such_bus_is_one_line(tmp_path: Path) -> None:
    # `run` waits for it instead (test_daemon.py).
    line = refused("record", tmp_path / "x.csv", "--seconds", "1", FOOTFALL__SENSOR__BUS=str(tmp_path / "i2c-9"))
    assert str(tmp_path / "i2c-9") in line


def test_an_outbox_that_cannot_be_made_is_one_line(walk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refused(
        "run",
        FOOTFALL__SENSOR__TYPE="replay",
        FOOTFALL__SENSOR__RECORDING=str(walk),
        FOOTFALL__OUTBOX__PATH=str(tmp_path / "file" / "outbox.db"),
    )
    assert "outbox" in line


def test_a_reader_that_leaves_early_is_no_error(walk: Path) -> None:
    command = f"{sys.executable} -m edge replay {walk} {walk} {walk} --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_bare_footfall_shows_how_to_use_it() -> None:
    done = footfall()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_the_daemon_loads_nothing_that_does_not_belong_on_the_device() -> None:
    heavy = {"tensorflow", "keras", "scipy", "matplotlib", "asyncio", "multiprocessing", "converter", "emulator"}
    script = f"import edge.daemon, sys; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def test_tensorflow_is_not_in_the_device_s_environment() -> None:
    packages = {distribution.metadata["Name"].lower() for distribution in metadata.distributions()}
    assert not {name for name in packages if name.startswith(("tensorflow", "keras"))}
