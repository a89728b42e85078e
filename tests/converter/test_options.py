"""The command line and the spec file say together what a model means; the command line wins."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from converter.options import command_of, document_of, parser
from converter.variants import parse_variants, variant_path
from edge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def said(folder: Path, *arguments: str) -> dict[str, Any]:
    return document_of(parser().parse_args(["--model", str(folder / "mine.keras"), *arguments]))


def test_nothing_said_is_an_empty_document(tmp_path: Path) -> None:
    assert said(tmp_path) == {}


def test_the_command_line_wins_over_the_spec_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("hop_samples: 4\nthreshold: 0.4\n", encoding="utf-8")
    assert said(tmp_path, "--threshold", "0.6") == {"hop_samples": 4, "threshold": 0.6}


def test_lists_ranges_and_states(tmp_path: Path) -> None:
    found = said(
        tmp_path, "--channels", "acc_x, acc_z", "--classes", "none,step", "--input-range", "4", "--state", "a=b,c=d"
    )
    assert found["channels"] == ["acc_x", "acc_z"]
    assert found["classes"] == ["none", "step"]
    assert found["input_range"] == [-4.0, 4.0]
    assert found["state"] == [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]


def test_units_of_g_scale_the_accelerometer_alone(tmp_path: Path) -> None:
    assert said(tmp_path, "--units", "g") == {"normalization": {"scale": [9.80665, 1.0]}}
    named = said(tmp_path, "--units", "g", "--channels", "acc_x,gyr_z")
    assert named["normalization"] == {"scale": [9.80665, 1.0]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--state", "a-b"), "--state is 'a-b'; allowed: input=output"),
        (("--input-range", "1,2,3"), "--input-range is '1,2,3'; allowed: 1 or 2 numbers"),
        (("--normalization-scale", "big"), "--normalization-scale is 'big'; allowed: numbers"),
        (("--units", "g", "--normalization-scale", "2"), "give one of them"),
    ],
)
def test_what_cannot_be_meant_is_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        said(tmp_path, *arguments)


def test_variants_come_in_one_order_and_each_has_its_file(tmp_path: Path) -> None:
    assert parse_variants("float16, int8") == ("int8", "float16")
    names = [variant_path(tmp_path / "y.tflite", variant).name for variant in parse_variants("int8,int16x8")]
    assert names == ["y.tflite", "y.int16x8.tflite"]
    with pytest.raises(UsageError, match="allowed: int8, int16x8, float16, dynamic_range"):
        parse_variants("int4")


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-3", "soon"])
def test_a_timeout_is_a_time(capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args([f"--timeout={seconds}"])
    assert "is not a number of seconds above 0" in capsys.readouterr().err


def test_help_tells_of_inspect() -> None:
    assert "footfall-convert inspect FILE.tflite" in " ".join(parser().format_help().split())


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ((), "make convert"),
        (("--model", "/home/me/my net.keras"), "make convert MODEL='my net.keras'"),
        (("--calibration", "../walks", "--force"), "make convert CALIBRATION=../walks FORCE=1"),
        (
            ("--model", "x.keras", "--state", "a=b,c=d", "--window", "48", "--input-range=-4,4", "--any-orientation"),
            "make convert MODEL=x.keras ARGS='--window=48 --input-range=-4,4 --any-orientation --state=a=b,c=d'",
        ),
        (("--spec", "x.yaml", "--sampling-rate-hz", "25"), "make convert SPEC=x.yaml ARGS=--sampling-rate-hz=25"),
    ],
)
def test_the_command_that_makes_the_files_again(arguments: tuple[str, ...], command: str) -> None:
    options = parser().parse_args(arguments)
    assert command_of(options) == command
    again = [word.removeprefix("ARGS=") for word in shlex.split(command) if word.startswith("ARGS=")]
    parsed = vars(parser().parse_args(shlex.split(again[0]) if again else []))
    variables = ("model", "calibration", "output", "spec", "evaluate", "variants", "force")
    assert all(parsed[key] == value for key, value in vars(options).items() if key not in variables)
