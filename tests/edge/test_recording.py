"""Recordings come back as they were saved, and a bad file is refused with the place and the way out."""

from __future__ import annotations

import gzip
import os
import pickle
import tempfile
import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RecordingError
from edge.recording import Recording, find_recordings, load, save, save_csv, save_npz

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEADER = "time_s,acc_x,acc_y,acc_z,gyr_x,gyr_y,gyr_z"


def recording(samples: int = 200, rate_hz: float = 80.0, seed: int = 0, **changes: Any) -> Recording:
    rng = np.random.default_rng(seed)
    imu = rng.normal(0.0, 1.0, (samples, 6)).astype(np.float32)
    imu[:, 2] += 9.81
    values: dict[str, Any] = {
        "name": "walk",
        "time_s": np.arange(samples) / rate_hz,
        "imu": imu,
        "sampling_rate_hz": rate_hz,
        "steps": np.array([0.5, 1.0, 1.55]),
        "steps_known": "bouts",
        "dataset": "mine",
        "subject": "s1",
        "placement": "left hand",
        "label_intervals": np.array([[0.25, 1.75]]),
        "metadata": {"note": "up: the stairs"},
    }
    return Recording(**(values | changes))


def same(a: Recording, b: Recording) -> None:
    assert np.array_equal(a.imu, b.imu, equal_nan=True)
    assert a.imu.dtype == b.imu.dtype == np.float32
    np.testing.assert_allclose(a.time_s, b.time_s, atol=1e-6)
    assert (a.steps is None) == (b.steps is None)
    if a.steps is not None and b.steps is not None:
        np.testing.assert_allclose(a.steps, b.steps, atol=1e-6)
    for key in ("name", "sampling_rate_hz", "steps_known", "dataset", "subject", "placement", "metadata"):
        assert getattr(a, key) == getattr(b, key), key
    assert np.array_equal(np.asarray(a.label_intervals), np.asarray(b.label_intervals))


def write_csv(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def good_rows(count: int = 30) -> list[str]:
    return [f"{i / 100:.2f},0.1,0.2,9.8,0,0,0.{i % 10}" for i in range(count)]


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".csv.gz"])
@pytest.mark.parametrize(
    "changes", [{}, {"steps": None, "steps_known": "none"}, {"label_intervals": None, "steps_known": "all"}]
)
def test_what_is_saved_is_loaded(tmp_path: Path, suffix: str, changes: dict[str, Any]) -> None:
    original = recording(**changes)
    path = tmp_path / f"walk{suffix}"
    (save_npz if suffix == ".npz" else save_csv)(path, original)
    loaded = load(str(path))
    same(original, loaded)
    assert loaded.path == path
    assert loaded.duration_s == pytest.approx(200 / 80.0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rate_hz=st.sampled_from([20.0, 52.0, 80.0, 100.0, 104.0, 833.0]),
    gyroscope=st.booleans(),
)
def test_every_float_survives_a_csv(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rate_hz: float, gyroscope: bool
) -> None:
    original = recording(samples=50, rate_hz=rate_hz, seed=seed, steps=None, steps_known="none", label_intervals=None)
    if not gyroscope:
        original.imu[:, 3:] = np.nan
    path = tmp_path_factory.mktemp("csv") / "walk.csv"
    save_csv(path, original)
    same(original, load(path))


def test_activity_survives_an_npz(tmp_path: Path) -> None:
    activity = np.arange(200) // 100
    save_npz(tmp_path / "walk.npz", recording(activity=activity, activity_names=("stand", "walk")))
    loaded = load(tmp_path / "walk.npz")
    assert loaded.activity is not None
    assert np.array_equal(loaded.activity, activity)
    assert loaded.activity_names == ("stand", "walk")


def test_csv_as_other_programs_write_it(tmp_path: Path) -> None:
    """Byte order mark, CRLF, comments anywhere, empty cells for a missing gyroscope, a clock that starts anywhere."""
    rows = [f"{1700000000 + i / 50:.3f}, 0.1 ,0.2,9.8,,," for i in range(40)]
    text = "\r\n".join(["# subject: s7", "", HEADER, *rows[:20], "# the dog barked", *rows[20:], ""])
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "a.steps.csv").write_text("time_s\n1700000000.5\n1700000000.25\n")
    loaded = load(tmp_path / "a.csv")
    assert loaded.subject == "s7"
    assert loaded.sampling_rate_hz == pytest.approx(50.0, abs=0.01)
    assert loaded.time_s[0] == 0.0
    assert loaded.time_s[-1] == pytest.approx(39 / 50, abs=1e-6)
    assert np.isnan(loaded.imu[:, 3:]).all()
    np.testing.assert_allclose(loaded.imu[:, :3], np.tile([0.1, 0.2, 9.8], (40, 1)), rtol=1e-6)
    assert loaded.steps is not None
    np.testing.assert_allclose(loaded.steps, [0.25, 0.5], atol=1e-6)
    assert loaded.steps_known == "all"


def test_nominal_rate_of_rounded_times_with_a_gap(tmp_path: Path) -> None:
    times_s = np.round(np.concatenate([np.arange(400), 700 + np.arange(400)]) / 80.0, 3)
    path = write_csv(tmp_path / "a.csv", [f"{t:.3f},0,0,9.8,0,0,0" for t in times_s])
    assert load(path).sampling_rate_hz == pytest.approx(80.0, abs=0.05)


BAD_CSV: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "text": (lambda r: [*r[:5], "0.05,0.1,zwei,9.8,0,0,0", *r[6:]], r"line 7, column acc_y: 'zwei'"),
    "missing cell": (lambda r: [*r[:5], "0.05,0.1,9.8,0,0,0", *r[6:]], r"line 7 has 6 cells, expected 7"),
    "cut off": (lambda r: [*r, "0.30,0.1,0."], r"line 32 has 3 cells.*cut off"),
    "time back": (lambda r: [*r[:9], r[3], *r[9:]], r"line 11, column time_s: 0\.030000 follows 0\.080000"),
    "time twice": (lambda r: [*r[:9], r[8], *r[9:]], r"line 11, column time_s"),
    "no time": (lambda r: [*r[:9], "nan" + r[9][4:], *r[10:]], r"line 11, column time_s: nan"),
    "hole in acc": (
        lambda r: [*r[:9], "0.09,0.1,,9.8,0,0,0", *r[10:]],
        r"line 11, column acc_y: nan.*leave such rows out",
    ),
    "infinite": (lambda r: [*r[:9], "0.09,inf,0,9.8,0,0,0", *r[10:]], r"line 11, column acc_x: inf"),
    "hole in gyr": (lambda r: [*r[:9], "0.09,0,0,9.8,0,nan,0", *r[10:]], r"line 11, column gyr_y: nan"),
    "milliseconds": (lambda r: [f"{10 * i}" + row[4:] for i, row in enumerate(r)], "milliseconds: divide by 1000"),
    "few": (lambda r: r[:3], "3 samples; at least 10"),
    "nothing": (lambda _: [], "0 samples; at least 10"),
}


@pytest.mark.parametrize("case", BAD_CSV)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_bad_csv_says_where(tmp_path: Path, case: str, suffix: str) -> None:
    change, message = BAD_CSV[case]
    path = write_csv(tmp_path / "a.csv", change(good_rows()))
    if suffix == ".csv.gz":
        path = tmp_path / "a.csv.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    with pytest.raises(RecordingError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_are_counted_past_comments_and_blank_lines(tmp_path: Path) -> None:
    rows = good_rows()
    (tmp_path / "a.csv").write_text(
        "\n".join(["# a: b", "", HEADER, *rows[:4], "", "# x", "0.01,0,0,9.8,0,0,0", *rows[5:]])
    )
    with pytest.raises(RecordingError, match=r"line 10, column time_s: 0\.010000 follows 0\.030000"):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("time_s,acc_x,acc_y,acc_z", "gyr_x, gyr_y, gyr_z missing; write nan"),
        ("time_s,acc_y,acc_x,acc_z,gyr_x,gyr_y,gyr_z", "another order"),
        ("time_s,accel_x,acc_y,acc_z,gyr_x,gyr_y,gyr_z", "column 2 is 'accel_x' instead of 'acc_x'"),
        (HEADER + ",mag_x", "column 8 is 'mag_x'; delete it"),
        ("0.00,0.1,0.2,9.8,0,0,0", "column 1 is '0.00' instead of 'time_s'"),
        (HEADER.replace(",", ";"), "column 1 is 'time_s;acc_x"),
    ],
)
def test_bad_header(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(RecordingError, match=message) as caught:
        load(write_csv(tmp_path / "a.csv", good_rows(), header))
    assert f"the first row must be {HEADER}" in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".npz"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe" * 50, b"\x1f\x8b\x08\x00garbage", b"PK\x03\x04garbage", b"\x93NUMPY"]
)
def test_any_other_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="a") as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".csv.gz"])
@settings(max_examples=40, deadline=None)
@given(kept=st.floats(0.0, 0.999))
def test_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, suffix: str, kept: float) -> None:
    path = tmp_path_factory.mktemp("cut") / f"a{suffix}"
    (save_npz if suffix == ".npz" else save_csv)(path, recording())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(RecordingError):
        load(path)


def test_missing_file_and_wrong_kinds_of_path(tmp_path: Path) -> None:
    (tmp_path / "d.npz").mkdir()
    (tmp_path / "a.steps.csv").write_text("time_s\n1\n")
    (tmp_path / "a.txt").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, message in {
        "x.npz": "no such file",
        "no.suffix": "no such file",
        "d.npz": "directory",
        "a.txt": "not a rec",
        "n" * 300 + ".npz": "File name too long",
        "pipe.csv": "no regular file",
        "a.steps.csv": "label file",
    }.items():
        with pytest.raises(RecordingError, match=message):
            load(tmp_path / name)


BAD_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "no imu": ({"imu": None}, "has no 'imu'.*holds: fs"),
    "no fs": ({"fs": None}, "has no 'fs'"),
    "negative fs": ({"fs": -80.0}, "'fs' is -80.0; allowed is one number"),
    "absurd fs": ({"fs": 1e9}, "'fs' is"),
    "nan fs": ({"fs": np.nan}, "'fs' is nan"),
    "text fs": ({"fs": "fast"}, "'fs' is fast"),
    "three columns": ({"imu": np.ones((100, 3))}, r"\[100, 3\].*append three NaN columns"),
    "transposed": ({"imu": np.ones((6, 100))}, "save imu.T"),
    "flat": ({"imu": np.ones(600)}, r"\[600\]; allowed is a number array \[N, 6\]"),
    "text imu": ({"imu": np.full((100, 6), "x")}, "allowed is a number array"),
    "pickle": ({"imu": np.array([None, {}])}, "holds Python objects"),
    "short": ({"imu": np.ones((4, 6))}, "4 samples"),
    "steps elsewhere": ({"steps": np.array([1.0, 500.0])}, "step label 1 is at 500 s"),
    "steps in a table": ({"steps": np.ones((3, 2))}, "'steps' is"),
    "steps and nobody walks": ({"steps_known": "zero"}, "3 steps are labelled"),
    "steps missing": ({"steps": None}, "there are no steps"),
    "bouts missing": ({"label_intervals": None}, "no label_intervals"),
    "odd intervals": ({"label_intervals": np.ones((2, 3))}, "'label_intervals' has shape"),
    "unknown trust": ({"steps_known": "perhaps"}, "allowed are all, bouts, zero"),
    "activity of another length": ({"activity": np.zeros(7, int)}, "'activity' has shape"),
    "activity in words": ({"activity": np.full(200, "walk")}, "'activity' is <U4, not whole numbers"),
    "activity unknown": ({"activity": np.full(200, np.nan)}, "not whole numbers"),
    "complex activity": ({"activity": np.full(200, 1j)}, "not whole numbers"),
    "one activity name": ({"activity_names": np.array("walk")}, "allowed is a list of texts"),
    "reversed interval": ({"label_intervals": np.array([[0.2, 1.0], [1.5, 1.1]])}, "interval 1 is from 1.5 to 1.1 s"),
    "interval without end": ({"label_intervals": np.array([[0.2, np.nan]])}, "interval 0 is from 0.2 to nan s"),
    "complex": ({"imu": np.ones((100, 6), complex)}, "allowed is a number array"),
    "huge double": ({"imu": np.full((100, 6), 1e300)}, "inf is not a number|hold no number"),
    "huge single": ({"imu": np.where(np.arange(600) == 66, 1e30, 9.0).reshape(100, 6)}, "1e\\+30 is no value of a"),
    "array of rates": ({"fs": np.full(10**5, 80.0)}, r"'fs' is an array \[100000\]"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz_says_what(tmp_path: Path, case: str) -> None:
    changes, message = BAD_NPZ[case]
    good = recording()
    keys: dict[str, Any] = {"imu": good.imu, "fs": 80.0, "steps": good.steps, "steps_known": "bouts"}
    keys |= {"label_intervals": good.label_intervals} | changes
    path = tmp_path / "a.npz"
    np.savez(path, **{key: value for key, value in keys.items() if value is not None})
    with pytest.raises(RecordingError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


UNITS: dict[str, tuple[float, float, float, str]] = {
    "g": (
        1 / 9.80665,
        0.0,
        1.0,
        r"median \|acc\| is 1\.\d+, gravity alone is 9\.81.*looks like g: multiply by 9\.80665$",
    ),
    "mg": (101.97, 0.0, 1.0, "thousandths of g: multiply by 0.00980665"),
    "counts": (1670.7, 0.0, 1.0, "looks like raw counts"),
    "no gravity": (1.0, -9.81, 1.0, "or gravity is missing"),
    "no gravity, at rest": (0.1, -0.981, 1.0, "; gravity is missing"),
    "no accelerometer": (np.nan, 0.0, 1.0, "acc_x to acc_z hold no number at all"),
    "°/s": (1.0, 0.0, 57.3, r"column gyr_.: -?\d+\.?\d* rad/s .* looks like °/s: multiply by 0\.0174533"),
}


@pytest.mark.parametrize("case", UNITS)
@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_units_that_cannot_be_right(tmp_path: Path, case: str, suffix: str) -> None:
    acc_scale, acc_z_offset, gyr_scale, message = UNITS[case]
    bad = recording()
    bad.imu[:] *= np.repeat([acc_scale, gyr_scale], 3).astype(np.float32)
    bad.imu[:, 2] += acc_z_offset
    (save_npz if suffix == ".npz" else save_csv)(tmp_path / f"a{suffix}", bad)
    with pytest.raises(RecordingError, match=message):
        load(tmp_path / f"a{suffix}")


def test_stray_nan_in_an_npz(tmp_path: Path) -> None:
    bad = recording()
    bad.imu[17, 1] = np.nan
    save_npz(tmp_path / "a.npz", bad)
    with pytest.raises(RecordingError, match="sample 17, column acc_y: nan"):
        load(tmp_path / "a.npz")


def test_npz_keeps_no_uneven_times(tmp_path: Path) -> None:
    uneven = recording()
    uneven.time_s[100:] += 1.0
    with pytest.raises(RecordingError, match=r"save a \.csv"):
        save_npz(tmp_path / "a.npz", uneven)
    save_csv(tmp_path / "walk.csv", uneven)
    same(uneven, load(tmp_path / "walk.csv"))


def test_find_recordings(tmp_path: Path) -> None:
    (tmp_path / "set" / "b").mkdir(parents=True)
    for name in ("z.npz", "a.csv", "a.steps.csv", "INDEX.tsv", "set/b/c.csv.gz", "set/readme.md"):
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in find_recordings([tmp_path])]
    assert found == ["a.csv", "set/b/c.csv.gz", "z.npz"]
    assert find_recordings([tmp_path / "z.npz", tmp_path / "set"]) == [tmp_path / "z.npz", tmp_path / "set/b/c.csv.gz"]
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        with pytest.raises(RecordingError, match=name):
            find_recordings([tmp_path / name])


NPZ_HEADERS: dict[str, tuple[bytes, str]] = {
    "no Python": (b"(" * 16, "not a readable"),
    "nested": (b"{'descr':'<f4','fortran_order':False,'shape':" + b"(" * 4000 + b")" * 4000 + b"}", "not a readable"),
    "24 TB": (
        b"{'descr':'<f4','fortran_order':False,'shape':(1000000000000,6)}",
        "claims to hold more than fits into the memory",
    ),
    "negative": (b"{'descr':'<f4','fortran_order':False,'shape':(-1,6)}", "not a readable"),
}


@pytest.mark.parametrize("case", NPZ_HEADERS)
def test_a_hostile_npz_header_is_refused_in_few_words(tmp_path: Path, case: str) -> None:
    header, message = NPZ_HEADERS[case]
    path = tmp_path / "a.npz"
    np.savez(path, fs=80.0)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("imu.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(200))
    with pytest.raises(RecordingError, match=message) as caught:
        load(path)
    assert len(str(caught.value)) < 200 + len(str(path))


def test_nobody_is_told_to_unpickle(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (pickle.dumps({"imu": 1}), pickle_in_npz(tmp_path)):
        path.write_bytes(content)
        with pytest.raises(RecordingError) as caught:
            load(path)
        assert "allow_pickle" not in str(caught.value)


def pickle_in_npz(directory: Path) -> bytes:
    np.savez(directory / "b.npz", imu=np.array([None]), fs=80.0)
    return (directory / "b.npz").read_bytes()


def test_an_npz_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.recording._MAX_NPZ_BYTES", 10_000)
    np.savez_compressed(tmp_path / "a.npz", imu=np.zeros((1000, 6)), fs=80.0)
    with pytest.raises(RecordingError, match="unpacks to more than 10000 bytes"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("where", ["head", "rows", "labels"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path, where: str) -> None:
    lines = {"head": ["#" * 3_000_000, HEADER], "rows": [HEADER, "1" * 3_000_000], "labels": [HEADER, *good_rows()]}
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines[where]).encode()))
    if where == "labels":
        (tmp_path / "a.steps.csv").write_text("time_s\n" + "1" * 3_000_000)
    with pytest.raises(RecordingError, match="a line has more than 1000000 characters"):
        load(path)


def test_more_samples_than_a_board_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.recording_csv.MAX_SAMPLES", 20)
    with pytest.raises(RecordingError, match="30 samples, 20 are the most"):
        load(write_csv(tmp_path / "a.csv", good_rows(30)))
    with pytest.raises(RecordingError, match="more than 20 samples"):
        load(write_csv(tmp_path / "a.csv", [""] * 100))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 20_000, "is not a list like"),
        ("[[5, 1]]", "interval 0 is from 5 to 1 s"),
        ("[[NaN, 1]]", "interval 0 is from nan"),
        ("null", "'label_intervals' has shape"),
    ],
)
def test_bad_label_intervals_of_a_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join([f"# label_intervals: {text}", HEADER, *good_rows()]))
    with pytest.raises(RecordingError, match=message) as caught:
        load(path)
    assert len(str(caught.value)) < 200 + len(str(path))


def test_two_numbers_in_a_line_of_labels_are_not_two_steps(tmp_path: Path) -> None:
    (tmp_path / "a.steps.csv").write_text("time_s\n0.1,0.2\n")
    with pytest.raises(RecordingError, match=r"a\.steps\.csv: line 2 has 2 cells, expected 1"):
        load(write_csv(tmp_path / "a.csv", good_rows()))


@pytest.mark.parametrize("cell", ["0_0", "\u0661"])
def test_what_python_calls_a_number_and_numpy_does_not_has_its_line(tmp_path: Path, cell: str) -> None:
    with pytest.raises(RecordingError, match=f"line 4, column time_s: '{cell}' is not a number"):
        load(write_csv(tmp_path / "a.csv", [*good_rows(2), f"{cell},0,0,9.8,0,0,0", *good_rows()[3:]]))


def test_a_damaged_gz_is_to_be_copied_again_not_edited(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress("\n".join([HEADER, *good_rows(3000)]).encode()))
    advice = set()
    for position in range(100, len(packed) - 8, len(packed) // 40):
        flipped = packed.copy()
        flipped[position] ^= 0xFF
        (tmp_path / "a.csv.gz").write_bytes(flipped)
        with pytest.raises(RecordingError) as caught:
            load(tmp_path / "a.csv.gz")
        advice.add(str(caught.value).rsplit(":", 1)[-1])
    assert advice == {" copy it again"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else for a moment")
def test_what_may_not_be_read_says_so(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    paths = [tmp_path / "a.npz", tmp_path / "a.csv", closed / "b.csv"]
    for path in paths:
        path.touch(mode=0)
    closed.chmod(0)
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith(tempfile.gettempdir() + "/"):
            parent.chmod(0o755)
    os.seteuid(65534)
    try:
        for path in paths:
            with pytest.raises(RecordingError, match=r"Permission denied.*check the path and its permissions"):
                load(path)
        for path in (closed, tmp_path):
            with pytest.raises(RecordingError, match=r"closed: cannot be read .Permission denied"):
                find_recordings([path])
        with pytest.raises(RecordingError, match="Permission denied"):
            find_recordings([closed / "b.csv"])
    finally:
        os.seteuid(0)


def test_save_always_finds_a_format(tmp_path: Path) -> None:
    even = recording(metadata={"note": "up", "file": "x"})
    uneven = recording()
    uneven.time_s[100:] += 1.0
    assert save(tmp_path / "v1.5", even) == tmp_path / "v1.5.npz"
    assert load(tmp_path / "v1.5.npz").metadata["file_"] == "x"
    saved = save(tmp_path / "walk", uneven)
    assert saved == tmp_path / "walk.csv.gz"
    same(uneven, load(saved))


def test_the_first_seconds_have_only_their_own_labels() -> None:
    whole = recording(label_intervals=np.array([[0.25, 0.6], [0.9, 1.75], [1.8, 2.0]]), activity=np.arange(200) // 100)
    part = whole.first(1.2)
    assert (len(part.time_s), len(part.imu), part.duration_s) == (96, 96, 1.2)
    assert part.steps is not None
    assert part.steps.tolist() == [0.5, 1.0]
    assert part.label_intervals is not None
    assert part.label_intervals.tolist() == [[0.25, 0.6], [0.9, 1.2]]
    assert part.activity is not None
    assert len(part.activity) == 96
    same(whole.first(1e9), whole)
    early = whole.first(0.2)
    assert (early.steps, early.steps_known, early.label_intervals) == (None, "none", None)
    assert recording(steps=None, steps_known="count").first(1.0).steps_known == "none"
    with pytest.raises(RecordingError, match=r"8 samples in 0\.1 s"):
        whole.first(0.1)


@settings(max_examples=20, deadline=None)
@given(seconds=st.floats(0.15, 3.0))
def test_a_part_can_be_saved_and_loaded(tmp_path_factory: pytest.TempPathFactory, seconds: float) -> None:
    part = recording().first(seconds)
    same(part, load(save(tmp_path_factory.mktemp("part") / "walk", part)))


def test_an_hour_loads_in_seconds(tmp_path: Path) -> None:
    save_csv(tmp_path / "hour.csv", recording(samples=360_000, rate_hz=100.0, label_intervals=None, steps_known="all"))
    begin_s = time.process_time()
    assert len(load(tmp_path / "hour.csv").imu) == 360_000
    assert time.process_time() - begin_s < 5.0


@pytest.mark.data
def test_every_real_recording_loads(recordings_dir: Path) -> None:
    paths = find_recordings([recordings_dir])
    assert len(paths) >= 3213
    for path in paths[:: max(1, len(paths) // 400)]:
        real = load(path)
        assert real.dataset == path.parent.name
        assert real.imu.shape == (len(real.time_s), 6)
        assert (real.steps is None) == (real.steps_known == "none")
