"""The TensorFlow process may abort, crash or hang: each is one line, and the program lives."""

from __future__ import annotations

import pytest

from converter.child import BAD_INPUT, run_child
from converter.errors import ConversionError
from edge.errors import ModelError

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


def test_a_segmentation_fault_too() -> None:
    with pytest.raises(ConversionError, match=r"mine\.keras: .*SIGSEGV"):
        run("os.kill(os.getpid(), 11)")


def test_a_process_that_hangs_is_ended() -> None:
    with pytest.raises(ConversionError, match=r"more than 0\.5 s and was ended"):
        run("time.sleep(60)", timeout_s=0.5)


def test_bad_input_is_told_apart_from_failed_work() -> None:
    complain = WRITE.format("complaint", "the sentence")
    with pytest.raises(ModelError, match=r"^the sentence$"):
        run(f"{complain}; sys.exit({BAD_INPUT})")
    with pytest.raises(ConversionError, match="the conversion failed: the sentence"):
        run(f"{complain}; sys.exit(1)")
