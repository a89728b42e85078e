"""A conversion writes one whole set of files or nothing, and never over what is not its own."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from converter.__main__ import main
from converter.errors import ConversionError
from converter.output import _alone, check_output, put
from converter.variants import INT8, INT16X8
from edge.errors import UsageError
from tests.converter.conftest import SHIPPED

NAMES = ("y.report-walk.png", "y.report.json", "y.report.md", "y.json", "y.tflite")


def check(output: Path, *, force: bool = False) -> None:
    check_output(output, (INT8, INT16X8), force=force)


def accept(_: Path) -> None:
    """Accept anything."""


def test_an_empty_folder_is_fine_and_stays_empty(tmp_path: Path) -> None:
    check(tmp_path / "y.tflite")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_refused() -> None:
    with pytest.raises(UsageError, match=r"but the folder /proc cannot be written to \(.+\); name another one"):
        check(Path("/proc/y.tflite"))


def test_it_is_refused_before_the_model_is_looked_at(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "no.keras").write_bytes(b"no model")
    assert main(["--model", str(tmp_path / "no.keras"), "--calibration", "/", "--output", "/proc/y.tflite"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "y.tflite").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check(tmp_path / "y.tflite")


@pytest.mark.parametrize("text", ['{"class_name": "Functional"}', "[]", "not JSON", '{"schema_version": 1}'])
@pytest.mark.parametrize("name", ["y.json", "y.int16x8.json"])
def test_a_foreign_json_is_not_replaced_unless_forced(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"{name} is there already and no manifest of Footfall; .*--force"):
        check(tmp_path / "y.tflite")
    check(tmp_path / "y.tflite", force=True)


def test_a_manifest_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "y.json").write_bytes(SHIPPED.with_suffix(".json").read_bytes())
    check(tmp_path / "y.tflite")


def test_a_set_is_put_in_place_and_old_pictures_of_this_output_alone_go(tmp_path: Path) -> None:
    # The name must not work as a pattern: [y] would match y.
    output = tmp_path / "[y].tflite"
    stale, other = tmp_path / "[y].report-old.png", tmp_path / "y.report-walk.png"
    for path in (stale, other):
        path.write_bytes(b"x")
    put(output, {"[y].report-walk.png": b"walk", "[y].tflite": b"model"}, accept)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "y.report-walk.png": b"x",
        "[y].report-walk.png": b"walk",
        "[y].tflite": b"model",
    }


def test_nothing_is_written_when_the_device_would_refuse_it(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        assert (folder / "y.tflite").read_bytes() == b"new"
        raise ConversionError("refused")

    (tmp_path / "y.json").write_bytes(b"old")
    with pytest.raises(ConversionError):
        put(tmp_path / "y.tflite", dict.fromkeys(NAMES, b"new"), refuse)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def _put_often(output: Path, mark: bytes) -> None:
    for _ in range(100):
        put(output, dict.fromkeys(NAMES, mark), accept)


def test_of_conversions_at_once_one_whole_set_is_there_at_any_time(tmp_path: Path) -> None:
    output = tmp_path / "y.tflite"
    put(output, dict.fromkeys(NAMES, b"a"), accept)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_put_often, args=(output, mark)) for mark in (b"a", b"b")]
    for worker in workers:
        worker.start()
    seen: set[frozenset[bytes]] = set()
    while any(worker.is_alive() for worker in workers):
        with _alone(tmp_path):
            seen.add(frozenset((tmp_path / name).read_bytes() for name in NAMES))
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert seen == {frozenset({b"a"}), frozenset({b"b"})}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_the_shipped_manifest_is_known_for_one(tmp_path: Path) -> None:
    beside = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    (tmp_path / "y.json").write_text(json.dumps({"task": beside["task"]}), encoding="utf-8")
    with pytest.raises(UsageError, match="no manifest of Footfall"):
        check(tmp_path / "y.tflite")
