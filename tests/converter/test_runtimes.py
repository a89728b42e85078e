"""A file is really loaded by every runtime it claims, in an environment of its own; what cannot be is said so."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter import runtimes
from converter.runtime_proof import job_for, main, oldest, row, runtime_objections, runtime_rows
from converter.runtimes import ENVIRONMENTS, Environment, Job, Probed, made, probe
from converter.shape import CLASSES, HOP_SAMPLES
from edge.manifest import embedded_manifest, parse_manifest
from tests.converter.conftest import SHIPPED
from tests.converter.proving import HOPS, opened, windows_for, with_other_weight

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def pythons() -> dict[str, Path]:
    """Return the environments' Pythons; skips where pip cannot make them."""
    found = {environment.name: made(environment) for environment in ENVIRONMENTS}
    for name, python in found.items():
        if isinstance(python, str):
            pytest.skip(f"{name} cannot be made here: {python}")
    return {name: python for name, python in found.items() if not isinstance(python, str)}


@pytest.fixture(scope="module")
def job(shipped_flatbuffer: bytes) -> Job:
    return job_for(shipped_flatbuffer, windows_for(shipped_flatbuffer, 4))[0]


def test_the_shipped_file_gives_the_same_bytes_in_every_litert(pythons: dict[str, Path], job: Job) -> None:
    found = {name: probe([str(python)], job, name=name) for name, python in pythons.items()}
    assert all(each.loads for each in found.values()), [each.problem for each in found.values()]
    newest = found["ai-edge-litert-2.3.0"]
    assert newest.facts["runtime"] == "ai-edge-litert 2.3.0"
    assert np.array_equal(found["ai-edge-litert-1.2.0"].outputs, newest.outputs)  # type: ignore[arg-type]
    assert found["ai-edge-litert-1.2.0"].facts["runtime"] == "ai-edge-litert 1.2.0"


def test_a_stream_s_state_is_reset_where_a_sequence_begins(shipped_flatbuffer: bytes) -> None:
    windows = windows_for(shipped_flatbuffer, 4)
    job, expected = job_for(shipped_flatbuffer, windows)
    hops = [len(answer) // (HOP_SAMPLES * len(CLASSES)) for answer in expected] + [HOPS] * 4
    assert job.resets.tolist() == [number == 0 for length in hops for number in range(length)]
    found = probe([sys.executable], job, name="here")
    assert found.outputs is not None
    answers = found.outputs.reshape(-1, HOP_SAMPLES, len(CLASSES))
    assert answers[: -4 * HOPS].tobytes() == b"".join(expected)
    model = opened(shipped_flatbuffer)
    real = model.dequantised(answers[-4 * HOPS :]).reshape(4, -1, *answers.shape[1:])
    assert np.array_equal(real, model.probabilities(windows).reshape(real.shape))


@pytest.mark.usefixtures("pythons")
@pytest.mark.parametrize("name", ["shipped_flatbuffer", "window_flatbuffer"])
def test_rows_tell_what_each_runtime_did(request: pytest.FixtureRequest, name: str) -> None:
    flatbuffer = request.getfixturevalue(name)
    windows = windows_for(flatbuffer, 40)
    answers = opened(flatbuffer).probabilities(windows)
    rows = {each["name"]: each for each in runtime_rows(flatbuffer, windows)}
    assert oldest(list(rows.values())) == "tflite-runtime-2.14.0"
    tflite, litert = rows["tflite-runtime-2.14.0"], rows["ai-edge-litert-1.2.0"]
    # An answer about noise may be far off where a state carries small differences on; most must be the same.
    assert 0 < tflite["largest_difference"] <= 32
    assert tflite["other_answers"] < 0.2 * tflite["answers"]
    tolerance_lsb = parse_manifest(embedded_manifest(flatbuffer)).self_test.tolerance_lsb
    assert 0 < tflite["self_test_off_lsb"] <= tolerance_lsb
    assert tflite["numpy"].startswith("1.")
    assert (litert["other_answers"], litert["self_test_off_lsb"]) == (0, 0)
    assert litert["answers"] == answers.size + sum(map(len, job_for(flatbuffer, windows)[1]))
    for each in rows.values():
        assert 0.5 < each["invoke_us"] < 100_000
        assert 10e6 < each["peak_rss_bytes"] < 500e6
    assert runtime_objections("int8", list(rows.values())) == []


@pytest.mark.usefixtures("pythons")
def test_a_changed_weight_fails_the_self_test_everywhere(shipped_flatbuffer: bytes) -> None:
    rows = runtime_rows(with_other_weight(shipped_flatbuffer), windows_for(shipped_flatbuffer, 2))
    assert [each["self_test_passes"] for each in rows] == [False, False, False]
    assert oldest(rows) is None
    objections = runtime_objections("int8", rows)
    assert len(objections) == 3
    assert "self-test" in objections[0]
    assert runtime_objections("float16", rows) == []


def test_a_damaged_file_is_a_failure_not_an_omission(pythons: dict[str, Path], job: Job) -> None:
    broken = Job(job.flatbuffer[:20_000], job.inputs, job.resets)
    found = probe([str(pythons["ai-edge-litert-2.3.0"])], broken, name="litert")
    assert found.tested
    assert not found.loads
    objections = runtime_objections("int8", [row(found, None, [], 0)])
    assert objections
    assert "does not load in litert" in objections[0]


def test_what_pip_cannot_make_is_not_tested_and_never_passes(tmp_path: Path) -> None:
    wheel = tmp_path / "absent-1.0-py3-none-any.whl"
    absent = Environment("absent", (str(wheel),), ("python3.11", "python3.12", "python3.13"))
    problem = made(absent, tmp_path)
    assert isinstance(problem, str)
    assert wheel.name in problem
    assert not (tmp_path / "absent").exists()
    found = row(Probed("absent", tested=False, problem=problem), None, [], 0)
    assert (found["tested"], found["loads"]) == (False, False)
    assert runtime_objections("int8", [found]) == []
    assert oldest([found]) is None


def test_a_machine_without_the_python_says_which_one(tmp_path: Path) -> None:
    assert made(Environment("x", (), ("python2.99",)), tmp_path) == "no python2.99 on this machine"


def test_an_environment_is_made_once(pythons: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_complaint", lambda command: pytest.fail(f"ran {command}"))
    assert [made(environment) for environment in ENVIRONMENTS] == list(pythons.values())


def test_a_runtime_that_hangs_is_ended(job: Job, tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    sleeper.chmod(0o755)
    found = probe([str(sleeper)], job, name="sleeper", timeout_s=0.5)
    assert (found.loads, found.problem) == (False, "took more than 0.5 s")


def test_a_runtime_that_crashes_is_named_with_its_signal(job: Job, tmp_path: Path) -> None:
    crasher = tmp_path / "crasher"
    crasher.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="utf-8")
    crasher.chmod(0o755)
    found = probe([str(crasher)], job, name="crasher")
    assert found.problem is not None
    assert "SIGSEGV" in found.problem


@pytest.mark.usefixtures("pythons")
def test_the_command_of_the_report_prints_a_line_per_runtime(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SHIPPED.with_suffix(".tflite"))]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [environment.name for environment in ENVIRONMENTS]
