"""Damaged files among good ones, and arguments that make no sense: everything is named, nothing is passed over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge import config
from edge.__main__ import main
from edge.errors import RecordingError
from edge.recording import find_recordings, load, save_csv, save_npz
from emulator.gait import simulate_walk

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
