"""The same bytes on x86-64 and on an emulated Raspberry Pi 4 core, under the runtime of the device.

`make test-arm` makes the arm64 Python (scripts/arm64-root) and runs this; elsewhere it is skipped.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from converter.runtime_proof import job_for
from converter.runtimes import Job, Probed, probe
from converter.shape import CLASSES, HOP_SAMPLES
from converter.steps_level import collected
from edge.manifest import embedded_manifest, parse_manifest
from emulator.gait import simulate_walk
from tests.converter.conftest import ROOT
from tests.converter.proving import opened, with_other_weight

if TYPE_CHECKING:
    from converter.spec import Spec

pytestmark = pytest.mark.arm
PYTHON = ROOT / "build" / "arm64" / "python"
WALK_HOPS, NOISE_HOPS = 300, 300


@pytest.fixture(scope="module")
def job(shipped_flatbuffer: bytes, shipped_spec: Spec) -> Job:
    """Return the self-test, a walk, and noise over the whole int8 range, each from a fresh state."""
    manifest = parse_manifest(embedded_manifest(shipped_flatbuffer))
    walk = np.stack(collected(simulate_walk(60.0, seed=5), manifest).windows[:WALK_HOPS])
    assert walk.shape[2] == len(shipped_spec.channels)
    known, _ = job_for(shipped_flatbuffer, walk[None])
    noise = np.random.default_rng(7).integers(-128, 128, (NOISE_HOPS, *known.inputs.shape[1:])).astype(np.int8)
    resets = np.concatenate([known.resets, np.arange(NOISE_HOPS) == 0])
    assert resets.sum() == len(manifest.self_test.cases) + 2
    return replace(known, inputs=np.concatenate([known.inputs, noise]), resets=resets, repeat=3)


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
    assert len(here.outputs) == len(job.inputs) > WALK_HOPS + NOISE_HOPS
    spread = here.outputs.reshape(-1, len(CLASSES)).std(axis=0)
    assert spread.min() > 5, "a head that always answers the same would prove nothing"
    assert np.array_equal(arm.outputs, here.outputs)


def test_the_self_test_passes_there(arm: Probed, shipped_flatbuffer: bytes) -> None:
    _, expected = job_for(shipped_flatbuffer, np.empty((0, 1, HOP_SAMPLES, 3), np.float32))
    assert arm.outputs is not None
    assert arm.outputs.tobytes().startswith(b"".join(expected))


def test_a_changed_weight_shows_there(arm: Probed, job: Job) -> None:
    first = slice(0, int(np.flatnonzero(job.resets)[1]))
    spoilt = with_other_weight(job.flatbuffer)
    few = replace(job, flatbuffer=spoilt, inputs=job.inputs[first], resets=job.resets[first])
    other = probe([str(PYTHON)], few, name="arm64")
    assert other.outputs is not None
    assert arm.outputs is not None
    assert not np.array_equal(other.outputs, arm.outputs[first])
    model = opened(few.flatbuffer)
    assert np.array_equal(other.outputs, np.stack([model.invoke(hop) for hop in few.inputs]))
