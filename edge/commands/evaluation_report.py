"""The report of `footfall evaluate --report`: every table, and pictures of what they cannot say. For hosts only."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edge import __version__
from edge.errors import UsageError
from edge.evaluate import LEGEND, flattered, incomplete, tables
from edge.imu.replay import ReplayImu
from edge.pipeline import Pipeline, detect
from edge.scoring import align

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from edge.bouts import Gate
    from edge.classifier import Answer, StepClassifier
    from edge.commands.evaluation_pictures import Picture
    from edge.recording import Recording
    from edge.scoring import ScoredRecording, Times
    from edge.types import FloatArray, Window

HOW_TO_DRAW = (
    "in a checkout `.venv/bin/pip install -e '.[report]'`, with the .deb `sudo apt-get install python3-matplotlib`"
)
REPORT = "report.md"
STRETCH_S = 20.0
"""How much of a walk is drawn: some thirty steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All there is to report.

    figures: what evaluate.summary returned. scored: every recording by its path. rotate: the seed of --rotate, if any.
    """

    figures: dict[str, Any]
    scored: dict[Path, ScoredRecording]
    classifier: StepClassifier
    rotate: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A part of a recording as the model saw it.

    acceleration: [N] its magnitude in m/s² at acceleration_s; probability: [n] the model's answers for probability_s.
    walking: [n] its probability that somebody walks, as known at walking_s, NaN from a model that does not say; gate:
    when a walk begins and ends by it.
    true_s, predicted_s: the steps within, the predictions without the data set's offset, that is, as published.
    missed_s, invented_s: those of them that match none of the others. unlabelled_s: where labels say nothing.
    """

    title: str
    acceleration_s: Times
    acceleration: FloatArray
    probability_s: Times
    probability: FloatArray
    threshold: float
    walking_s: Times
    walking: FloatArray
    gate: Gate | None
    true_s: Times
    predicted_s: Times
    missed_s: Times
    invented_s: Times
    unlabelled_s: list[tuple[float, float]]


def prepare(directory: Path) -> None:
    """Make the directory; raises UsageError if no report could be written into it."""
    if find_spec("matplotlib") is None:
        raise UsageError(f"--report draws with matplotlib, which is not installed here: {HOW_TO_DRAW}")
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--report {directory}: this is a file; name a directory, which is made if need be")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--report {directory}: cannot be written ({reason}); choose another folder") from error
    if (directory / REPORT).is_dir():
        raise UsageError(f"--report {directory}: {REPORT} in it is a folder; choose another one")


def write(directory: Path, found: Evaluation) -> None:
    """Write report.md and its pictures; what was there under these names is replaced."""
    from edge.commands.evaluation_pictures import draw  # noqa: PLC0415 - matplotlib takes half a second

    sets = align(found.scored.values())
    pictures = draw(sets, found.figures, stretches(found, [r for rows in sets.values() for r in rows]))
    for picture in pictures:
        (directory / picture.file_name).write_bytes(picture.png)
    (directory / REPORT).write_text(render(found, pictures), encoding="utf-8")


def render(found: Evaluation, pictures: list[Picture]) -> str:
    """Return the report as Markdown."""
    model = found.classifier.manifest
    turned = f", every recording turned at random (seed {found.rotate})" if found.rotate is not None else ""
    described = f"Model `{model.name}` {model.version}, sha256 `{found.classifier.sha256[:12]}`"
    recordings = "1 recording" if len(found.scored) == 1 else f"{len(found.scored)} recordings"
    method = f"through the streaming path of footfall {__version__} on {recordings}{turned}"
    parts = ["# How well it counts", f"{described}, {method}: `footfall evaluate … --report DIR`."]
    parts += [f"**{line}**" for line in incomplete(found.figures)]
    for title, grid in tables(found.figures):
        parts += [*([f"## {title}"] if title else []), _markdown(grid)]
    parts += [LEGEND, *flattered(found.figures)]
    parts += ["## Worst recordings", _markdown(_worst(found))]
    for picture in pictures:
        parts += [f"## {picture.title}", f"![{picture.title}]({picture.file_name})", picture.caption]
    return "\n\n".join(parts) + "\n"


def stretches(found: Evaluation, aligned: list[ScoredRecording]) -> list[Stretch]:
    """Return the recording of middling F1 around its middle, and the worst one where most goes wrong."""
    walks = sorted((r for r in aligned if r.f1 is not None), key=lambda r: (r.f1, r.name))
    chosen = [("typical", walks[len(walks) // 2]), ("worst", walks[0])] if walks else []
    if len(walks) == 1:
        chosen = [("the only one", walks[0])]
    cut = []
    for kind, scored in chosen:
        at_s = float(np.median(scored.true_s)) if kind == "typical" else _worst_instant_s(scored)
        title = f"{kind}: {scored.dataset} {scored.name}, F1 {100 * (scored.f1 or 0):.1f} %"
        # Two recordings may have the same name: what is aligned has kept its own labels' array.
        path = next(path for path, each in found.scored.items() if each.true_s is scored.true_s)
        cut.append(_stretch(path, found, scored, title, at_s))
    return cut


def _worst_instant_s(scored: ScoredRecording) -> float:
    """Return the middle of the stretch that holds most missed and invented steps."""
    wrong_s = np.sort(np.concatenate(scored.unmatched_s))
    if not len(wrong_s):
        return float(np.median(scored.true_s))
    inside = np.searchsorted(wrong_s, wrong_s + STRETCH_S) - np.arange(len(wrong_s))
    first = int(np.argmax(inside))
    return float(np.mean(wrong_s[first : first + inside[first]]))


def _stretch(path: Path, found: Evaluation, scored: ScoredRecording, title: str, at_s: float) -> Stretch:
    from edge.commands.evaluate import read  # noqa: PLC0415 - the command imports this module

    recording = read(path, found.rotate)
    begin_s = max(0.0, min(at_s - STRETCH_S / 2, recording.duration_s - STRETCH_S))
    traced = trace(recording, found.classifier)

    def inside(times_s: Times) -> npt.NDArray[np.bool_]:
        return (times_s >= begin_s) & (times_s < begin_s + STRETCH_S)

    def within(times_s: Times) -> Times:
        return times_s[inside(times_s)]

    missed_s, invented_s = scored.unmatched_s
    samples, answers, hops = (inside(at_s) for at_s in (recording.time_s, traced.step_s, traced.walking_s))
    return Stretch(
        title=title,
        acceleration_s=recording.time_s[samples],
        acceleration=np.linalg.norm(recording.imu[samples, :3], axis=1),
        probability_s=traced.step_s[answers],
        probability=traced.step[answers],
        threshold=found.classifier.manifest.threshold,
        walking_s=traced.walking_s[hops],
        walking=traced.walking[hops],
        gate=found.classifier.manifest.gate,
        true_s=within(scored.true_s),
        predicted_s=within(scored.predicted_s - scored.offset_s),
        missed_s=within(missed_s),
        invented_s=within(invented_s - scored.offset_s),
        unlabelled_s=_unlabelled_s(recording),
    )


def _unlabelled_s(recording: Recording) -> list[tuple[float, float]]:
    if recording.steps_known != "bouts" or recording.label_intervals is None:
        return []
    begins, ends = np.sort(recording.label_intervals, axis=0).T.tolist()
    return list(zip([0.0, *ends], [*begins, recording.duration_s], strict=True))


class Trace(NamedTuple):
    """What a model said of a recording: of each instant whether there is a step, after each hop whether it is a walk.

    step: [n] probability for step_s, s; walking: [hops] probability known at walking_s, s, NaN where it does not say.
    """

    step_s: Times
    step: FloatArray
    walking_s: Times
    walking: FloatArray


def trace(recording: Recording, classifier: StepClassifier) -> Trace:
    """Return every answer of the model to a recording."""
    model = classifier.manifest
    step_s: list[Times] = []
    step: list[FloatArray] = []
    walking_s: list[float] = []
    walking: list[float] = []

    def keep(window: Window, answer: Answer) -> None:
        behind = model.lookahead_samples / model.sampling_rate_hz
        ages_s: Times = behind + model.answer_period_s * np.arange(len(answer.step), dtype=np.float64)[::-1]
        step_s.append(window.time_s - ages_s)
        step.append(answer.step)
        walking_s.append(window.time_s)
        walking.append(np.nan if answer.walking is None else answer.walking)

    pipeline = Pipeline(classifier, source_rate_hz=recording.sampling_rate_hz, observe=keep)
    for _ in detect(ReplayImu(recording, speed=None), pipeline):
        pass
    return Trace(
        step_s=np.concatenate([np.empty(0), *step_s]),
        step=np.concatenate([np.empty(0, np.float32), *step]),
        walking_s=np.array(walking_s),
        walking=np.array(walking, np.float32),
    )


def _worst(found: Evaluation) -> list[list[str]]:
    names = [(row["dataset"], row["worst_recording"], row["worst_f1_250ms"]) for row in found.figures["datasets"]]
    lines = [[dataset, name, f"{100 * f1:.1f}"] for dataset, name, f1 in names if name is not None]
    return [["data set", "recording", "F1@.25 %"], *lines]


def _markdown(grid: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(grid[0]) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in grid]
    return "\n".join(f"| {' | '.join(line)} |" for line in [escaped[0], rule, *escaped[1:]])
