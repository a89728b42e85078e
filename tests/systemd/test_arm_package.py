"""The Arm packages' own runtimes and model on emulated cores, 64 and 32 bit; `make test-arm` makes it all."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.arm
SCRIPT = """
import json, platform, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/vendor"]
from edge.classifier import StepClassifier
model = StepClassifier(sys.argv[1] + "/models/step.tflite")
print(json.dumps([platform.machine(), model.runtime, sys.modules[model.runtime].__file__]))
"""


class Package(NamedTuple):
    """What is expected of a package; release: Debian's number, None for this machine's."""

    architecture: str
    release: str | None
    machine: str
    runtime: str
    library: str


# With litert the self-test asks for the same bytes as here; with tflite-runtime for the manifest's few LSB of them.
PACKAGES = (
    Package("arm64", None, "aarch64", "ai_edge_litert", "libpywrap_litert_common.so"),
    Package("armhf", "12", "armv7l", "tflite_runtime", "_pywrap_tensorflow_interpreter_wrapper.so"),
)


class Unpacked(NamedTuple):
    """A package's files, and the Python that runs them."""

    package: Package
    folder: Path
    python: Path

    def load_model(self) -> subprocess.CompletedProcess[str]:
        """Let the runtime in the folder prove the model in the folder."""
        command = [str(self.python), "-c", SCRIPT, str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def release_here() -> str:
    command = ["sh", "-c", '. /etc/os-release; echo "${VERSION_ID:-}"']
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module", params=PACKAGES, ids=[package.architecture for package in PACKAGES])
def unpacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    package: Package = request.param
    python = ROOT / "build" / package.architecture / "python"
    pattern = f"footfall_*+deb{package.release or release_here()}_{package.architecture}.deb"
    debs = [*(ROOT / "build" / "deb").glob(pattern)]
    if not (python.parent / ".complete").exists() or len(debs) != 1:
        pytest.skip(f"no emulated {package.architecture} or no package for it here: run `make test-arm`")
    directory = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "-x", debs[0], directory], check=True)
    return Unpacked(package, directory / "usr" / "lib" / "footfall", python)


def test_the_packed_runtime_passes_the_packed_model_s_self_test(unpacked: Unpacked) -> None:
    done = unpacked.load_model()
    assert done.returncode == 0, done.stderr
    machine, runtime, file = json.loads(done.stdout.splitlines()[-1])
    assert (machine, runtime) == (unpacked.package.machine, unpacked.package.runtime)
    assert file == f"{unpacked.folder}/vendor/{runtime}/__init__.py"


def test_a_damaged_library_shows(unpacked: Unpacked, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", unpacked.folder, tmp_path], check=True)
    library = tmp_path / "footfall" / "vendor" / unpacked.package.runtime / unpacked.package.library
    library.write_bytes(library.read_bytes()[: library.stat().st_size // 2])
    assert unpacked._replace(folder=tmp_path / "footfall").load_model().returncode != 0
