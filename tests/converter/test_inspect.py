"""`footfall-convert inspect FILE`: what is in the file, and one line when it cannot be read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from converter.__main__ import main
from converter.flatfile import read_flatbuffer
from converter.inspect_command import inspect
from converter.runtime_proof import state_pairs
from edge.classifier import MAX_MODEL_BYTES
from edge.errors import ModelError, UsageError
from tests.converter.conftest import SHIPPED, WINDOW
from tests.converter.proving import changed, with_float_output, with_manifest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def text() -> str:
    return inspect(SHIPPED.with_suffix(".tflite")).text


def line_of(text: str, *words: str) -> str:
    return next(line for line in text.splitlines() if all(word in line for word in words))


def test_manifest_operators_and_tensors_are_there(text: str) -> None:
    assert "yes: every tensor" in line_of(text, "integer")
    assert "57,608" in line_of(text, "MACs per invoke")
    assert "15 x CONV_2D v3" in line_of(text, "operators")
    assert line_of(text, "sampling_rate_hz").split() == ["sampling_rate_hz", "25"]
    assert "acc_x [m/s^2], acc_y" in line_of(text, "channels")
    assert line_of(text, "classes").split(maxsplit=1) == ["classes", "step, walking"]
    assert "backfill_s" in line_of(text, "walking", "on")
    assert "3 cases" in line_of(text, "self_test")
    assert line_of(text, "CONV_2D + RELU", "1x1x2x28", "1,176").split()[-1] == "stem_relu"
    assert line_of(text, "1x2x3", "input").split()[1:3] == ["1x2x3", "INT8"]


def test_every_state_is_named_with_its_source(text: str, shipped_flatbuffer: bytes) -> None:
    rows = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.split()[:1] == ["state"]]
    assert rows == [f"{given} <- {answer}" for given, answer in state_pairs(shipped_flatbuffer)]
    assert len(rows) == 12


def test_a_window_model_reads_as_before() -> None:
    text = inspect(WINDOW.with_suffix(".tflite")).text
    assert "1,266,096" in line_of(text, "MACs per invoke")
    assert line_of(text, "CONV_2D + RELU", "65,016").split()[-1] == "stem_relu"
    assert line_of(text, "1x135x3", "input").split()[:3] == ["0", "1x135x3", "INT8"]
    assert "classes" not in text


def test_every_tensor_and_operator_has_its_row(text: str, shipped_flatbuffer: bytes) -> None:
    model = read_flatbuffer(shipped_flatbuffer)
    operators, tensors = (part.splitlines()[2:] for part in text.split("\n\n")[2:])
    assert [row.split()[:2] for row in operators] == [[str(n), each.name] for n, each in enumerate(model.operators)]
    assert [row.split()[0] for row in tensors] == list(map(str, range(len(model.tensors))))


def test_a_float_file_is_not_called_integer(tmp_path: Path, shipped_flatbuffer: bytes) -> None:
    path = tmp_path / "float.tflite"
    path.write_bytes(with_float_output(shipped_flatbuffer))
    assert "NO: operator DEQUANTIZE uses the float tensor 'sneaked_in'" in line_of(inspect(path).text, "integer")


def test_a_file_without_a_manifest_is_shown_and_the_device_s_answer_foretold(
    tmp_path: Path, shipped_flatbuffer: bytes
) -> None:
    def strip(model: object) -> None:
        model.metadata = []  # type: ignore[attr-defined]

    path = tmp_path / "bare.tflite"
    path.write_bytes(changed(shipped_flatbuffer, strip))
    text = inspect(path).text
    assert "the device would refuse this file" in text
    assert "CONV_2D" in text


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.tflite: cannot be read"):
        inspect(tmp_path / "absent.tflite")
    (tmp_path / "text.tflite").write_text("hello", encoding="utf-8")
    with pytest.raises(ModelError, match=r"text\.tflite: is not a \.tflite"):
        inspect(tmp_path / "text.tflite")
    whole = SHIPPED.with_suffix(".tflite").read_bytes()
    for length in range(8, len(whole), 997):
        (tmp_path / "cut.tflite").write_bytes(whole[:length])
        with pytest.raises(ModelError):
            inspect(tmp_path / "cut.tflite")


def test_the_command_prints_it_or_fails_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["inspect", str(SHIPPED.with_suffix(".tflite"))]) == 0
    assert "CONV_2D" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "absent.tflite")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": [{"nam": "acc_x"}]},
        {"channels": 3},
        {"normalization": []},
        {"state": [{"input": "a"}]},
        {"trained_on": ["x"]},
        {"self_test": None},
        {"self_test": {"cases": 1}},
        {"metrics": 1.5},
    ],
)
def test_a_manifest_that_makes_no_sense_is_shown_as_it_is(
    tmp_path: Path, shipped_flatbuffer: bytes, fields: dict[str, object]
) -> None:
    path = tmp_path / "odd.tflite"
    path.write_bytes(with_manifest(shipped_flatbuffer, **fields))
    text = inspect(path).text
    assert "manifest: damaged" in text
    assert '"sampling_rate_hz": 25.0' in text
    assert "CONV_2D" in text


def test_a_damaged_file_is_shown_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shipped_flatbuffer: bytes
) -> None:
    # A weight: damage to the structure cannot be shown.
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(shipped_flatbuffer, 0))
    weights = max(
        (bytes(buffer.data) for buffer in model.buffers if buffer.data is not None and buffer.data[0] != ord("{")),
        key=len,
    )
    damaged = bytearray(shipped_flatbuffer)
    damaged[shipped_flatbuffer.index(weights) + len(weights) // 2] ^= 1
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged)
    assert main(["inspect", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("DAMAGED: ")
    assert "CONV_2D" in captured.out
    assert captured.err.count("\n") == 1
    assert "damaged.tflite: is damaged" in captured.err


def test_what_is_too_large_or_no_file_is_refused_unread(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with (tmp_path / "large.tflite").open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)
    for path, message in (
        (tmp_path / "large.tflite", "has 16,777,217 bytes; allowed: 16,777,216"),
        ("/dev/zero", "is no regular file"),
        (tmp_path, "is no regular file"),
    ):
        assert main(["inspect", str(path)]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1


def test_no_flipped_bits_end_in_a_traceback(tmp_path: Path, shipped_flatbuffer: bytes) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.tflite"
    for _ in range(150):
        flipped = np.frombuffer(shipped_flatbuffer, np.uint8).copy()
        # The weights are most of the file; the tables around them are what can confuse.
        where = rng.integers(0, len(flipped), 4) if rng.random() < 0.5 else rng.integers(0, 3000, 4)
        flipped[where] = rng.integers(0, 256, 4)
        path.write_bytes(flipped.tobytes())
        with contextlib.suppress(ModelError):
            inspect(path)


def test_a_name_cannot_steer_the_terminal(tmp_path: Path, shipped_flatbuffer: bytes) -> None:
    path = tmp_path / "steer.tflite"
    path.write_bytes(with_manifest(shipped_flatbuffer, name="step\x1b[2J"))
    text = inspect(path).text
    assert "\x1b" not in text
    assert "step�[2J" in text
