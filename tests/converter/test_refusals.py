"""A model that cannot become a step detector is refused: one line with the cause and the way out, exit code 2."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge.recording import save_npz
from emulator.gait import simulate_walk
from tests.converter.conftest import ROOT
from tests.converter.test_errors import refused
from tests.converter.test_shipped import convert

pytestmark = [pytest.mark.tf, pytest.mark.slow]

REFUSALS = {
    "gru.keras": ("layer 'memory' (GRU)", "cannot become int8", "use dilated causal Conv1D"),
    "lstm.h5": ("layer 'memory' (Bidirectional)", "use dilated causal Conv1D"),
    "gru_graph": ("loop", "use dilated causal Conv1D"),
    "writes": ("(WriteFile) reaches files", "none of it was run"),
    "reads": ("(ReadFile) reaches files",),
    "globs": ("(MatchingFiles) reaches files",),
    "prints": ("(PrintV2) reaches files",),
    "saves": ("(SaveV2) reads or writes checkpoints outside of the folder's own saver",),
    "pythons": ("(EagerPyFunc) reaches files",),
    "upsampling.keras": ("layer 'up' (UpSampling1D)", "answer at the lower rate"),
    "lambda.keras": ("layer 'doubled' (Lambda)", "write it with keras layers", "never run here"),
    "custom.keras": ("layer 'mine' (Mine)", "build the model from keras.layers"),
    "custom.h5": ("Mine", "build it from keras.layers"),
    "norm.keras": ("layer 'norm' (LayerNormalization)", "BatchNormalization"),
    "elu.keras": ("layer 'first' (Conv1D, activation elu)", "use relu"),
    "double.keras": ("layer 'first' (Conv1D) computes in float64; allowed: float32", "dtype='float32'"),
    "mixed.keras": ("layer 'first' (Conv1D) computes in mixed_float16; allowed: float32",),
    "mixed.h5": ("layer 'first' (Conv1D) computes in mixed_float16; allowed: float32",),
    "empty.keras": ("empty model", "Conv1D or Dense"),
    "nan.keras": ("'first/kernel' holds NaN or infinity in 1 of 72 values", "train it again"),
    "rank.keras": ("input 'imu' takes (32, 6, 4)", "(window, channels)", "Reshape"),
    "flat.keras": ("input 'imu' takes (192,)", "(window, channels)", "Reshape"),
    "integers.keras": ("input 'imu' takes int32", "float32"),
    "logits.keras": ("output 'head' answers", "probabilities, 0 to 1", "activation='sigmoid'"),
    "any_window.keras": ("input 'imu' takes windows of any length", "--window"),
    "two_inputs.keras": ("has 2 inputs (acc, gyr)", "Concatenate"),
    "streaming.keras": ("has 2 inputs (new, past)", "--state past=past_next"),
    "huge.keras": ("MB; allowed: 16.8 MB", "fewer filters"),
    "only.weights.h5": ("holds weights but no model", "model.save()"),
    "truncated.keras": ("truncated", "model.save()"),
    "truncated.h5": ("truncated", "model.save()"),
    "text.keras": ("is not a .keras file", "model.save()"),
    "picture.png": ("is not a model", ".keras or .h5 file or a SavedModel folder"),
    "folder": ("without saved_model.pb", "SavedModel folder"),
    "no.keras": ("No such file", "--model"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """Try to convert each bad model."""
    folder = tmp_path_factory.mktemp("bad")
    command = [sys.executable, "-m", "tests.converter.bad_models", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    for suffix, source in ((".keras", "good.keras"), (".h5", "custom.h5")):
        whole = (folder / source).read_bytes()
        (folder / f"truncated{suffix}").write_bytes(whole[: len(whole) // 2])
    (folder / "text.keras").write_text("a model, honestly", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "folder").mkdir()
    save_npz(folder / "walk.npz", simulate_walk(60, 1, sampling_rate_hz=50.0))

    def tried(name: str) -> subprocess.CompletedProcess[str]:
        return convert("--model", folder / name, "--calibration", folder / "walk.npz", "--output", folder / "y.tflite")

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(REFUSALS, pool.map(tried, REFUSALS), strict=True))
    assert not list(folder.glob("y.*")), "something was written"
    assert not list(folder.glob("written*")), "a model's own code was run"
    return found


@pytest.mark.parametrize("name", REFUSALS)
def test_it_is_refused_in_one_helpful_line(ended: dict[str, subprocess.CompletedProcess[str]], name: str) -> None:
    refused(ended[name], name, *REFUSALS[name])
