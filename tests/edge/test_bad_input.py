"""Damaged files among good ones, and arguments that make no sense: everything is named, nothing is passed over."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge import config
from edge.__main__ import main
from edge.commands import doctor
from edge.errors import ModelError, RecordingError
from edge.manifest import embedded_manifest, parse_manifest
from edge.recording import find_recordings, load, save_csv, save_npz
from emulator.gait import simulate_walk

MODEL = Path(__file__).resolve().parents[2] / "models" / "step.tflite"
HEADER = "time_s,acc_x,acc_y,acc_z,gyr_x,gyr_y,gyr_z"


def row(sample: int) -> str:
    return f"{sample / 100:.2f},0,0,9.8,nan,nan,nan"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two walks that can be read between two files that cannot."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, seed in (("b", 5), ("d", 6)):
        save_npz(folder / f"{name}.npz", replace(simulate_walk(15.0, seed=seed), dataset="walks"))
    (folder / "a.npz").write_bytes((folder / "b.npz").read_bytes()[:3000])
    (folder / "c.csv").write_text("t,x\n0,0\n", encoding="utf-8")
    return folder


def test_evaluate_names_every_bad_file_and_says_that_the_score_is_partial(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "a.npz: not a readable" in err
    assert "c.csv: header" in err
    assert "2 of 4 recordings could not be read" in err
    first, *table = out.splitlines()
    assert first.startswith("INCOMPLETE: 2 recordings could not be read")
    assert any(line.split()[:2] == ["walks", "2"] for line in table)


def test_evaluate_json_names_every_bad_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--json", str(folder)]) == 2
    report = json.loads(capsys.readouterr().out)
    assert {Path(name).name for name in report["unreadable"]} == {"a.npz", "c.csv"}
    assert report["total"]["recordings"] == 2
    good = [str(folder / name) for name in ("b.npz", "d.npz")]
    assert main(["evaluate", "--json", *good]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["unreadable"] == {}
    assert whole["total"] == report["total"]


def test_replay_plays_the_good_files_and_names_the_bad_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--json", str(folder)]) == 2
    out, err = capsys.readouterr()
    played = [json.loads(line)["summary"]["recording"] for line in out.splitlines() if "summary" in line]
    assert played == [str(folder / "b.npz"), str(folder / "d.npz")]
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        str(folder / "a.npz"),
        str(folder / "c.csv"),
        "footfall replay",
    ]


def test_where_no_file_can_be_read_there_is_no_score(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder / "a.npz"), str(folder / "c.csv")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert "a.npz" in err
    assert "c.csv" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay", "x.npz", "--model", ""], "--model is empty"),
        (["evaluate", ""], "no path"),
        (["replay", "x.npz", "--speed", "inf"], "from 0.01 to 1000"),
        (["replay", "x.npz", "--speed", "1e-9"], "from 0.01 to 1000"),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["doctor", "--seconds", "abc"], "'abc' is no duration; allowed: 0 to 604800 seconds"),
        (["evaluate", "x", "--rotate", "left"], "'left' is no seed; allowed: a whole number"),
    ],
)
def test_arguments_that_are_no_numbers(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("junk", [b"PK", b"PK" + b"\x07junk" * 500])
def test_a_damaged_npz_is_not_taken_for_python_objects(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "pk.npz").write_bytes(junk)
    with pytest.raises(RecordingError, match="copy it again"):
        load(tmp_path / "pk.npz")


def test_python_objects_are_still_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", imu=np.array([{}]), fs=100.0)
    with pytest.raises(RecordingError, match="Python objects"):
        load(tmp_path / "o.npz")


def test_blank_lines_and_comments_between_rows_mean_nothing(tmp_path: Path) -> None:
    save_csv(tmp_path / "a.csv", simulate_walk(15.0))
    head, first, *rest = (tmp_path / "a.csv").read_text(encoding="utf-8").partition(HEADER)[2].splitlines()
    text = "\n".join(["  ", HEADER, head, first, "   ", "\t# a note", "", *rest, ""])
    (tmp_path / "b.csv").write_text(text, encoding="utf-8")
    assert np.array_equal(load(tmp_path / "a.csv").imu, load(tmp_path / "b.csv").imu)


def test_a_time_of_300_digits_is_written_short(tmp_path: Path) -> None:
    rows = [row(i) for i in range(20)]
    rows[7] = "1e300,0,0,9.8,nan,nan,nan"
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    with pytest.raises(RecordingError, match="follows 1e\\+300") as error:
        load(tmp_path / "a.csv")
    assert len(str(error.value)) < 300


def test_a_file_name_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\x1b[31m\nb.npz"
    save_npz(path, simulate_walk(15.0))
    assert main(["replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 2


def test_a_long_data_set_name_makes_no_long_table(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", replace(simulate_walk(15.0), dataset="x" * 100_000))
    assert len(load(tmp_path / "a.npz").dataset) <= 80


def test_label_intervals_on_another_clock(tmp_path: Path) -> None:
    walk = simulate_walk(15.0)
    intervals = np.array([[1.0, 5.0], [1.7e9, 1.7e9 + 5]])
    save_npz(tmp_path / "a.npz", replace(walk, steps_known="bouts", label_intervals=intervals))
    with pytest.raises(RecordingError, match=r"label interval 1 .* clock of the recording"):
        load(tmp_path / "a.npz")


def test_steps_known_is_one_text(tmp_path: Path) -> None:
    walk = simulate_walk(15.0)
    np.savez(tmp_path / "a.npz", imu=walk.imu, fs=100.0, steps_known=np.array(["all", "none"]))
    with pytest.raises(RecordingError, match="'steps_known' is"):
        load(tmp_path / "a.npz")


def test_a_key_with_dots_is_no_second_way_to_write_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mqtt.port: 5\nmqtt:\n  port: 6\n", encoding="utf-8")
    (problem,) = config.check(path, {})
    assert str(problem) == "mqtt.port: a name with a dot; write port below mqtt:"


def test_an_empty_path_is_not_this_directory() -> None:
    with pytest.raises(RecordingError, match="no path"):
        find_recordings([""])


def test_a_file_that_is_no_config_is_not_told_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("\n".join([f"key{i}: 1" for i in range(300)] + ["2001-01-01: 1"]), encoding="utf-8")
    assert main(["check-config", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 101
    assert "and 201 more" in lines[-1]


def test_a_date_is_shown_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("2001-01-01: 1\n", encoding="utf-8")
    (problem,) = config.check(path, {})
    assert str(problem).startswith("2001-01-01: ")


@pytest.mark.parametrize("topic", ["", "a/#", "a/+", "a\nb"])
def test_a_fleet_needs_a_topic_that_one_can_publish_to(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate-fleet", "--devices", "1", "--seconds", "1", "--base-topic", topic]) == 2
    assert "--base-topic is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"), [("name", "a\0b"), ("version", "\ud800"), ("name", "a\nb"), ("lookahead_samples", 300)]
)
def test_a_manifest_that_consumers_could_not_read(field: str, value: object) -> None:
    document = embedded_manifest(MODEL.read_bytes())
    parse_manifest(document)
    with pytest.raises(ModelError):
        parse_manifest(document | {field: value})


def test_evaluate_says_where_the_labels_of_a_csv_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk = replace(simulate_walk(15.0), steps=None, steps_known="none")
    save_csv(tmp_path / "a.csv", walk)
    assert main(["evaluate", str(tmp_path / "a.csv")]) == 2
    assert "NAME.steps.csv" in capsys.readouterr().err


def test_a_report_that_cannot_be_made_says_which_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["evaluate", str(folder / "b.npz"), "--report", "/proc/none"]) == 2
    assert "--report /proc/none: cannot be written" in capsys.readouterr().err


def test_doctor_reads_what_the_service_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "SERVICE_CONFIG", tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("mqtt: {prot: 1}\n", encoding="utf-8")
    try:
        assert main(["doctor", "--seconds", "0"]) == 1
    finally:
        logging.disable(logging.NOTSET)
    assert f"{tmp_path / 'config.yaml'}: mqtt.prot" in capsys.readouterr().out


def test_a_rate_per_hour_is_not_made_of_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A minute of rest with false steps in it is no measurement of hundreds an hour."""
    walk = simulate_walk(25.0, seed=7)
    save_npz(tmp_path / "a.npz", replace(walk, steps=np.empty(0), steps_known="zero", dataset="rest"))
    assert main(["evaluate", str(tmp_path / "a.npz"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["datasets"]
    assert row["false_steps"] > 0
    assert main(["evaluate", str(tmp_path / "a.npz")]) == 0
    out = capsys.readouterr().out
    assert f"{row['false_steps']} in 25 s" in out
    assert f"{row['false_steps_per_hour']:.1f}" not in out
