"""The TensorFlow process may abort, crash or hang: each is one line, and the program lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converter.child import BAD_INPUT, last_words, run_child
from converter.errors import ConversionError
from edge.errors import ModelError, UsageError
from tests.converter.conftest import ROOT

JOB = {"job": "any", "model": "mine.keras"}


def run(code: str, timeout_s: float = 30.0) -> str:
    with run_child(JOB, timeout_s=timeout_s, program=("-c", f"import json, os, sys, time\n{code}")) as outcome:
        return outcome.read_text(encoding="utf-8")


WRITE = "job = json.load(open(sys.argv[1])); open(job[{!r}], 'w').write({!r})"


def test_it_brings_back_what_the_process_wrote() -> None:
    assert run(WRITE.format("outcome", "fine")) == "fine"


def test_an_abort_is_one_line_with_the_last_words() -> None:
    with pytest.raises(ConversionError) as raised:
        run("os.write(2, b'LLVM ERROR: no such thing\\n'); os.abort()")
    assert "SIGABRT" in str(raised.value)
    assert "LLVM ERROR: no such thing" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_segmentation_fault_too_and_no_layer_is_blamed_at_once() -> None:
    with pytest.raises(
        ConversionError, match=r"mine\.keras: .*SIGSEGV.*: it said nothing; it crashed: run it once more"
    ):
        run("os.kill(os.getpid(), 11)")


LOG = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795428081.540224   26301 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1795428081.5   26301 cpu_feature_guard.cc:227] This TensorFlow binary is optimized.",
    "To enable the following instructions: AVX2 FMA, rebuild TensorFlow with the appropriate compiler flags.",
    "2026-05-09 07:35:25.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
    "WARNING:absl:You are saving your model as an HDF5 file",
)


def test_the_log_of_a_library_is_not_taken_for_its_last_words() -> None:
    assert last_words("\n".join(["Fatal: this is it", *LOG, ""])) == "Fatal: this is it"
    assert last_words("\n".join(LOG)) == "it said nothing"
    assert last_words("E0000 00:00:1 26301 x.cc:1] failed").startswith("E0000")


SLEEPER = "import os, sys, time; print(os.getpid(), *sys.argv[1:], flush=True); time.sleep(60)"
PARENT = """
import subprocess, sys, time
from converter.child import lasting_as_long_as_this
subprocess.Popen([sys.executable, *lasting_as_long_as_this("sleeper"), "an argument"])
time.sleep(60)
"""


def _is_running(pid: int) -> bool:
    try:
        # The state stands behind the name in brackets; an orphan may wait for its burial as a zombie.
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
def test_the_process_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, "-c", PARENT], env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid, argument = parent.stdout.readline().decode().rstrip().split(" ", 1)
        assert argument == "an argument"
        assert _is_running(int(pid))
        parent.kill()
    deadline_s = time.monotonic() + 10
    while _is_running(int(pid)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not _is_running(int(pid))


def test_a_parent_that_has_ended_already_is_noticed() -> None:
    command = [sys.executable, "-m", "converter.start", "999999999", "this"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the converter has ended\n")


def test_ctrl_c_while_it_still_imports_is_no_traceback(tmp_path: Path) -> None:
    # Whoever runs the tests in the background of a shell has them ignore Ctrl-C, which the child inherits.
    listens = "import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "numpy.py").write_text(f"{listens}os.kill(os.getpid(), signal.SIGINT)\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "converter"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "footfall-convert: stopped; nothing was written\n")


def test_a_process_that_hangs_is_ended() -> None:
    with pytest.raises(ConversionError, match=r"more than 0\.5 s and was ended"):
        run("time.sleep(60)", timeout_s=0.5)


def test_bad_input_is_told_apart_from_failed_work() -> None:
    complain = WRITE.format("complaint", "the sentence")
    with pytest.raises(ModelError, match=r"^the sentence$"):
        run(f"{complain}; sys.exit({BAD_INPUT})")
    with pytest.raises(ConversionError, match="the conversion failed: the sentence"):
        run(f"{complain}; sys.exit(1)")


def test_without_tensorflow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.child.find_spec", lambda _: None)
    with (
        pytest.raises(UsageError, match="no TensorFlow here: `make convert` brings it"),
        run_child({"job": "quantize", "model": "x.keras"}),
    ):
        pass
