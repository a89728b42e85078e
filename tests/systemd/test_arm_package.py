"""The arm64 package's own runtime and model on an emulated Raspberry Pi 4; `make test-arm` makes both and runs this."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.arm
PYTHON = ROOT / "build" / "arm64" / "python"
SCRIPT = """
import json, platform, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/vendor"]
from edge.classifier import StepClassifier
model = StepClassifier(sys.argv[1] + "/models/step.tflite")
import ai_edge_litert
print(json.dumps([platform.machine(), model.runtime, ai_edge_litert.__file__]))
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    codename = subprocess.run(
        ["sh", "-c", '. /etc/os-release; echo "${VERSION_ID:-}"'], capture_output=True, text=True, check=True
    ).stdout.strip()
    debs = [*(ROOT / "build" / "deb").glob(f"footfall_*+deb{codename}_arm64.deb")]
    if not (PYTHON.parent / ".complete").exists() or len(debs) != 1:
        pytest.skip("no emulated arm64 or no arm64 package here: run `make test-arm`")
    directory = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "-x", debs[0], directory], check=True)
    return directory / "usr" / "lib" / "footfall"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PYTHON), "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=False)


def test_the_packed_runtime_answers_the_packed_model_s_self_test_byte_for_byte(unpacked: Path) -> None:
    done = run(unpacked)
    assert done.returncode == 0, done.stderr
    machine, runtime, file = json.loads(done.stdout.splitlines()[-1])
    assert (machine, runtime) == ("aarch64", "ai_edge_litert")
    assert file == f"{unpacked}/vendor/ai_edge_litert/__init__.py"


def test_a_damaged_library_shows(unpacked: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", unpacked, tmp_path], check=True)
    library = tmp_path / "footfall" / "vendor" / "ai_edge_litert" / "libpywrap_litert_common.so"
    library.write_bytes(library.read_bytes()[: library.stat().st_size // 2])
    assert run(tmp_path / "footfall").returncode != 0
