"""`python -m converter.baselines`: the counters beside the shipped model, on people that neither was made with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.baselines.parameters import FILE, counters
from converter.baselines.people import Sample, is_test, samples, scored
from converter.dataset import FIRST_TEST_WISDM_SUBJECT
from edge.classifier import StepClassifier
from edge.commands.replay import Replay, event_json
from edge.errors import FootfallError
from edge.evaluate import scored_recording
from edge.progress import Progress
from edge.recording import load
from edge.scoring import score

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.scoring import ScoredRecording

    Rows = dict[str, list[dict[str, Any]]]
    """The rows of edge.scoring by counter."""

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "step.tflite"
PAGE = ROOT / "docs" / "baselines.md"
COMMAND = "python -m converter.baselines"
WALKS = {
    "awinda_hand": "hand (awinda 7, 8)",
    "oxford_val": "phone (oxford_val)",
    "ipol_gait": "lower back (ipol ≥ s14)",
}
RESTS = {
    "wisdm_watch": f"watch (WISDM ≥ {FIRST_TEST_WISDM_SUBJECT})",
    "wisdm_phone": f"phone (WISDM ≥ {FIRST_TEST_WISDM_SUBJECT})",
    "sisfall_waist": "waist (sisfall SE)",
}
WISDM = ("wisdm_watch", "wisdm_phone")
COMPARED = {"band": "band-pass peaks", "brajdic": "Brajdic & Harle", "firmware": "firmware counter, gated"}
SHIPPED = "**Footfall** (shipped int8 file)"


def rows(recordings: Sequence[Sample], classifier: StepClassifier) -> Rows:
    """Return the rows of edge.scoring for each counter and for the model, by name."""
    found = {name: score(scored(recordings, detector))["datasets"] for name, detector in counters().items()}
    return found | {SHIPPED: score(_model(recordings, classifier))["datasets"]}


def _model(recordings: Sequence[Sample], classifier: StepClassifier) -> Iterator[ScoredRecording]:
    with Progress("the shipped model", len(recordings)) as progress:
        for sample in recordings:
            replay = Replay(sample.path, load(sample.path), classifier, progress=False)
            steps_s = [event_json(sample.path, 0, event)["time_s"] for event in replay.events()]
            yield scored_recording(sample.labels, steps_s)
            progress.advance(1)


def table(found: Rows) -> list[list[str]]:
    """Return lines of cells, the first the heading: F1 at 0.25 s / F1 at 0.10 s / MAPE, and false steps per hour."""
    lines = [["counter", *WALKS.values(), *RESTS.values()]]
    for name, each in found.items():
        by_set = {row["dataset"]: row for row in each}
        walks = [_walk(by_set[dataset]) if dataset in by_set else "–" for dataset in WALKS]
        rests = [f"{by_set[d]['false_steps_per_hour']:.0f}" if d in by_set else "–" for d in RESTS]
        lines.append([name, *walks, *rests])
    return lines


def _walk(row: dict[str, Any]) -> str:
    return f"{100 * row['f1_250ms']:.1f} / {100 * row['f1_100ms']:.1f} / {row['count_mape_percent']:.1f}"


def text(lines: list[list[str]]) -> str:
    """Return the table for a terminal."""
    plain = [[cell.replace("*", "") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in plain) for i in range(len(plain[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in plain
    )


def page(lines: list[list[str]], comparison: dict[str, str], classifier: StepClassifier) -> str:
    """Return docs/baselines.md: page.md with its gaps filled."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
    model = f"`{classifier.path.name}` {classifier.manifest.version}, sha256 `{classifier.sha256[:12]}`"
    parts = {"table": grid, "command": COMMAND, "model": model, "parameters": FILE.relative_to(ROOT).as_posix()}
    text = Path(__file__).with_name("page.md").read_text(encoding="utf-8")
    for key, value in (parts | comparison).items():
        text = text.replace(f"<<{key}>>", value)
    return text


def comparison(found: Rows, everybody: Rows) -> dict[str, str]:
    """Return our side of the table of earlier measurements; everybody: rows of awinda and WISDM, all people."""
    parts = {}
    for key, name in COMPARED.items():
        test, whole = ({row["dataset"]: row for row in each[name]} for each in (found, everybody))
        hand = whole["awinda_hand"]
        parts[f"hand-{key}"] = f"{100 * hand['f1_250ms']:.1f} / {100 * hand['f1_100ms']:.1f}"
        parts[f"phone-{key}"] = f"{100 * test['oxford_val']['f1_250ms']:.1f}"
        parts[f"rest-{key}"] = " / ".join(f"{test[dataset]['false_steps_per_hour']:.0f}" for dataset in RESTS)
        parts[f"wisdm-{key}"] = " / ".join(f"{whole[d]['false_steps_per_hour']:.0f}" for d in WISDM)
    return parts


def main() -> int:
    """Print the table and write the page; returns 0, or 2 when there is nothing to compare on."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("recordings", type=Path, help="the folder of the public recordings")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: the shipped model")
    parser.add_argument("--output", type=Path, default=PAGE, help="default: docs/baselines.md")
    arguments = parser.parse_args()
    try:
        classifier = StepClassifier(arguments.model)
        found = rows(samples(arguments.recordings, is_test), classifier)
        people = samples(arguments.recordings, lambda dataset, _: dataset in {"awinda_hand", *WISDM})
    except FootfallError as error:
        print(f"baselines: {error}", file=sys.stderr)
        return 2
    everybody = {name: score(scored(people, detector))["datasets"] for name, detector in counters().items()}
    lines = table(found)
    arguments.output.write_text(page(lines, comparison(found, everybody), classifier), encoding="utf-8")
    print(text(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
