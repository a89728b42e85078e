"""The same bytes on x86-64 and on an emulated Raspberry Pi 4 core, under the runtime of the device.

`make test-arm` makes the arm64 Python (scripts/arm64-root) and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.runtime_proof import job_for
from converter.runtimes import Job, Probed, probe
from converter.steps_level import collected
from converter.verify import Int8Model
from edge.manifest import embedded_manifest, parse_manifest
from emulator.gait import simulate_walk
from tests.converter.conftest import ROOT
from tests.converter.proving import with_other_weight

if TYPE_CHECKING:
    from converter.spec import Spec

pytestmark = pytest.mark.arm
PYTHON = ROOT / "build" / "arm64" / "python"
RANDOM, WALK = 200, 100


@pytest.fixture(scope="module")
def job(shipped_flatbuffer: bytes, shipped_spec: Spec) -> Job:
    """Return the self-test, windows of a walk, and noise over the whole int8 range."""
    manifest = parse_manifest(embedded_manifest(shipped_flatbuffer))
    walk = np.stack(collected(simulate_walk(60.0, seed=5), manifest).windows[50 : 50 + WALK])
    assert walk.shape[2] == len(shipped_spec.channels)
    known, _ = job_for(shipped_flatbuffer, walk)
    noise = np.random.default_rng(7).integers(-128, 128, (RANDOM, *known.inputs.shape[1:])).astype(np.int8)
    inputs = np.concatenate([known.inputs, noise])
    return Job(shipped_flatbuffer, inputs, np.ones(len(inputs), bool), repeat=3)


@pytest.fixture(scope="module")
def arm(job: Job) -> Probed:
    if not (PYTHON.parent / ".complete").exists():
        pytest.skip("no emulated arm64 here: run `make test-arm`")
    return probe([str(PYTHON)], job, name="arm64")


def test_it_is_the_device_s_runtime_on_the_device_s_machine(arm: Probed) -> None:
    assert arm.problem is None
    assert arm.facts["machine"] == "aarch64"
    assert arm.facts["runtime"] == "ai-edge-litert 2.3.0"


def test_every_byte_is_that_of_x86(arm: Probed, job: Job) -> None:
    here = probe([sys.executable], job, name="here")
    assert here.facts["machine"] == "x86_64"
    assert here.outputs is not None
    assert arm.outputs is not None
    assert len(here.outputs) == 3 + WALK + RANDOM
    assert here.outputs.std() > 5, "a model that always answers the same would prove nothing"
    assert np.array_equal(arm.outputs, here.outputs)


def test_the_self_test_passes_there(arm: Probed, shipped_flatbuffer: bytes) -> None:
    _, expected = job_for(shipped_flatbuffer, np.empty((0, 135, 3), np.float32))
    assert arm.outputs is not None
    assert [answer.tobytes() for answer in arm.outputs[: len(expected)]] == expected


def test_a_changed_weight_shows_there(arm: Probed, job: Job) -> None:
    few = Job(with_other_weight(job.flatbuffer), job.inputs[:3], job.resets[:3], repeat=1)
    other = probe([str(PYTHON)], few, name="arm64")
    assert other.outputs is not None
    assert arm.outputs is not None
    assert not np.array_equal(other.outputs, arm.outputs[:3])
    assert np.array_equal(
        other.outputs[:, 0], np.stack([Int8Model(few.flatbuffer).invoke(x) for x in few.inputs])[:, 0]
    )
